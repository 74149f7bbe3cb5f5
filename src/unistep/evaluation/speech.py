"""Metrics of speech: whether samples are speech, whether their voices are real ones, and whether all voices occur."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, final

import torch
from jaxtyping import Float
from torch import Tensor

from unistep.evaluation.reference import signals as signals_of
from unistep.evaluation.sample_metrics import Group, MetricAccumulator, SampleMetrics
from unistep.evaluation.speech_networks import LEAST, THRESHOLD, SpeechNetworks, check_rate, to_speech_rate
from unistep.modalities.audio import AudioModality

if TYPE_CHECKING:
    from unistep.data import Dataset

MOST = 1_000
"""Real recordings whose voices are embedded: each takes some 50 ms of one core."""

_BATCH = 50
_SEED = 0  # chooses them


@final
class SpeechMetrics(SampleMetrics):
    r"""Speech in samples, and how far their voices lie from those of real recordings.

    With the embeddings :math:`u_i` of :math:`m` samples and :math:`v_j` of :math:`n` recordings, all of length 1,

    .. math:: \text{voice} = \frac1m \sum_i \min_j (1 - u_i^\top v_j), \qquad
              \text{MMD} = \frac1n \sum_j \min_i (1 - u_i^\top v_j)

    A voice like none of the real ones makes the first large; a real voice that no sample has makes the second, the
    minimum matching distance, large. Where recordings are compared with themselves, none is its own nearest.

    There is no Fréchet distance here: some fifty recordings, of which a set of spoken digits may have no more, are too
    few for a covariance of 256 numbers. By it two halves of fifty are 0.21 apart, and noise 0.98 from all of them.

    Args:
        real: Recordings of speech.
        networks: The networks that find speech and embed voices; loaded without.

    Raises:
        ValueError: If the data has no sampling rate, or one (or a length) in which no speech can be found, or fewer
            than two items, or if the networks are not installed.

    References:
        Achlioptas, Diamanti, Mitliagkas & Guibas 2018, "Learning representations and generative models for 3D point
        clouds", arXiv 1707.02392, section 4.3 (minimum matching distance), here by cosine.
    """

    def __init__(self, real: Dataset, networks: SpeechNetworks | None = None) -> None:
        rate = AudioModality.expect(real.modality, "speech metrics").sample_rate
        check_rate(rate, real.shape[-1])
        if len(real) < 2:
            raise ValueError(f"speech metrics need at least 2 recordings, {real.source} has {len(real)}")
        self.networks = SpeechNetworks() if networks is None else networks
        self.real, self.sample_rate = real, rate
        order = torch.randperm(len(real), generator=torch.Generator().manual_seed(_SEED))
        self.index = order[:MOST].tolist()
        """The recordings whose voices are embedded, in random order."""
        self._voices: Tensor | None = None

    @property
    def meaning(self) -> str:
        return (
            f"speech: share with at least {LEAST:g} s of it, at a probability above {THRESHOLD:g}; voice: mean cosine "
            f"distance to the nearest of {len(self.index):,} real voices; MMD: that of a real voice to the nearest "
            f"sample, which falls with the number of samples; by {self.networks.label}"
        )

    @property
    def reference_indices(self) -> list[int] | None:
        return self.index

    @property
    def work(self) -> int:
        return len(self.index)

    def prepare(self, progress: Callable[[int], None]) -> None:
        self.voices(progress)

    def voices(self, progress: Callable[[int], None] | None = None) -> Float[Tensor, "n dim"]:
        """Embeddings of the recordings, computed at the first call.

        Args:
            progress: Called with the number of items that were just finished.
        """
        if self._voices is None:
            found = []
            for start in range(0, len(self.index), _BATCH):
                part = self.index[start : start + _BATCH]
                found.append(self.networks.voices(to_speech_rate(signals_of(self.real, part), self.sample_rate)))
                if progress is not None:
                    progress(len(part))
            self._voices = torch.cat(found)
        return self._voices

    def accumulator(self, group: Group) -> SpeechAccumulator:
        return SpeechAccumulator(self, real=group == "reference")


@final
class SpeechAccumulator(MetricAccumulator):
    """Speech metrics over one row of samples.

    Args:
        metrics: What is measured.
        real: Whether the samples are the recordings themselves, in the order of :attr:`SpeechMetrics.index`.
    """

    def __init__(self, metrics: SpeechMetrics, *, real: bool) -> None:
        self._metrics, self._real = metrics, real
        self._spoken: list[bool] = []
        self._voices: list[Tensor] = []

    def update(self, signals: Float[Tensor, "b c n"], features: Mapping[str, Tensor]) -> None:
        del features  # which say nothing of speech
        at_rate, networks = to_speech_rate(signals, self._metrics.sample_rate), self._metrics.networks
        self._spoken += networks.speech(at_rate).tolist()
        self._voices.append(networks.voices(at_rate))

    def compute(self) -> dict[str, float]:
        cosine = torch.cat(self._voices).double() @ self._metrics.voices().double().T
        distance = (1 - cosine).clamp_min(0)  # rounding
        if self._real:
            distance.fill_diagonal_(torch.inf)
        return {
            "speech ↑": sum(self._spoken) / len(self._spoken),
            "voice ↓": float(distance.amin(dim=1).mean()),
            "MMD ↓": float(distance.amin(dim=0).mean()),
        }
