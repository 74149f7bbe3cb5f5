r"""An endless sound in chunks: frames that go on across the seams, and the way back to one waveform without end.

All chunks lie on one grid of frames that never stops: frame :math:`m` covers the samples from :math:`mH` to
:math:`mH + N`, and chunk :math:`j` is the frames :math:`jK` to :math:`(j+1)K - 1`. The last frames of a chunk reach
over its seam, and are added to the first of the next, so that a seam is no different from what lies between any two
frames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int16
from torch import Tensor

from unistep.modalities.audio_reading import FULL

if TYPE_CHECKING:
    from unistep.modalities.audio import AudioModality


def split(
    modality: AudioModality, stored: Int16[Tensor, "b c n"]
) -> tuple[Float[Tensor, "b *past"], Float[Tensor, "b *shape"]]:
    r"""Two chunks of a sound as what came before and what comes next.

    No frame is padded: :math:`2KH` samples hold :math:`M = \lfloor (2KH - N)/H \rfloor + 1` whole frames, which is
    :math:`2K - 1` where they overlap by half. The last :math:`K` of them are the next chunk.

    Args:
        modality: One of chunks.
        stored: 16-bit samples of two chunks.

    Returns:
        Spectra of :math:`M - K` and of :math:`K` frames; phases count from the first of the latter.

    Raises:
        ValueError: If the modality has no chunks, or the sounds another length.
    """
    if not modality.chunk:
        raise ValueError("this modality is of sounds by themselves; one of an endless sound has chunk above 0")
    if tuple(stored.shape[1:]) != modality.signal_shape:
        raise ValueError(
            f"two chunks have shape [b, {', '.join(map(str, modality.signal_shape))}], got {[*stored.shape]}"
        )
    sound = (stored.float() / FULL).flatten(0, 1)
    frames = sound.unfold(1, modality.n_fft, modality.hop)
    spectrum = torch.fft.rfft(frames * modality.window(sound)).transpose(1, 2)
    planes = modality.compress(spectrum, first=modality.chunk - frames.shape[1])
    whole = planes.reshape(len(stored), *modality.shape[:-1], frames.shape[1])
    return whole[..., : -modality.chunk], whole[..., -modality.chunk :]


class Overlap:
    r"""Spectra of successive chunks as one waveform, in constant memory.

    .. math:: y_n = \frac{\sum_m w_{n - mH}\, x_{m,\, n - mH}}{\sum_m w_{n - mH}^2}

    with :math:`x_m` the inverse transform of frame :math:`m`. The last :math:`N - H` samples of a chunk wait for the
    next. The sum below is that of a sound without an end, so that the very first frame fades in.

    Args:
        modality: One of chunks.
    """

    def __init__(self, modality: AudioModality) -> None:
        self.modality = modality
        self._waiting: Tensor | None = None

    def next(self, x: Float[Tensor, "b *shape"]) -> Float[Tensor, "b c n"]:
        """The samples that ``x``, the spectra of the next chunks, completes.

        Args:
            x: Spectra of :attr:`AudioModality.shape`, of a number of frames that is a multiple of its ``period``.

        Returns:
            Waveforms of as many hops as there are frames, clamped to [-1, 1].
        """
        modality, window = self.modality, self.modality.window(x)
        length, hop, count = modality.n_fft, modality.hop, x.shape[-1]
        if count % modality.period:
            raise ValueError(f"chunks must have a multiple of {modality.period} frames, got {count}")
        frames = torch.fft.irfft(modality.expand(x).transpose(1, 2), n=length) * window
        total = (count - 1) * hop + length
        sound = F.fold(frames.transpose(1, 2), (1, total), (1, length), stride=(1, hop))[:, 0, 0]
        if self._waiting is not None:
            sound[:, : length - hop] += self._waiting
        self._waiting = sound[:, count * hop :].clone()
        weight = F.pad(window.square(), (0, -length % hop)).view(-1, hop).sum(dim=0)
        whole = sound[:, : count * hop].unflatten(1, (count, hop)) / weight
        return whole.reshape(len(x), modality.channels, count * hop).clamp(-1, 1)
