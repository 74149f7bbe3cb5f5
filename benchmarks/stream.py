"""Whether a stream keeps up, and whether its chunk boundaries differ from what lies between them.

    python benchmarks/stream.py --model runs/phrases [--threads 2] [--seconds 60] [--long 3600] [--json FILE]

- first sound: from ``unistep.load`` to the first chunk, once, as when a program starts;
- in real time: deadlines missed in ``--seconds`` of playing, each chunk due when the last has been played, and the
  time per chunk, median and 95th percentile;
- at full speed: ``--long`` seconds of stream time without waiting, the real-time factor, and the process's memory after
  the first minute and at the end;
- the next chunk: log-spectral distance, in decibels, between the chunk that one call makes from a real chunk and its
  condition, and the true next one, over 128 examples of ``--data``;
- boundaries: jumps in level and in spectrum (``unistep.evaluation.chunk_boundaries``) at boundaries and elsewhere,
  median and 95th percentile, of ``--seconds`` of stream for each value of the model's first field, and of the training
  data. A ratio of 1 is a boundary that is no different from any other moment.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import unistep
from unistep.codecs.base import Codec
from unistep.core.condition import LabelField
from unistep.core.path import expand_to
from unistep.core.seeding import ItemGenerators, normal
from unistep.data import Dataset, data_config, prepare
from unistep.evaluation.chunk_boundaries import Jumps, level_jumps, spectrum_jumps
from unistep.evaluation.hardware import hardware
from unistep.evaluation.note_metrics import log_spectral_distance
from unistep.generation.generator import Generator
from unistep.generation.pacing import Deadlines
from unistep.precision import WantedPrecision, autocast

HEARD = 128
"""Real chunks that the model goes on from."""
MEASURES: dict[str, Callable[[Tensor, int, int], Jumps]] = {"level": level_jumps, "spectrum": spectrum_jumps}


def resident() -> float:
    """Memory of this process now, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def in_real_time(generator: Generator, length: float, seconds: float) -> dict[str, float]:
    """Play to nobody, but on time."""
    deadlines = Deadlines(length)
    for _ in itertools.islice(generator.stream(seed=1), round(seconds / length)):
        deadlines.made()
        deadlines.handed()
    return {
        "in real time, s": deadlines.played,
        "chunks": deadlines.chunks,
        "dropped deadlines": deadlines.dropped,
        "chunk p50, ms": 1e3 * deadlines.took(0.5),
        "chunk p95, ms": 1e3 * deadlines.took(0.95),
        "chunk longest, ms": 1e3 * deadlines.took(1.0),
        "real-time factor in real time": deadlines.factor,
    }


