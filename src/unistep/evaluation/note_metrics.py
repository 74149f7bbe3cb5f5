"""Metrics of notes: whether a generated note has the instrument and the pitch of its condition."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Self, cast, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unistep.core.condition import LabelField
from unistep.evaluation.features import FeatureNetwork
from unistep.evaluation.note_features import NoteFeatures
from unistep.evaluation.pitch import cents, note_pitch
from unistep.evaluation.reference import extract
from unistep.evaluation.reference import signals as signals_of
from unistep.evaluation.sample_metrics import Applied, Group, MetricAccumulator, SampleMetrics
from unistep.modalities.audio import AudioModality

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
class NoteMetrics(SampleMetrics):
    """Whether generated notes have the instrument and the pitch of their conditions.

    The conditions are those of held-out notes, so that each sample has matched references.

    Args:
        notes: The held-out notes, with instrument and pitch.
        features: The feature network, or several; the classes of the first that classifies these instruments are used.
        num: Number of samples.
        seed: Chooses the notes; where there are fewer than samples they are repeated.

    Raises:
        ValueError: If the notes have no pitch.
    """

    def __init__(
        self, notes: Dataset, features: FeatureNetwork | Sequence[FeatureNetwork], num: int, seed: int
    ) -> None:
        pitch = notes.fields.get("pitch")
        rate = AudioModality.expect(notes.modality, "note metrics").sample_rate
        if not isinstance(pitch, LabelField):
            raise ValueError(f"note metrics need notes with a pitch, and {notes.source} has none")
        self.notes, self.sample_rate, self._pitches = notes, rate, pitch.written
        given = [features] if isinstance(features, FeatureNetwork) else features
        self.classifier = next((each for each in given if self._classifies(each.network)), None)
        order = torch.randperm(len(notes), generator=torch.Generator().manual_seed(seed))
        self.index = torch.cat([order[:num].sort().values] * -(-num // len(notes)))[:num].tolist()
        """The held-out note of each sample."""
        self._alike: defaultdict[tuple[float, ...], list[int]] = defaultdict(list)
        for i, key in enumerate(zip(*notes.condition.values(), strict=True)):
            self._alike[tuple(map(float, key))].append(i)

    @classmethod
    def applied(cls, given: Applied) -> Self | None:
        """Where held-out data are notes, and all models take all that is known of them, none of which is given."""
        known = set() if given.test is None or given.given else set(given.test.fields)
        notes = {"instrument", "pitch", "velocity"} <= known and all(known == set(fields) for fields in given.fields)
        return cls(given.test, given.features, given.num, given.seed) if notes and given.test is not None else None

    @property
    def meaning(self) -> str:
        named = ""
        if self.classifier is not None:
            named = f"instrument and pitch as the feature network {self.classifier.name} classifies them, "
        return (
            f"each sample has the conditions of one of the held-out notes; {named}tracker: the pitch within {CLOSE:g} "
            "cents by YIN; LSD: log-spectral distance in dB to the nearest held-out note with the same conditions"
        )

    def _classifies(self, network: object) -> bool:
        """Whether a network classifies the instruments that these notes have, by name; it may have learned others."""
        instruments = self.notes.fields.get("instrument")
        if not isinstance(network, NoteFeatures) or not isinstance(instruments, LabelField) or not instruments.names:
            return False
        return set(instruments.names) <= set(network.instruments)

    def instruments(self, samples: Sequence[int]) -> Int[Tensor, " b"]:
        """The instrument of the condition of each of some samples, as the classifier numbers them."""
        assert self.classifier is not None
        names = cast(LabelField, self.notes.fields["instrument"]).names
        known = cast(NoteFeatures, self.classifier.network).instruments
        given = self.notes.condition["instrument"][[self.index[i] for i in samples]].tolist()
        return torch.tensor([known.index(names[i]) for i in given])

    @property
    def condition(self) -> dict[str, list[int | float]]:
        given = {}
        for name, column in self.notes.condition.items():
            field = self.notes.fields[name]
            values = column[self.index].tolist()
            given[name] = [field.written[value] for value in values] if isinstance(field, LabelField) else values
        return given

    def accumulator(self, group: Group) -> NoteMetricAccumulator | None:
        return None if group == "noise" else NoteMetricAccumulator(self, real=group != "samples")

    def matched_references(self, sample: int, *, real: bool) -> list[int]:
        """Held-out notes with the conditions of a sample; of a held-out note the others."""
        own = self.index[sample]
        alike = self._alike[tuple(float(column[own]) for column in self.notes.condition.values())]
        return [i for i in alike if i != own] if real else alike

    def pitch(self, sample: int) -> int:
        """The pitch of a sample's condition, as a MIDI number."""
        return self._pitches[int(self.notes.condition["pitch"][self.index[sample]])]


@final
class NoteMetricAccumulator(MetricAccumulator):
    """Note metrics over one row of samples.

    Args:
        metrics: What is measured.
        real: Whether the samples are the held-out notes themselves.
    """

    def __init__(self, metrics: NoteMetrics, *, real: bool) -> None:
        self._metrics, self._real, self._seen = metrics, real, 0
        self._found: dict[str, list[float]] = defaultdict(list)

    @torch.no_grad()
    def update(self, signals: Float[Tensor, "b c n"], features: Mapping[str, Tensor]) -> None:
        metrics, rate = self._metrics, self._metrics.sample_rate
        samples = range(self._seen, self._seen + len(signals))
        self._seen += len(signals)
        mono = signals.mean(dim=1)
        wanted = torch.tensor([float(metrics.pitch(i)) for i in samples])
        if metrics.classifier is not None:
            network = cast(NoteFeatures, metrics.classifier.network)
            found = features.get(metrics.classifier.hash)
            if found is None:
                found = next(extract(metrics.classifier, [signals]))
            scores = network.scores(found.to(network.instrument.weight.device))
            instrument, pitch = (score.argmax(dim=1).cpu() for score in scores)
            self._found["instrument ↑"] += (instrument == metrics.instruments(samples)).tolist()
            self._found["pitch ↑"] += (pitch + network.lowest == wanted).tolist()
        self._found["tracker ↑"] += (cents(note_pitch(mono, rate), wanted).abs() <= CLOSE).tolist()
        for sound, sample in zip(mono, samples, strict=True):
            references = metrics.matched_references(sample, real=self._real)
            if references:
                values = signals_of(metrics.notes, references).mean(dim=1)
                distance = log_spectral_distance(sound.expand_as(values), values, rate)
                self._found["LSD ↓"].append(float(distance.min()))

    def compute(self) -> dict[str, float]:
        return {name: sum(values) / len(values) for name, values in self._found.items()}
