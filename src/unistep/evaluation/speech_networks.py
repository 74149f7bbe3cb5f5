"""Two small published networks for speech: silero-vad finds it, resemblyzer embeds the voice."""

from __future__ import annotations

import warnings
from importlib import import_module, metadata
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unistep.modalities.audio_reading import resample

RATE = 16_000
"""Samples per second that both networks were trained on; other rates are resampled to it."""
LOWEST_RATE = 8_000
"""Lowest sampling rate, in hertz, at which speech can be found (that of the telephone, and silero-vad's other rate)."""
FRAME = 512
"""Samples that silero-vad gives one probability for: 32 ms."""
THRESHOLD = 0.5
"""A frame with a probability above this is speech; silero-vad's own default."""
LEAST = 0.1
"""Seconds of speech that make a sound one of speech: shorter than the shortest real digit (0.19 s)."""
LOUDNESS = -30.0
"""Quieter sounds are brought to this level before their voice is embedded, in decibels; resemblyzer's own."""
INSTALL = "pip install 'unistep[speech]', then pip install --no-deps resemblyzer"
"""What installs both. Resemblyzer names packages that only a compiler, or an old Python, can install."""


@final
class SpeechNetworks:
    """Silero-vad and resemblyzer, on the CPU.

    Raises:
        ValueError: If one is not installed, with the command that installs them.

    References:
        Silero Team 2024, "Silero VAD: pre-trained enterprise-grade voice activity detector", MIT.
        Wan, Wang, Papir & Lopez Moreno 2018, "Generalized end-to-end loss for speaker verification", arXiv 1710.10467,
        equation 4: the embedding, as the package resemblyzer trained it, Apache-2.0.
    """

    def __init__(self) -> None:
        threads = torch.get_num_threads()
        with warnings.catch_warnings():
            # PyTorch would rather have torch.export than silero-vad's TorchScript, SciPy another name for a function.
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                detector, encoder = import_module("silero_vad"), import_module("resemblyzer")
            except ImportError as error:
                raise ValueError(f"speech metrics need silero-vad and resemblyzer ({error}): {INSTALL}") from None
            finally:
                torch.set_num_threads(threads)  # silero-vad's import sets one thread for all of the process
            self._detector: Any = detector.load_silero_vad()
            self._encoder: Any = encoder.VoiceEncoder("cpu", verbose=False)
        self.label = f"{_named('silero-vad')} and {_named('resemblyzer')}"
        """Both with their versions, as printed beside the figures."""

    @torch.no_grad()
    def probabilities(self, sounds: Float[Tensor, "b n"]) -> Float[Tensor, "b frames"]:
        """How likely each frame of 32 ms is speech, for sounds at 16 kHz."""
        return self._detector.audio_forward(sounds, RATE)

    def speech(self, sounds: Float[Tensor, "b n"]) -> Bool[Tensor, " b"]:
        r"""Whether there is speech in each of several sounds at 16 kHz.

        .. math:: 0.032\,\text{s} \cdot \#\{k : p_k > 0.5\} \ge 0.1\,\text{s}

        with silero-vad's probability :math:`p_k` of frame :math:`k`.
        """
        return (self.probabilities(sounds) > THRESHOLD).sum(dim=1) * (FRAME / RATE) >= LEAST

    def voices(self, sounds: Float[Tensor, "b n"]) -> Float[Tensor, "b dim"]:
        """Resemblyzer's embedding of each of several sounds at 16 kHz: 256 numbers, of length 1.

        A recording is embedded whole, pauses included, since a model made them too; resemblyzer's own preparation
        would cut out what it does not take for speech, which is unreliable in noise.

        Raises:
            ValueError: If an embedding is not finite.
        """
        level = sounds.square().mean(dim=1, keepdim=True).sqrt()
        louder = (10 ** (LOUDNESS / 20) / level.clamp_min(1e-12)).clamp_min(1)
        waves: list[np.ndarray] = list((sounds * louder).float().numpy())
        found = torch.from_numpy(np.stack([self._encoder.embed_utterance(wave) for wave in waves]))
        if not found.isfinite().all():
            raise ValueError("resemblyzer gives an embedding that is not finite; the sounds are broken")
        return found


def to_speech_rate(sounds: Float[Tensor, "b c n"], sample_rate: int) -> Float[Tensor, "b m"]:
    """The mean of the channels of sounds, at 16 kHz, on the CPU; resampled by soxr.

    Raises:
        ValueError: If the rate is below 8 kHz or the sounds are shorter than speech can be, or without soxr.
    """
    check_rate(sample_rate, sounds.shape[-1])
    mono = sounds.mean(dim=1).cpu()
    return mono if sample_rate == RATE else torch.from_numpy(resample(mono.T.numpy(), sample_rate, RATE).T.copy())


def check_rate(sample_rate: int, samples: int) -> None:
    """Check that speech can be found in audio of that rate and length.

    Raises:
        ValueError: If not.
    """
    if sample_rate < LOWEST_RATE:
        raise ValueError(f"speech metrics need at least {LOWEST_RATE} samples per second, this audio has {sample_rate}")
    if samples < LEAST * sample_rate:
        raise ValueError(
            f"speech metrics need audio of {LEAST:g} s or more, this has {samples} samples at {sample_rate} Hz"
        )


def _named(package: str) -> str:
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:  # on the Python path, and not installed
        return package