def at_full_speed(generator: Generator, length: float, seconds: float) -> dict[str, float]:
    """Play as fast as it goes, and watch the memory."""
    minute, begin = 0.0, time.perf_counter()
    for number, _ in enumerate(itertools.islice(generator.stream(seed=2), round(seconds / length))):
        if number == round(60 / length):
            minute = resident()
    return {
        "at full speed, s": seconds,
        "real-time factor at full speed": (time.perf_counter() - begin) / seconds,
        "memory after a minute, MiB": minute,
        "memory at the end, MiB": resident(),
        "largest memory, MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def real_sounds(generator: Generator, data: str) -> Dataset:
    """Windows of two chunks in the shape of the model."""
    modality: Any = generator.modality
    config = data_config(data, modality="audio", cut="windows", seconds=modality.seconds, channels=modality.channels)
    return prepare(replace(config, sample_rate=modality.sample_rate))


@torch.inference_mode()
def next_chunk(generator: Generator, real: Dataset) -> float:
    """Distance of one call from the true next chunk, given a real previous one."""
    modality: Any = generator.modality
    codec = generator.codec
    config, flow = generator.config, generator.map.path
    count = min(HEARD, len(real))
    chosen = [i * len(real) // count for i in range(count)]
    past, x0 = codec.split(modality.to_signal(torch.from_numpy(real.values[chosen])))
    given = {name: torch.from_numpy(real.condition[name][chosen]) for name in config.fields if name in real.condition}
    items = ItemGenerators(chosen)
    noise, t = normal(x0.shape, items), torch.full((len(x0),), flow.t_max)
    condition = config.context.in_stream(given, past, config.sigma_data, items)  # type: ignore[union-attr]
    with autocast(generator.precision, generator.device):
        x = generator.map(expand_to(flow.sigma(t), noise) * noise, t, None, condition).float()
    made, true = (codec.decode_next(spectra, codec.start(spectra))[0][:, 0] for spectra in (x, x0))
    return float(log_spectral_distance(made, true, modality.sample_rate).mean())


def boundaries(generator: Generator, data: str, real: Dataset, length: float, seconds: float) -> list[dict[str, Any]]:
    """Jumps of the stream, for each of its voices, and of real data if it has the same voices."""
    codec, context = generator.codec, generator.config.context
    assert context is not None
    name, names = next(
        ((name, spec.names or tuple(map(str, range(spec.size))))
         for name, spec in generator.config.fields.items()
         if isinstance(spec, LabelField) and name not in context.changing),
        ("", ("stream",)),
    )  # fmt: skip
    waves = torch.from_numpy(real.values[:, 0].copy()).float() / 32_768
    heard, rows = [], []
    for number, voice in enumerate(names):
        given = {name: voice} if name else {}
        chunks = itertools.islice(generator.stream(seed=3, **given), round(seconds / length))
        heard.append(torch.cat(list(chunks), dim=-1)[:1])
        rows.append(row(f"stream, {voice}", heard[-1:], codec))
        own = waves[torch.from_numpy(real.condition[name] == number)] if name in real.condition else waves[:0]
        if len(own):
            rows.append(row(f"data, {voice}", [own], codec))
    rows.append(row("stream, all", heard, codec))
    rows.append(row(f"data, {data}", [waves], codec))
    return rows


def row(name: str, sounds: list[Tensor], codec: Codec) -> dict[str, Any]:
    """Medians and 95th percentiles at boundaries and inside, with their ratios."""
    cells: dict[str, Any] = {"of": name}
    for measure, call in MEASURES.items():
        found = [call(sound, codec.config.chunk, codec.config.hop) for sound in sounds]
        jumps = Jumps(boundaries=torch.cat([j.boundaries for j in found]), inside=torch.cat([j.inside for j in found]))
        for title, share in (("p50", 0.5), ("p95", 0.95)):
            at_boundaries, inside = jumps.at(share)
            cells[f"{measure} {title}"] = (at_boundaries, inside, at_boundaries / max(inside, 1e-9))
    return cells


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of a streaming model or of its run")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--long", type=float, default=3600)
    parser.add_argument("--data", default="phrases:test", help="real sounds, of which windows are taken")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    precision: WantedPrecision = options.precision
    try:
        begin = time.perf_counter()
        generator = unistep.load(options.model, precision=precision)
        next(generator.stream())
        figures: dict[str, Any] = {"threads": options.threads, "first sound, ms": 1e3 * (time.perf_counter() - begin)}
        length = generator.config.chunk.seconds
        figures |= in_real_time(generator, length, options.seconds)
        figures |= at_full_speed(generator, length, options.long)
        real = real_sounds(generator, options.data)
        figures["next chunk, dB"] = next_chunk(generator, real)
        table = boundaries(generator, options.data, real, length, options.seconds)
    except ValueError as error:
        print(f"stream: error: {error}", file=sys.stderr)
        return 2
    for name, value in figures.items():
        print(f"{name:32} {value:.3f}" if isinstance(value, float) else f"{name:32} {value}")
    print(f"\n{'jumps in dB, boundaries / inside':32}" + "".join(f"{name:>24}" for name in list(table[0])[1:]))
    for cells in table:
        shown = [f"{a:.2f} / {b:.2f} = {ratio:.2f}" for a, b, ratio in list(cells.values())[1:]]
        print(f"{cells['of']:32}" + "".join(f"{text:>24}" for text in shown))
    facts = {"model": options.model, "hardware": hardware(), "torch": torch.__version__}
    print(f"{facts['hardware']}, {generator.precision}; PyTorch {facts['torch']}")
    if options.json is not None:
        facts |= {"figures": figures, "boundaries": table}
        options.json.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
