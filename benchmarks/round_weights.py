"""Round a model's weights so that its samples stay what they are before rounding.

    python benchmarks/round_weights.py MODEL --bits 6 --out rounded [--data SOURCE]

Matrices and kernels are stored in a few bits, vectors (biases, norms and the like) in half precision. Values are
rounded by what the layers are given in sampling (``activation_rounding.py``). What errors still add up to in each
channel, a vector can take back: after rounding, the vectors of a one-step model are trained towards the outputs of the
network before, from noise at the largest time and from noised samples at the later sampling times. The model of a
stream makes a chunk in one step, after pasts from the data that it was trained on, or from ``--data``. It prints the
mean squared difference of both at each of these times as it falls. Bias correction after rounding is due to Nagel et
al. 2019, arXiv 1906.04721, section 4.2; here gradients do it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from activation_rounding import round_layers
from torch import Tensor
from weight_bits import Setting, sample

from unistep.cli.console import make_console
from unistep.core.condition import Value
from unistep.data import prepare
from unistep.data.remembered import DATA, data_like
from unistep.generation.generator import Generator
from unistep.generation.requests import completed
from unistep.hub import save
from unistep.hub.load import load
from unistep.training.examples import Examples

SEED, CALIBRATION = 2_000_000, 1_900_000
"""First seeds of the conditions and of samples that rounding looks at: none that samples for figures have."""
TEACHER = Setting(steps=10, solver="dpmpp2m")
"""How a teacher is sampled while rounding looks at it."""
RATE = 2e-4
"""Of Adam, at the beginning; it falls to nothing."""
WARMUP = 10


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


def train_vectors(
    exact: Generator, other: Generator, condition: Callable[[int], dict[str, Value]], steps: int, count: int
) -> None:
    """Train the vectors of a rounded one-step model, in place, towards the outputs of the exact one; prints errors."""
    times, random = times_of(exact), torch.Generator().manual_seed(0)
    vectors = [value for value in other.map.net.parameters() if value.ndim <= 1]
    for value in other.map.net.parameters():
        value.requires_grad_(value.ndim <= 1)
    optimizer = torch.optim.Adam(vectors, lr=RATE, betas=(0.9, 0.99))
    console, scale = make_console(), None
    for step in range(steps):
        found = differences(exact, other, times, condition(SEED + step * count), random)
        scale = scale or [each.item() for each in found]  # each time counts the same
        loss = sum(each / max(first, 1e-12) for each, first in zip(found, scale, strict=True))
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / WARMUP) * (1 - step / steps)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[union-attr]
        optimizer.step()
        if step % 10 == 0 or step == steps - 1:
            console.print(step, *(f"{each.item():.2e}" for each in found))


def times_of(model: Generator) -> tuple[float, ...]:
    """The times that a one-step model is used at: those of two steps where it names them, else the largest."""
    later = model.config.times.get("2", ()) if model.config.context is None else ()
    return tuple(later) or (float(model.map.path.t_max),)


def main() -> None:
    """Round, train, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--bits", type=int, default=6)
    parser.add_argument("--steps", type=int, default=160, help="of training the vectors of a one-step model")
    parser.add_argument("--batch-size", type=int, default=96)
    parser.add_argument("--data", help="where the pasts of a stream come from, if not from what it was trained on")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    exact, other = load(args.model), load(args.model)
    one_step, count = exact.kind == "consistency", args.batch_size
    if not one_step and exact.config.context is not None:
        parser.error(f"{args.model} is a {exact.kind} of streams; give a one-step model of them")
    random = torch.Generator().manual_seed(1)
    draw = None if exact.config.context is None else pasts(exact, args.data)

    def condition(seed: int) -> dict[str, Value]:
        seeds = range(seed, seed + count)
        return completed(exact.config.fields, {}, seeds) if draw is None else draw(count, random)

    def use() -> None:
        for batch in range(2) if one_step else ():
            given = condition(CALIBRATION + batch * count)
            differences(other, other, times_of(exact), given, random)
        if not one_step:
            sample(other, min(count, 64), TEACHER, seed=CALIBRATION)

    round_layers(other.map.net, args.bits, use)
    if one_step:
        train_vectors(exact, other, condition, args.steps, count)
    how = "rounded by what its layers are given" + (", its vectors trained after that" if one_step else "")
    provenance = exact.config.provenance | {"weights": f"{args.model} in {args.bits} bits, {how}"}
    config = replace(exact.config, provenance=provenance)
    save(config, other.map.net.state_dict(), args.out, f"# {args.model} in {args.bits} bits\n", bits=args.bits)


if __name__ == "__main__":
    main()
