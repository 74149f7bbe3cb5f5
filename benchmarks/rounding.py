"""How much of a consistency gradient is left when the network runs in bfloat16, by the width of the gap.

    python benchmarks/rounding.py --student fashion --teacher fashion-teacher --gaps 4 16 64 256

For each gap (the closer time is ``1 - 1/gap`` of the further one) it prints the cosine of the gradients in bfloat16
and in float32 on the same batch, their norms, and for comparison the cosine of two float32 gradients on different
batches.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import torch
from torch import Tensor

from unistep.core.timesteps import RatioCurriculum
from unistep.data import prepare
from unistep.evaluation.hardware import hardware
from unistep.hub.load import load
from unistep.objectives.base import Objective
from unistep.precision import Precision, autocast
from unistep.recipes.shipped_fashion import ect


def gradient(objective: Objective, x0: Tensor, label: Tensor, precision: Precision) -> Tensor:
    """The gradient of the mean loss of a batch, in one row; the same noise and times each time."""
    objective.zero_grad()
    with autocast(precision, x0.device):
        loss = objective(x0, {"label": label}, generator=torch.Generator().manual_seed(0), progress=0.5)
    loss.per_example.mean().backward()
    return torch.cat([p.grad.flatten() for p in objective.student.parameters() if p.grad is not None])


def main() -> None:
    """Print a row of a table for each gap."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", default="fashion", help="one-step model folder or zoo name")
    parser.add_argument("--teacher", default="fashion-teacher")
    parser.add_argument("--gaps", type=float, nargs="+", default=[4.0, 16.0, 64.0, 256.0])
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    recipe = ect()
    student, teacher, data = load(options.student), load(options.teacher), prepare(recipe.data, progress=False)
    assert data.labels is not None
    n = options.batch_size
    x0 = student.modality.to_signal(torch.from_numpy(data.values[: 2 * n].copy())).split(n)
    label = torch.from_numpy(data.labels[: 2 * n].copy()).split(n)
    print(f"{hardware('cpu')}, {options.threads} threads; {options.student}, batch {n}")
    print("| gap | cosine of bf16 and fp32 | norm in bf16 / fp32 | cosine of two batches |")
    print("|---:|---:|---:|---:|")
    for gap in options.gaps:
        config = replace(recipe.objective, curriculum=RatioCurriculum(q=gap, stages=1))
        objective = config.build(student.map.train(), teacher.map)
        student.map.requires_grad_(True)
        exact, other = (gradient(objective, x0[i], label[i], "fp32") for i in (0, 1))
        rounded = gradient(objective, x0[0], label[0], "bf16")
        ratio = float(rounded.norm() / exact.norm())
        rounding, chance = (float(torch.cosine_similarity(exact, g, dim=0)) for g in (rounded, other))
        print(f"| 1/{gap:g} | {rounding:.3f} | {ratio:.2f} | {chance:.3f} |", flush=True)


if __name__ == "__main__":
    main()
