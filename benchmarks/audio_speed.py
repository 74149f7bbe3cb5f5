"""How fast an instrument answers: real-time factor and latency of one note at a time.

    python benchmarks/audio_speed.py [--model notes] [--threads 1 2] [--calls 100] [--json FILE]

For each number of threads:

- first sound: from ``unistep.load`` to the first waveform, once, as a person waits who starts a program;
- latency: from the request for a note to its waveform at batch 1, median and 95th percentile;
- real-time factor: latency over the length of the note; below 1 the note is there before it has ended;
- the share of the latency that the way from spectrum to waveform takes;
- notes per second at batch 16, for those who render and do not play.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch

import unistep
from unistep.demo.music import check_instrument
from unistep.evaluation.hardware import hardware


def timed(call: object, calls: int) -> list[float]:
    """Seconds of each of several calls, sorted."""
    times = []
    for _ in range(calls):
        begin = time.perf_counter()
        call()  # type: ignore[operator]
        times.append(time.perf_counter() - begin)
    return sorted(times)


def measure(model: str, threads: int, calls: int) -> dict[str, float]:
    """Figures of one number of threads."""
    torch.set_num_threads(threads)
    begin = time.perf_counter()
    generator = unistep.load(model)
    generator.sample(1, pitch=60)
    first = time.perf_counter() - begin
    modality, _ = check_instrument(generator)
    codec = generator.codec
    one = timed(lambda: generator.sample(1, pitch=60), calls)
    spectrum = torch.randn(1, *codec.shape)
    inverse = timed(lambda: codec.decode(spectrum), calls)
    many = timed(lambda: generator.sample(16, pitch=60, batch_size=16), max(3, calls // 16))
    median = statistics.median(one)
    return {
        "threads": threads,
        "first sound, ms": 1e3 * first,
        "latency p50, ms": 1e3 * median,
        "latency p95, ms": 1e3 * one[round(0.95 * (len(one) - 1))],
        "real-time factor p50": median / modality.seconds,
        "real-time factor p95": one[round(0.95 * (len(one) - 1))] / modality.seconds,
        "spectrum to waveform / latency": statistics.median(inverse) / median,
        "notes/s at batch 16": 16 / statistics.median(many),
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="notes", help="instrument: a shipped one, or the folder of a run")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    try:
        rows = [measure(options.model, threads, options.calls) for threads in options.threads]
    except ValueError as error:
        print(f"audio_speed: error: {error}", file=sys.stderr)
        return 2
    for row in rows:
        for name, value in row.items():
            print(f"{name:32} {value:.3f}" if name != "threads" else f"threads {value}")
    facts = {"model": options.model, "hardware": hardware(), "torch": torch.__version__, "rows": rows}
    print(f"{facts['hardware']}; PyTorch {facts['torch']}")
    if options.json is not None:
        options.json.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
