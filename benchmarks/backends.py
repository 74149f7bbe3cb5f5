"""What runs a network fastest, and what `sample` adds to it.

    python benchmarks/backends.py [--models fashion emoji] [--backends eager onnxruntime] [--threads 1] [--json FILE]

For each model, backend and precision, calls in turn so that other work on the machine slows all of them alike:

- the map, called with what a sample of one item calls it with: milliseconds at batch 1, and at ``--batch``;
- ``sample(1)``: milliseconds, of a streaming model for each chunk;
- what a sample adds to the map: drawing noise and condition, decoding, and everything else that is not the network. It
  is measured with a network that does nothing, in microseconds and as a share of the map's time with the real one;
- the largest relative error of a network call against eager float32.

Times are the shortest of many calls: what else the machine does makes calls slower and never faster.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import unistep
from unistep.backends.base import backends
from unistep.evaluation.hardware import hardware
from unistep.generation.generator import Generator


@dataclass(frozen=True, kw_only=True)
class Row:
    """Figures of one way to run one model."""

    model: str
    backend: str
    precision: str
    map_ms: float
    sample_ms: float
    adds_us: float
    map_batch_ms: float
    error: float

    @property
    def adds(self) -> float:
        """What a sample adds, as a share of the map's time."""
        return self.adds_us / (1000 * self.map_ms)


def map_call(generator: Generator, count: int) -> Callable[[], Any]:
    """The first call of the map that ``count`` samples make, to be made again."""
    found: list[tuple[Any, Any]] = []
    forward = generator.map.forward

    def spy(*args: Any, **options: Any) -> Any:
        found.append((args, options))
        return forward(*args, **options)

    generator.map.forward = spy  # type: ignore[method-assign]
    try:
        generator.sample(count, batch_size=count)
    finally:
        del generator.map.forward
    args, options = found[-1]  # of a stream: with a past
    return lambda: generator.map(*args, **options)


@torch.inference_mode()
def in_turn(calls: Sequence[Callable[[], Any]], rounds: int) -> list[float]:
    """Shortest milliseconds of each of several calls that take turns."""
    times: list[list[float]] = [[] for _ in calls]
    for number in range(rounds + 2):
        for call, kept in zip(calls, times, strict=True):
            begin = time.perf_counter()
            call()
            if number >= 2:
                kept.append(1e3 * (time.perf_counter() - begin))
    return [min(kept) for kept in times]


def nothing(x: torch.Tensor, t: torch.Tensor, s: torch.Tensor | None, condition: Any) -> torch.Tensor:
    """A network that does nothing."""
    return x


def measure(name: str, backend: str, precision: str, batch: int, rounds: int) -> Row:
    """Figures of one way."""
    generator = unistep.load(name)
    found = generator.accelerate(backend, precision)
    chunks = generator.chunks
    one, sample = in_turn([map_call(generator, 1), lambda: generator.sample(1)], rounds)
    many = in_turn([map_call(generator, batch)], max(2, rounds // 10))[0]
    call = map_call(generator, 1)
    generator.map.runner = nothing
    empty, all_but = in_turn([call, lambda: generator.sample(1)], 10 * rounds // chunks)
    return Row(
        model=name,
        backend=backend,
        precision=precision,
        map_ms=one,
        sample_ms=sample / chunks,
        adds_us=1e3 * (all_but / chunks - empty),
        map_batch_ms=many,
        error=found.chosen.error,
    )


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["fashion", "emoji", "notes", "racing"])
    parser.add_argument("--backends", nargs="+", default=["eager", "onnxruntime", "openvino"])
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16", "int8"])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    where = hardware("cpu")
    print(where)
    title = f"{'model':<10} {'backend':<12} {'':<5} {'map':>8} {'sample':>8} {'adds us':>8} {'share':>6}"
    print(f"{title} {f'x{options.batch}':>9}   error")
    rows = []
    for name in options.models:
        for backend in options.backends:
            for precision in backends()[backend].precisions:
                if precision not in options.precisions:
                    continue
                try:
                    row = measure(name, backend, precision, options.batch, options.rounds)
                except ValueError as error:
                    print(f"{name:<10} {backend:<12} {precision:<5} {error}")
                    continue
                rows.append({**asdict(row), "adds": row.adds})
                print(
                    f"{name:<10} {backend:<12} {precision:<5} {row.map_ms:8.2f} {row.sample_ms:8.2f} "
                    f"{row.adds_us:8.0f} {row.adds:6.1%} {row.map_batch_ms:9.1f} {row.error:7.1e}",
                    flush=True,
                )
    if options.json is not None:
        report = {"hardware": where, "torch": torch.__version__, "batch": options.batch, "rows": rows}
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
