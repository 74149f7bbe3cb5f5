"""Networks for videos: parameters, time of a clip or a frame, and training, in one run on one thread.

    python benchmarks/video_networks.py --rounds 12

Times are the least of so many rounds, batch 1, with random weights; training is forward and backward in bfloat16, the
better of two batches.
"""

from __future__ import annotations

import argparse
import time

import torch

from unistep.core.condition import Action, Signal, SignalField, VectorField
from unistep.evaluation.hardware import hardware
from unistep.nets.config import NetworkConfig
from unistep.nets.dit_config import DiTConfig
from unistep.nets.space_time_config import SpaceTimeUNetConfig
from unistep.nets.unet_config import UNetConfig

CLIP, FRAME = (1, 16, 32, 32), (3, 64, 64)
"""A clip at once, and a frame that follows four others."""
TIME = dict(gated_skip=True, head_dim=32, blocks=(1, 2))
CLIPS: dict[str, NetworkConfig] = {
    "U-Net in 3-D, patch 2, widths 32 64": UNetConfig(dims=3, patch=2, widths=(32, 64), **TIME),
    "U-Net in 3-D, patch 2, widths 48 96": UNetConfig(dims=3, patch=2, widths=(48, 96), **TIME),
    "U-Net in 3-D, patch 2, widths 64 128": UNetConfig(dims=3, patch=2, widths=(64, 128), **TIME),
    "space-time, patch 2, widths 64 128": SpaceTimeUNetConfig(patch=2, widths=(64, 128), **TIME),
    "the same, causal": SpaceTimeUNetConfig(patch=2, widths=(64, 128), causal=True, **TIME),
    "the same, halved in time": SpaceTimeUNetConfig(patch=2, widths=(64, 128), halve_time=True, **TIME),
    "space-time, attention over time at the coarse level alone": SpaceTimeUNetConfig(
        patch=2, widths=(64, 128), time_attention=(1,), **TIME
    ),
    "space-time, patch 4, widths 96 128": SpaceTimeUNetConfig(patch=4, widths=(96, 128), **TIME),
    "DiT, patch 4, width 256, depth 6": DiTConfig(dims=3, patch=4, width=256, depth=6),
}
FRAMES: dict[str, NetworkConfig] = {
    "U-Net, patch 2, widths 32 64": UNetConfig(patch=2, widths=(32, 64), **TIME),
    "U-Net, patch 2, widths 48 96 128 (racing)": UNetConfig(
        patch=2, widths=(48, 96, 128), blocks=(1, 2, 2), gated_skip=True, head_dim=32
    ),
    "U-Net, patch 2, widths 64 128": UNetConfig(patch=2, widths=(64, 128), **TIME),
    "U-Net, patch 4, widths 96 192": UNetConfig(patch=4, widths=(96, 192), **TIME),
    "DiT, patch 8, width 256, depth 6": DiTConfig(patch=8, width=256, depth=6),
}


def measure(config: NetworkConfig, shape: tuple[int, ...], frames: int, rounds: int) -> list[float]:
    """Millions of parameters, milliseconds in float32 and bfloat16, frames and items per second."""
    net = config.build().eval()

    def inputs(batch: int) -> tuple[torch.Tensor, torch.Tensor, None, dict[str, object]]:
        condition: dict[str, object] = {}
        if frames == 1:
            condition["context"] = Signal.clean(torch.randn(batch, 12, *shape[1:]))
            condition["action"] = Action(torch.zeros(batch, 3))
        return torch.randn(batch, *shape), torch.zeros(batch), None, condition

    def least(batch: int, count: int, *, bf16: bool, train: bool) -> float:
        given, took = inputs(batch), []
        for _ in range(count):
            begun = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16), torch.inference_mode(mode=not train):
                out = net(*given)
            if train:
                out.square().mean().backward()
            took.append(time.perf_counter() - begun)
        return min(took)

    full, half = (least(1, rounds, bf16=bf16, train=False) for bf16 in (False, True))
    trained = 16 / least(16, 2, bf16=True, train=True)
    parameters = sum(p.numel() for p in net.parameters()) / 1e6
    return [parameters, 1e3 * full, 1e3 * half, frames / half, trained]


def main() -> None:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=12)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{hardware('cpu')}; PyTorch {torch.__version__}\n")
    fields = {"context": SignalField(shape=(12, *FRAME[1:])), "action": VectorField(size=3)}
    for title, shape, configs in (("16 frames of 32 pixels", CLIP, CLIPS), ("next frame, 64 pixels", FRAME, FRAMES)):
        frames = shape[1] if len(shape) == 4 else 1
        print(
            f"| {title} | parameters, M | fp32, ms | bf16, ms | frames/s | trains, items/s |\n"
            "|---|---:|---:|---:|---:|---:|"
        )
        for name, config in configs.items():
            fitted = config.fitted(shape, fields if frames == 1 else {})
            parameters, full, half, rate, trained = measure(fitted, shape, frames, options.rounds)
            print(f"| {name} | {parameters:.1f} | {full:.1f} | {half:.1f} | {rate:.0f} | {trained:.1f} |", flush=True)
        print()


if __name__ == "__main__":
    main()
