"""Train the feature network of notes: a classifier of instrument and pitch whose penultimate layer serves as features.

Run ``python benchmarks/train_note_features.py --out DIR``; ``--features DIR`` of ``unistep evaluate`` takes it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from feature_training import ClassifierRecipe, command, fit_classifier, timed
from jaxtyping import Float, Int
from torch import Tensor

from unistep.core.condition import LabelField
from unistep.evaluation.note_features import NoteFeatures
from unistep.evaluation.reference import signals
from unistep.evaluation.saved_features import save_features
from unistep.modalities.audio import AudioModality

if TYPE_CHECKING:
    from unistep.data import Dataset


@dataclass(frozen=True, kw_only=True)
class NoteRecipe(ClassifierRecipe):
    """How the network is built and trained."""

    channels: tuple[int, ...] = (16, 32, 64)
    """Width of each stage; each halves the resolution."""
    dim: int = 64
    """Number of features."""
    epochs: int = 8
    """Passes over the training notes."""
    batch_size: int = 64
    """Notes per step."""
    shift: float = 0.02
    """Notes begin later or earlier by up to so many seconds, chosen anew each time."""
    noise: tuple[float, float] = (-70.0, -30.0)
    """Level of the noise that is added, in decibels of full scale, chosen anew each time."""


DEFAULT_RECIPE = NoteRecipe()
"""That of the shipped network."""


def fit(notes: Dataset, recipe: NoteRecipe) -> NoteFeatures:
    """Train on notes that are labelled with instrument and pitch.

    Raises:
        ValueError: If they are not, or are fewer than one batch.
    """
    instruments, pitches = _fields(notes)
    rate = AudioModality.expect(notes.modality, "note features").sample_rate

    def build() -> NoteFeatures:
        return NoteFeatures(
            sample_rate=rate,
            samples=notes.shape[1],
            channels=recipe.channels,
            dim=recipe.dim,
            instruments=instruments.names,
            lowest=pitches.first,
            pitches=pitches.size,
        )

    def loss(network: NoteFeatures, index: Int[np.ndarray, " b"], generator: torch.Generator) -> Tensor:
        scores = network.logits(_augmented(signals(notes, index.tolist()), rate, recipe, generator))
        instrument, pitch = (torch.from_numpy(notes.condition[name][index]) for name in ("instrument", "pitch"))
        cross_entropy = torch.nn.functional.cross_entropy
        return cross_entropy(scores[0], instrument) + cross_entropy(scores[1], pitch)

    return fit_classifier(build, loss, len(notes), recipe).eval()


def _fields(notes: Dataset) -> tuple[LabelField, LabelField]:
    found = notes.fields.get("instrument"), notes.fields.get("pitch")
    if not all(isinstance(field, LabelField) for field in found):
        raise ValueError(f"this network is trained on sounds with instrument and pitch, and {notes.source} lacks them")
    return found  # type: ignore[return-value]


def _augmented(
    x: Float[Tensor, "b c n"], rate: int, recipe: NoteRecipe, generator: torch.Generator
) -> Float[Tensor, "b c n"]:
    """The notes a little earlier or later, each in noise of some level."""
    longest = round(recipe.shift * rate)
    shifts = torch.randint(-longest, longest + 1, (len(x),), generator=generator).tolist()
    x = torch.stack([_shifted(sound, by) for sound, by in zip(x, shifts, strict=True)])
    low, high = recipe.noise
    level = low + (high - low) * torch.rand(len(x), 1, 1, generator=generator)
    return x + 10 ** (level / 20) * torch.randn(x.shape, generator=generator)


def _shifted(sound: Float[Tensor, "c n"], by: int) -> Float[Tensor, "c n"]:
    """The sound later (or, with a negative number, earlier), with silence where it was."""
    return torch.nn.functional.pad(sound, (by, -by))


@torch.no_grad()
def accuracies(network: NoteFeatures, notes: Dataset) -> tuple[float, float]:
    """Shares of notes whose instrument and whose pitch the network names rightly."""
    right = torch.zeros(2)
    for i in range(0, len(notes), 250):
        scores = network.logits(signals(notes, range(i, min(i + 250, len(notes)))))
        for j, (score, name) in enumerate(zip(scores, ("instrument", "pitch"), strict=True)):
            right[j] += (score.argmax(1).numpy() == notes.condition[name][i : i + 250]).sum()
    instrument, pitch = (right / len(notes)).tolist()
    return instrument, pitch


_CARD = """# Feature network `{name}`, version {version}

A small convolutional classifier of instrument and pitch, on levels of bands half a semitone apart. Unistep
computes Fréchet distance, KID, precision and recall of notes on its penultimate layer, {dim} numbers for each note.
Compare such figures with each other and with nothing else, Fréchet audio distances least of all.

| | |
|---|---|
| data | `{data}`, {train_notes:,} training notes (fingerprint `{fingerprint}`); {licence} |
| test accuracy | instrument {instrument_accuracy:.2%}, pitch {pitch_accuracy:.2%} on {test_notes:,} notes of other \
velocities, held for other times, with the half-precision weights that are shipped |
| architecture | {parameters:,} parameters: {stages} stages of two 3x3 convolutions, widths {widths}; \
one linear layer to {dim} |
| recipe | {epochs} epochs, batch {batch_size}, AdamW {learning_rate:g} one-cycle, weight decay {weight_decay:g}, \
shifts up to {shift:g} s, noise from {quiet:g} to {loud:g} dB, seed {seed} |
| time | {cpu_seconds:.0f} s of CPU, {seconds:.0f} s elapsed |
| hardware | {hardware}; PyTorch {torch} |

Made with `python benchmarks/train_note_features.py --data {data} --out DIR`.
"""


def train_note_features(
    data: str = "notes",
    out: Path = Path("features"),
    *,
    name: str = "notes",
    version: str = "1",
    recipe: NoteRecipe = DEFAULT_RECIPE,
    seconds: float = 1.0,
) -> dict[str, object]:
    """Train on the training notes of ``data``, measure on its test notes, and save the network.

    Args:
        data: A source of :mod:`unistep.data` that has parts, instruments and pitches.
        out: Directory to write.
        name: Name of the network.
        version: Its version.
        recipe: How to build and train it; about three minutes of one core as it stands.
        seconds: Length of each note.

    Returns:
        What was recorded: accuracies, recipe, hardware, time.

    Raises:
        ValueError: If the data has no instruments or pitches.
    """
    from unistep.data import data_config, prepare

    train, test = (prepare(data_config(data, split=split, seconds=seconds)) for split in ("train", "test"))
    network, cost = timed(lambda: fit(train, recipe))
    instrument, pitch = accuracies(network, test)
    facts: dict[str, object] = {
        "data": data,
        "fingerprint": train.fingerprint,
        "licence": train.licence,
        "train_notes": len(train),
        "test_notes": len(test),
        "instrument_accuracy": instrument,
        "pitch_accuracy": pitch,
        "recipe": asdict(recipe),
        **cost,
    }
    known = asdict(recipe) | facts
    widths, (quiet, loud) = ", ".join(map(str, recipe.channels)), recipe.noise
    card = _CARD.format(
        name=name, version=version, widths=widths, stages=len(recipe.channels), quiet=quiet, loud=loud, **known
    )
    save_features(network, out, name=name, version=version, facts=facts, card=card)
    return facts


if __name__ == "__main__":
    command(train_note_features)
