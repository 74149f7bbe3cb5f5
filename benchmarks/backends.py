"""What runs a network fastest, and what `sample` adds to it.

    python benchmarks/backends.py [--models fashion emoji] [--backends eager onnxruntime] [--threads 1] [--json FILE]

For each model, backend and precision, calls in turn so that other work on the machine slows all of them alike:

- the map, called with what a sample of one item calls it with: milliseconds at batch 1, and at ``--batch``;
- ``sample(1)``: milliseconds, of a streaming model for each chunk, and by how much it exceeds the map: drawing noise
  and condition, decoding, and everything else that is not the network;
- decoding alone, which is part of that;
- the largest relative error of a network call against eager float32.

Times are those that one call in ten beats: what else the machine does makes calls slower and never faster.
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
    decode_ms: float
    map_batch_ms: float
    error: float

    @property
    def adds(self) -> float:
        """Share of the map's time that a sample takes more."""
        return self.sample_ms / self.map_ms - 1


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
    """Milliseconds of each of several calls that take turns, those that one call in ten beats."""
    times: list[list[float]] = [[] for _ in calls]
    for number in range(rounds + 2):
        for call, kept in zip(calls, times, strict=True):
            begin = time.perf_counter()
            call()
            if number >= 2:
                kept.append(1e3 * (time.perf_counter() - begin))
    return [sorted(kept)[len(kept) // 10] for kept in times]


def measure(name: str, backend: str, precision: str, batch: int, rounds: int) -> Row:
    """Figures of one way."""
    generator = unistep.load(name)
    found = generator.accelerate(backend, precision)
    encoded = torch.randn(1, *generator.shape)
    chunks = generator.chunks
    one, sample, decode = in_turn(
        [map_call(generator, 1), lambda: generator.sample(1), lambda: generator.codec.decode(encoded)], rounds
    )
    many = in_turn([map_call(generator, batch)], max(2, rounds // 10))[0]
    return Row(
        model=name,
        backend=backend,
        precision=precision,
        map_ms=one,
        sample_ms=sample / chunks,
        decode_ms=decode,
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
    title = f"{'model':<10} {'backend':<12} {'':<5} {'map':>8} {'sample':>8} {'adds':>6} {'decode':>7}"
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
                    f"{name:<10} {backend:<12} {precision:<5} {row.map_ms:8.2f} {row.sample_ms:8.2f} {row.adds:6.1%} "
                    f"{row.decode_ms:7.2f} {row.map_batch_ms:9.1f} {row.error:7.1e}",
                    flush=True,
                )
    if options.json is not None:
        report = {"hardware": where, "torch": torch.__version__, "batch": options.batch, "rows": rows}
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
