"""Quality for a minute of training against the patch, the width and the depth of a network, on images of a folder.

    python benchmarks/networks.py --data folder:emoji/train --held-out folder:emoji/held --size 64 --seconds 120

Each network is trained as a denoiser, from fresh weights, by the recipe `denoising`, for the same time of one processor
core. It is measured by the loss on held-out images with the same noise for all, weighted as in training (Karras et al.
2022, arXiv 2206.00364, appendix B.6): 1 is a network that gives zero, and the mean over noise levels from 0.05 to 20 is
printed with that of the lower and of the higher half of them. Processor time is counted, so that other work on the
machine does not matter.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from race import race

from unistep.core.seeding import randn_like
from unistep.data import data_config, prepare
from unistep.evaluation.hardware import hardware
from unistep.generation.generator import Generator
from unistep.nets.config import NetworkConfig
from unistep.nets.dit_config import DiTConfig
from unistep.nets.unet_config import UNetConfig
from unistep.optimizers import AdamConfig
from unistep.precision import autocast
from unistep.recipes.consistency_methods import denoising

LEVELS = (0.05, 0.15, 0.5, 1.5, 5.0, 20.0)
"""Noise levels of the loss."""
HELD_OUT = 128
"""Images that it is averaged over."""


def unet(patch: int, *widths: int, blocks: tuple[int, ...], fine: int = 0) -> UNetConfig:
    """A U-Net with the gated skip of the images' own, and two blocks of ``fine`` channels at full resolution."""
    return UNetConfig(patch=patch, widths=widths, blocks=blocks, gated_skip=True, fine_width=fine)


def dit(patch: int, width: int, depth: int, **options: Any) -> DiTConfig:
    """A transformer with the gated skip."""
    return DiTConfig(patch=patch, width=width, depth=depth, gated_skip=True, **options)


NETWORKS: dict[str, NetworkConfig] = {
    "unet patch 8, 96 192": unet(8, 96, 192, blocks=(1, 2)),
    "unet patch 4, 64 128": unet(4, 64, 128, blocks=(1, 2)),
    "unet patch 4, 96 192": unet(4, 96, 192, blocks=(1, 2)),
    "unet patch 8, 96 192, fine 32": unet(8, 96, 192, blocks=(1, 2), fine=32),
    "unet patch 4, 64 128, fine 24": unet(4, 64, 128, blocks=(1, 2), fine=24),
    "unet patch 4, 96 192, fine 32": unet(4, 96, 192, blocks=(1, 2), fine=32),
    "unet patch 1, 24 48 96 192": unet(1, 24, 48, 96, 192, blocks=(1, 1, 1, 2)),
    "unet patch 2, 48 128 192": unet(2, 48, 128, 192, blocks=(1, 1, 2)),
    "dit patch 8, 256 x 6": dit(8, 256, 6),
    "dit patch 8, 384 x 8": dit(8, 384, 8),
    "dit patch 4, 192 x 6": dit(4, 192, 6),
    "dit patch 4, 192 x 6, both": dit(4, 192, 6, positions="both"),
}
"""What is compared, by name."""
ADAM = ", adam"
"""After a name: with AdamW in place of the recipe's Muon, whose cost grows with the width cubed."""


@torch.no_grad()
def held_out_loss(generator: Generator, x0: torch.Tensor) -> dict[str, float]:
    """The loss of a denoiser at each of the levels, and its mean."""
    sigma_data, found = generator.map.sigma_data, []
    for sigma in LEVELS:
        noise = randn_like(x0, torch.Generator().manual_seed(0))
        errors = []
        for part, z in zip(x0.split(32), noise.split(32), strict=True):
            t = generator.map.path.time_at(torch.full((len(part),), sigma))
            with autocast(generator.precision, generator.device):
                errors.append((generator.map(part + sigma * z, t) - part).square().mean())
        found.append(float(torch.stack(errors).mean()) * (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2)
    low, high = found[: len(found) // 2], found[len(found) // 2 :]
    parts = {"loss": found, "low": low, "high": high}
    return {name: round(sum(values) / len(values), 4) for name, values in parts.items()}


def main() -> None:
    """Train each in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", help="names, each also with ', adam'; all without")
    parser.add_argument("--data", required=True)
    parser.add_argument("--held-out", required=True)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    names = args.networks or list(NETWORKS)
    unknown = {name.removesuffix(ADAM) for name in names} - set(NETWORKS)
    if unknown:
        parser.error(f"no such network: {', '.join(sorted(unknown))}; one of {', '.join(NETWORKS)}")
    torch.set_num_threads(1)
    data = data_config(args.data, size=args.size, channels=3)
    held = prepare(data_config(args.held_out, size=args.size, channels=3), progress=False)
    stored, _ = held.batch(range(min(HELD_OUT, len(held))), None)
    x0 = held.modality.to_signal(stored)
    rows: list[dict[str, Any]] = []
    for name in names:
        config = denoising().run("networks", data, held.modality, NETWORKS[name.removesuffix(ADAM)])
        config = replace(config, emas=config.emas[-1:], batch_size=args.batch_size)
        if name.endswith(ADAM):
            config = replace(config, optimizer=AdamConfig(lr=1e-3))
        row = race(
            name,
            config,
            teacher=None,
            seconds=args.seconds,
            num=0,
            points=(0.5, 1.0),
            measured=lambda generator: held_out_loss(generator, x0),
        )
        rows.append(row)
    print(f"{hardware(torch.device('cpu'))}; {args.data}, {args.seconds:g} s a network, batch {args.batch_size}")
    print(f"{'network':<31}{'images/s':>9}{'half':>8}{'loss':>8}{'low':>8}{'high':>8}")
    for row in rows:
        half, last = row["curve"]
        values = "".join(f"{value:8.4f}" for value in (half["loss"], last["loss"], last["low"], last["high"]))
        print(f"{row['variant']:<31}{row['images_per_second']:>9}{values}")
    if args.json:
        args.json.write_text(json.dumps({"hardware": hardware(torch.device("cpu")), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
