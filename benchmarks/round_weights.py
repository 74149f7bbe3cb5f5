"""Round a one-step model's weights, and train what is not rounded until its samples are those before rounding.

    python benchmarks/round_weights.py MODEL --bits 8 --out rounded [--data SOURCE]

Matrices and kernels are stored in a few bits, vectors (biases, norms and the like) in half precision. What rounding
errors add up to in each channel, a vector can take back: after rounding, the vectors alone are trained towards the
outputs of the network before, from noise at the largest time and from noised samples at the later sampling times. The
model of a stream makes a chunk in one step, after pasts from the data that it was trained on, or from ``--data``. It
prints the mean squared difference of both at each of these times as it falls. Bias correction after rounding is due to
Nagel et al. 2019, arXiv 1906.04721, section 4.2; here gradients do it.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from unistep.cli.console import make_console
from unistep.core.condition import Value
from unistep.data import prepare
from unistep.data.remembered import DATA, data_like
from unistep.generation.generator import Generator
from unistep.generation.requests import completed
from unistep.hub import save
from unistep.hub.load import load
from unistep.training.examples import Examples

SEED = 2_000_000
"""First seed of the conditions: none that samples for figures have."""
RATE = 2e-4
"""Of Adam, at the beginning; it falls to nothing."""
WARMUP = 10


def rounded(model: Generator, bits: int) -> Generator:
    """The model as it is read again from so many bits a value."""
    with tempfile.TemporaryDirectory() as folder:
        save(model.config, model.map.net.state_dict(), Path(folder) / "rounded", "# Rounded\n", bits=bits)
        return load(Path(folder) / "rounded")


def differences(
    exact: Generator, other: Generator, times: tuple[float, ...], condition: dict[str, Value], random: torch.Generator
) -> list[Tensor]:
    """Mean squared differences of the two models' clean estimates, at the first time from noise alone."""
    count = len(next(iter(condition.values()))) if condition else 64
    found, clean = [], torch.zeros(count, *exact.codec.shape)
    for number, time in enumerate(times):
        noise = torch.randn(clean.shape, generator=random)
        alpha, sigma = (float(f(torch.tensor(time))) for f in (exact.map.path.alpha, exact.map.path.sigma))
        x, t = alpha * clean + sigma * noise, torch.full((count,), time)
        with torch.no_grad():
            wanted = exact.map(x, t, None, condition)
        found.append((other.map(x, t, None, condition) - wanted).square().mean())
        clean = wanted if number == 0 else clean
    return found


def pasts(model: Generator, source: str | None) -> Callable[[int, torch.Generator], dict[str, Value]]:
    """``draw(count, random)``: conditions of chunks of a stream's data, with the past as streams show it."""
    config = model.config
    data = prepare(data_like(config.provenance, model.modality, source or config.provenance[DATA]))
    examples = Examples(data.modality, model.codec, config.context, model.map.sigma_data, as_in_streams=True)

    def draw(count: int, random: torch.Generator) -> dict[str, Value]:
        stored, condition = data.batch(torch.randint(len(data), (count,), generator=random).tolist())
        return dict(examples(stored, condition, torch.device("cpu"), random)[1])

    return draw


def main() -> None:
    """Round, train, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--bits", type=int, default=8)
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--batch-size", type=int, default=96)
    parser.add_argument("--data", help="where the pasts of a stream come from, if not from what it was trained on")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    exact = load(args.model)
    if exact.kind != "consistency":
        parser.error(f"{args.model} is a {exact.kind}; give a consistency model")
    draw = None if exact.config.context is None else pasts(exact, args.data)
    other = rounded(exact, args.bits)
    later = exact.config.times.get("2", ()) if draw is None else ()
    times = tuple(later) or (float(exact.map.path.t_max),)
    vectors = [value for value in other.map.net.parameters() if value.ndim <= 1]
    for value in other.map.net.parameters():
        value.requires_grad_(value.ndim <= 1)
    optimizer, random = torch.optim.Adam(vectors, lr=RATE, betas=(0.9, 0.99)), torch.Generator().manual_seed(0)
    console, scale = make_console(), None
    for step in range(args.steps):
        seeds = range(SEED + step * args.batch_size, SEED + (step + 1) * args.batch_size)
        condition = completed(exact.config.fields, {}, seeds) if draw is None else draw(args.batch_size, random)
        found = differences(exact, other, times, condition, random)
        scale = scale or [each.item() for each in found]  # each time counts the same
        loss = sum(each / max(first, 1e-12) for each, first in zip(found, scale, strict=True))
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / WARMUP) * (1 - step / args.steps)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[union-attr]
        optimizer.step()
        if step % 10 == 0 or step == args.steps - 1:
            console.print(step, *(f"{each.item():.2e}" for each in found))
    note = {"weights": f"{args.model} in {args.bits} bits, its vectors trained after rounding"}
    config = replace(exact.config, provenance=exact.config.provenance | note)
    save(config, other.map.net.state_dict(), args.out, f"# {args.model} in {args.bits} bits\n", bits=args.bits)


if __name__ == "__main__":
    main()
