"""How many more steps AdamW wants than Muon: the loss of a denoiser on held-out images after a number of steps.

    python benchmarks/optimizer_steps.py --data fashion-mnist:test --steps 150 300 600

Each run starts from the same fresh weights, with the recipe's warm-up and descent of the rate over its own number of
steps. Steps are counted and not seconds, so that other work on the machine does not matter; what a step costs is in
``benchmarks/step_cost.py``. The loss is that of ``benchmarks/networks.py``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from networks import HELD_OUT, held_out_loss
from rich.console import Console

from unistep import Trainer
from unistep.core.flowmap import Denoiser
from unistep.core.path import VarianceExploding
from unistep.data import DataConfig, Dataset, prepare
from unistep.evaluation.hardware import hardware
from unistep.modalities.image_options import ImageOptions
from unistep.nets.config import NetworkConfig
from unistep.nets.dit_config import DiTConfig
from unistep.objectives.denoising import DenoisingConfig
from unistep.optimizers import AdamConfig, MuonConfig

OPTIMIZERS = {
    "muon": MuonConfig(),
    "adamw": AdamConfig(lr=1e-3, betas=(0.9, 0.99)),
    "adamw, 3e-3": AdamConfig(lr=3e-3, betas=(0.9, 0.99)),
    "adamw, 3e-4": AdamConfig(lr=3e-4, betas=(0.9, 0.99)),
}
"""What is compared, by name."""


def main() -> None:
    """Train each in turn and print a line as it ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("optimizers", nargs="*", default=["muon", "adamw"])
    parser.add_argument("--data", required=True)
    parser.add_argument("--size", type=int)
    parser.add_argument("--network", choices=("unet", "dit"), default="unet")
    parser.add_argument("--steps", type=int, nargs="+", default=[300])
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = prepare(DataConfig(source=args.data, options=ImageOptions(size=args.size)), progress=False)
    modality, apart = data.modality, len(data) // HELD_OUT
    signals = modality.to_signal(data.batch(range(len(data)))[0])
    x0 = signals[::apart][:HELD_OUT]
    rest = Dataset.from_tensors(signals[torch.arange(len(signals)) % apart != 0], modality=modality)
    unet = modality.default_networks(modality.shape)[1]
    network: NetworkConfig = unet if args.network == "unet" else DiTConfig(patch=4, width=192, depth=6, gated_skip=True)
    rows = []
    print(f"{hardware(torch.device('cpu'))}; {args.data}, {modality.described}, batch {args.batch_size}, {network}")
    for steps in args.steps:
        for name in args.optimizers:
            torch.manual_seed(args.seed)
            net = network.fitted(modality.shape, {}).build()
            objective = DenoisingConfig().build(Denoiser(net, VarianceExploding()), None)
            trainer = Trainer(
                objective,
                rest,
                steps=steps,
                batch_size=args.batch_size,
                optimizer=OPTIMIZERS[name],
                seed=args.seed,
                console=Console(quiet=True),
            )
            began = time.process_time()
            trainer.run()
            row = {"optimizer": name, "steps": steps, "seconds": round(time.process_time() - began)}
            rows.append(row | held_out_loss(trainer.generator(), x0))
            print(rows[-1], flush=True)
    if args.json:
        args.json.write_text(json.dumps({"hardware": hardware(torch.device("cpu")), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
