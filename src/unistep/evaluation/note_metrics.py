"""What can be said of a note beyond its features: is it the instrument and the pitch that were asked for?"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, final

import torch
from jaxtyping import Float
from torch import Tensor

from unistep.core.condition import LabelField
from unistep.evaluation.features import FeatureNetwork
from unistep.evaluation.note_features import NoteFeatures
from unistep.evaluation.pitch import cents, note_pitch
from unistep.evaluation.reference import to_float

if TYPE_CHECKING:
    from unistep.data import Dataset

CLOSE = 50.0
"""A pitch is right within so many hundredths of a semitone."""
FLOOR = -80.0
"""Levels below this are all alike, in decibels of a sine of full scale."""
FRAME, HOP = 0.032, 0.008
"""Frames of the log-spectral distance, in seconds."""


def log_spectral_distance(a: Float[Tensor, "b n"], b: Float[Tensor, "b n"], sample_rate: int) -> Float[Tensor, " b"]:
    r"""How far the levels of two sounds lie apart, in decibels.

    .. math:: \operatorname{mean}_m \sqrt{\operatorname{mean}_k (L^a_{k,m} - L^b_{k,m})^2}, \quad
              L_{k,m} = 20 \log_{10} \max(|X_{k,m}|, 10^{-4})

    Args:
        a: Waveforms.
        b: Others of that length.
        sample_rate: Samples per second.

    References:
        Gray & Markel 1976, "Distance measures for speech processing", IEEE Transactions on Acoustics, Speech, and
        Signal Processing 24(5), section III, with a floor.
    """
    return (_levels(a, sample_rate) - _levels(b, sample_rate)).square().mean(dim=1).sqrt().mean(dim=1)


def _levels(sound: Float[Tensor, "b n"], sample_rate: int) -> Float[Tensor, "b bins frames"]:
    size, hop = 2 * round(FRAME * sample_rate / 2), round(HOP * sample_rate)
    window = torch.hann_window(size, device=sound.device)
    spectrum = torch.stft(sound, size, hop, window=window, pad_mode="constant", return_complex=True)
    return 20 * (spectrum.abs() * (2 / window.sum())).clamp_min(10 ** (FLOOR / 20)).log10()


@final
class NoteMetrics:
    """Metrics of generated notes that have the conditions of held-out notes.

    Args:
        notes: The held-out notes, with instrument and pitch.
        features: The feature network; where it hears instruments and pitches, it is asked for them.
        num: Number of samples.
        seed: Chooses the notes; where there are fewer than samples they come again.

    Raises:
        ValueError: If the notes have no pitch.
    """

    def __init__(self, notes: Dataset, features: FeatureNetwork, num: int, seed: int) -> None:
        pitch = notes.fields.get("pitch")
        if notes.sample_rate is None or not isinstance(pitch, LabelField):
            raise ValueError(f"notes with a pitch are needed to listen to, and {notes.source} has none")
        self.notes, self.features, self._pitches = notes, features, pitch.written
        order = torch.randperm(len(notes), generator=torch.Generator().manual_seed(seed))
        self.index = torch.cat([order[:num].sort().values] * -(-num // len(notes)))[:num].tolist()
        """The held-out note of each sample."""
        self._alike: defaultdict[tuple[float, ...], list[int]] = defaultdict(list)
        for i, key in enumerate(zip(*notes.condition.values(), strict=True)):
            self._alike[tuple(map(float, key))].append(i)

    @property
    def meaning(self) -> str:
        """What a reader should know of the figures."""
        heard = "instrument and pitch as the feature network hears them, " if self.by_network else ""
        return (
            f"each sample has the condition of one of the held-out notes; {heard}tracker: the pitch within "
            f"{CLOSE:g} cents by YIN; LSD: log-spectral distance in dB to the nearest held-out note with the same "
            "condition"
        )

    @property
    def by_network(self) -> bool:
        """Whether the feature network hears the instruments that these notes have."""
        network, instruments = self.features.network, self.notes.fields.get("instrument")
        if not isinstance(network, NoteFeatures) or not isinstance(instruments, LabelField):
            return False
        return network.instrument.out_features == instruments.size  # it may have learned others than these

    @property
    def condition(self) -> dict[str, list[int | float]]:
        """Condition of each sample, as a person writes it."""
        given = {}
        for name, column in self.notes.condition.items():
            field = self.notes.fields[name]
            values = column[self.index].tolist()
            given[name] = [field.written[value] for value in values] if isinstance(field, LabelField) else values
        return given

    def listen(self, *, real: bool = False) -> NoteMetricAccumulator:
        """Start on the samples of a model, or (``real``) on the held-out notes themselves."""
        return NoteMetricAccumulator(self, real)

    def matched_references(self, sample: int, *, real: bool) -> list[int]:
        """Held-out notes with the same condition as a sample; for a held-out note the others."""
        own = self.index[sample]
        alike = self._alike[tuple(float(column[own]) for column in self.notes.condition.values())]
        return [i for i in alike if i != own] if real else alike

    def pitch(self, sample: int) -> int:
        """The pitch that a sample should have, as a MIDI number."""
        return self._pitches[int(self.notes.condition["pitch"][self.index[sample]])]


@final
class NoteMetricAccumulator:
    """Counts over one row of samples."""

    def __init__(self, metrics: NoteMetrics, real: bool) -> None:
        self._metrics, self._real, self._heard = metrics, real, 0
        self._right: dict[str, list[float]] = defaultdict(list)

    @torch.no_grad()
    def update(self, sounds: Float[Tensor, "b c n"], features: Float[Tensor, "b dim"]) -> None:
        """Take in the next samples, with their features."""
        metrics, rate = self._metrics, self._metrics.notes.sample_rate
        assert rate is not None
        samples = range(self._heard, self._heard + len(sounds))
        self._heard += len(sounds)
        mono = sounds.mean(dim=1)
        wanted = torch.tensor([float(metrics.pitch(i)) for i in samples])
        network = metrics.features.network
        if metrics.by_network and isinstance(network, NoteFeatures):
            index = [metrics.index[i] for i in samples]
            scores = network.scores(features.to(network.instrument.weight.device))
            instrument, pitch = (score.argmax(dim=1).cpu() for score in scores)
            given = torch.from_numpy(metrics.notes.condition["instrument"][index])
            self._right["instrument ↑"] += (instrument == given).tolist()
            self._right["pitch ↑"] += (pitch + network.lowest == wanted).tolist()
        self._right["tracker ↑"] += (cents(note_pitch(mono, rate), wanted).abs() <= CLOSE).tolist()
        for sound, sample in zip(mono, samples, strict=True):
            matched = metrics.matched_references(sample, real=self._real)
            if matched:
                values = to_float(metrics.notes.values[matched]).mean(dim=1)
                distance = log_spectral_distance(sound.expand_as(values), values, rate)
                self._right["LSD ↓"].append(float(distance.min()))

    def compute(self) -> dict[str, float]:
        """Shares of samples with the right instrument and pitch by the network, and pitch by the tracker; the mean
        log-spectral distance, in decibels, to the nearest held-out note with the same condition.
        """
        return {name: sum(values) / len(values) for name, values in self._right.items()}
