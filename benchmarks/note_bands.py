"""Where in the spectrum generated notes differ from rendered ones of the same condition: level by instrument and band.

    python benchmarks/note_bands.py [--model notes] [--num 400] [--steps 1] [--picture notes.png]

Of each pair the mean power of the first 0.4 s in four bands is compared; the figures are medians over an instrument's
pairs, in decibels of the made note over the rendered one. ``start`` is the first sample over the peak of the made
note, 95th percentile: a rendered note begins in silence. ``--picture`` shows pairs, rendered and made.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import unistep
from unistep.core.condition import LabelField
from unistep.data import data_config, prepare
from unistep.evaluation.hardware import hardware

SECONDS = 0.4
"""How much of a note is compared; its release is at a random time after that."""
FRAME = 512
"""Samples of a frame."""
FLOOR = 1e-9
"""Power under which a band is silent."""


def band_levels(sound: Tensor, rate: int, edges: list[float]) -> Tensor:
    """Decibels ``[b, bands]`` of waveforms ``[b, n]``."""
    frames = sound[:, : round(SECONDS * rate)].unfold(1, FRAME, FRAME // 2).double()
    window = torch.hann_window(FRAME, dtype=frames.dtype)
    power = (torch.fft.rfft(frames * window).abs() * (2 / window.sum())).square().mean(dim=1)
    frequency = torch.fft.rfftfreq(FRAME, 1 / rate)
    bands = [power[:, (frequency >= low) & (frequency < high)].sum(dim=1) for low, high in itertools.pairwise(edges)]
    return 10 * (torch.stack(bands, dim=1) + FLOOR).log10()


def main() -> None:
    """Make, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="notes")
    parser.add_argument("--num", type=int, default=400, help="pairs")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--picture", type=Path, help="waveforms and spectrograms of one pair each of five instruments")
    args = parser.parse_args()
    generator = unistep.load(args.model, precision="auto")
    modality: Any = generator.modality
    real = prepare(
        data_config("notes:test", seconds=modality.seconds, sample_rate=modality.sample_rate, loudness="keep")
    )
    chosen = [i * len(real) // args.num for i in range(args.num)]
    given: dict[str, Any] = {name: real.condition[name][chosen].tolist() for name in generator.config.fields}
    for name, field in generator.config.fields.items():
        if isinstance(field, LabelField):
            given[name] = [field.written[value] for value in given[name]]
    made = generator.sample(args.num, steps=args.steps, **given)[:, 0]
    true = torch.from_numpy(real.values[chosen, 0].copy()).float() / 32_768
    if args.picture:
        numbers = torch.from_numpy(real.condition["instrument"][chosen])
        shown = [int((numbers == number).nonzero().flatten().median()) for number in numbers.unique()[:5]]
        steps = args.steps or generator.config.steps
        rows = [("rendered", true[shown, None]), (f"made in {steps} step{'s' * (steps > 1)}", made[shown, None])]
        modality.contact_sheet(rows).save(args.picture)
    edges = [0.0, 2e3, 4e3, 6e3, 8e3]
    apart = band_levels(made, modality.sample_rate, edges) - band_levels(true, modality.sample_rate, edges)
    start = made[:, 0].abs() / made.abs().amax(dim=1)
    instruments = generator.config.fields["instrument"]
    assert isinstance(instruments, LabelField)
    print(f"{'dB over the rendered':22}{'0-2 kHz':>9}{'2-4':>9}{'4-6':>9}{'6-8':>9}{'start':>9}")
    for number, name in enumerate(instruments.names):
        own = torch.from_numpy(real.condition["instrument"][chosen] == number)
        cells = "".join(f"{float(value):9.1f}" for value in apart[own].median(dim=0).values)
        print(f"{name:22}{cells}{float(start[own].quantile(0.95)):9.3f}")
    print(f"{hardware()}, {generator.precision}; PyTorch {torch.__version__}; {args.num} pairs")


if __name__ == "__main__":
    main()
