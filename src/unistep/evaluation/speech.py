"""What can be said of speech beyond its features: is it speech, is its voice a real one, and are all voices there?"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, final

import torch
from jaxtyping import Float
from torch import Tensor

from unistep.evaluation.reference import to_float
from unistep.evaluation.speech_networks import LEAST, THRESHOLD, SpeechNetworks, check_rate, to_speech_rate

if TYPE_CHECKING:
    from unistep.data import Dataset

MOST = 1_000
"""Real sounds that are listened to: a voice takes some 50 ms of one core."""

_BATCH = 50
_SEED = 0  # chooses them


@final
class Speech:
    r"""Real speech, and what is heard in samples that are set beside it.

    With the embeddings :math:`u_i` of :math:`m` samples and :math:`v_j` of :math:`n` real sounds, all of length 1,

    .. math:: \text{voice} = \frac1m \sum_i \min_j (1 - u_i^\top v_j), \qquad
              \text{min. matching} = \frac1n \sum_j \min_i (1 - u_i^\top v_j)

    so that a voice like none of the real ones makes the first large, and a real voice that no sample has the second.
    Where real sounds are set beside themselves, none is its own nearest.

    A Fréchet distance is not taken: some fifty recordings, of which a set of spoken digits may have no more, are too
    few for a covariance of 256 numbers. By it two halves of fifty are 0.21 apart, and noise 0.98 from all of them.

    Args:
        real: Recordings of speech.
        networks: The networks that listen; loaded without.

    Raises:
        ValueError: If these are no sounds, of a rate or length that no speech can be heard in, or fewer than two, or
            if the networks are not installed.

    References:
        Achlioptas, Diamanti, Mitliagkas & Guibas 2018, "Learning representations and generative models for 3D point
        clouds", arXiv 1707.02392: "min. matching" is their minimum matching distance, "voice" the same in the other
        direction, here by cosine.
    """

    def __init__(self, real: Dataset, networks: SpeechNetworks | None = None) -> None:
        if real.sample_rate is None:
            raise ValueError(f"speech is judged in sounds, and {real.source} has pictures")
        check_rate(real.sample_rate, real.shape[-1])
        if len(real) < 2:
            raise ValueError(f"judging speech needs at least 2 real sounds, {real.source} has {len(real)}")
        self.networks = SpeechNetworks() if networks is None else networks
        self.real, self.sample_rate = real, real.sample_rate
        order = torch.randperm(len(real), generator=torch.Generator().manual_seed(_SEED))
        self.index = order[:MOST]
        """Which of the real sounds are listened to, in random order."""
        self._voices: Tensor | None = None

    @property
    def meaning(self) -> str:
        """What a reader should know of the figures."""
        return (
            f"speech: share with at least {LEAST:g} s of it, at a probability above {THRESHOLD:g}; voice: mean cosine "
            f"distance to the nearest of {len(self.index):,} real voices; min. matching: that of a real voice "
            f"to the nearest sample, which falls with the number of samples; by {self.networks.label}"
        )

    def voices(self, progress: Callable[[int], None] | None = None) -> Float[Tensor, "n dim"]:
        """Embeddings of the real sounds, computed at the first call.

        Args:
            progress: Called with the number of items that were just finished.
        """
        if self._voices is None:
            found = []
            for part in self.index.split(_BATCH):
                sounds = to_float(self.real.values[part.numpy()])
                found.append(self.networks.voices(to_speech_rate(sounds, self.sample_rate)))
                if progress is not None:
                    progress(len(part))
            self._voices = torch.cat(found)
        return self._voices

    def listen(self, *, real: bool = False) -> SpeechListening:
        """Start on the samples of a model, or (``real``) on the real sounds themselves, as :attr:`index` has them."""
        return SpeechListening(self, real)


@final
class SpeechListening:
    """What is heard in one row of samples."""

    def __init__(self, speech: Speech, real: bool) -> None:
        self._speech, self._real = speech, real
        self._spoken: list[bool] = []
        self._voices: list[Tensor] = []

    def update(self, sounds: Float[Tensor, "b c n"], features: Float[Tensor, "b dim"]) -> None:
        """Take in the next samples; their features say nothing of speech."""
        at_rate, networks = to_speech_rate(sounds, self._speech.sample_rate), self._speech.networks
        self._spoken += networks.speech(at_rate).tolist()
        self._voices.append(networks.voices(at_rate))

    def compute(self) -> dict[str, float]:
        """Share of samples with speech, and both mean distances between their voices and the real ones."""
        cosine = torch.cat(self._voices).double() @ self._speech.voices().double().T
        distance = (1 - cosine).clamp_min(0)  # rounding
        if self._real:
            distance.fill_diagonal_(torch.inf)
        return {
            "speech ↑": sum(self._spoken) / len(self._spoken),
            "voice ↓": float(distance.amin(dim=1).mean()),
            "min. matching ↓": float(distance.amin(dim=0).mean()),
        }
