r"""A stream of spectra in chunks: frames that continue across chunk boundaries, and the way back to one waveform.

All chunks lie on one grid of frames that never stops: frame :math:`m` covers the samples from :math:`mH` to
:math:`mH + N`, and chunk :math:`j` is the frames :math:`jK` to :math:`(j+1)K - 1`. The last frames of a chunk reach
over its end, and are added to the first of the next, so that a chunk boundary is no different from what lies between
any two frames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from unistep.codecs.spectrum import Spectrum


def two_chunks(
    codec: Spectrum, signal: Float[Tensor, "b c n"]
) -> tuple[Float[Tensor, "b *past"], Float[Tensor, "b *shape"]]:
    r"""Two chunks of a waveform as the previous one and the next.

    No frame is padded: :math:`2KH` samples hold :math:`M = \lfloor (2KH - N)/H \rfloor + 1` whole frames, which is
    :math:`2K - 1` where they overlap by half. The last :math:`K` of them are the next chunk.

    Args:
        codec: One with chunks.
        signal: Waveforms of two chunks.

    Returns:
        Spectra of :math:`M - K` and of :math:`K` frames; phases count from the first of the latter.

    Raises:
        ValueError: If the waveforms have another length.
    """
    if tuple(signal.shape[1:]) != codec.signal_shape:
        raise ValueError(f"two chunks have shape [b, {', '.join(map(str, codec.signal_shape))}], got {[*signal.shape]}")
    chunk, waveform = codec.config.chunk, signal.flatten(0, 1)
    frames = waveform.unfold(1, codec.config.n_fft, codec.config.hop)
    spectrum = torch.fft.rfft(frames * codec.window(waveform)).transpose(1, 2)
    planes = codec.compress(spectrum, first=chunk - frames.shape[1])
    whole = planes.reshape(len(signal), *codec.shape[:-1], frames.shape[1])
    return whole[..., :-chunk], whole[..., -chunk:]


def overlap_add(
    codec: Spectrum, x: Float[Tensor, "b *shape"], tail: Float[Tensor, "b c tail"]
) -> tuple[Float[Tensor, "b c n"], Float[Tensor, "b c tail"]]:
    r"""Spectra of the next chunks as the waveforms that they complete.

    .. math:: y_n = \frac{\sum_m w_{n - mH}\, x_{m,\, n - mH}}{\sum_m w_{n - mH}^2}

    with :math:`x_m` the inverse transform of frame :math:`m`. The last :math:`N - H` samples of a chunk are the state
    for the next. The sum below is that of a waveform without an end, so that the very first frame fades in.

    Args:
        codec: One with chunks.
        x: Spectra of the codec's shape, of a number of frames that is a multiple of its ``period``.
        tail: The state of the previous chunks; zeros at the beginning.

    Returns:
        Waveforms of as many hops as there are frames, clamped to [-1, 1], and the state.

    Raises:
        ValueError: If there is another number of frames.
    """
    config, window = codec.config, codec.window(x)
    length, hop, count, channels = config.n_fft, config.hop, x.shape[-1], codec.signal_shape[0]
    if count % config.period:
        raise ValueError(f"chunks must have a multiple of {config.period} frames, got {count}")
    frames = codec.inverse_frames(x) * window
    if torch.compiler.is_exporting():
        waveform = sum_frames(frames, hop)
    else:
        total = (count - 1) * hop + length
        waveform = F.fold(frames.transpose(1, 2), (1, total), (1, length), stride=(1, hop))[:, 0, 0]
    waveform[:, : length - hop] += tail.flatten(0, 1)
    weight = F.pad(window.square(), (0, -length % hop)).view(-1, hop).sum(dim=0)
    whole = waveform[:, : count * hop].unflatten(1, (count, hop)) / weight
    rest = waveform[:, count * hop :].clone()
    batch = x.shape[0]
    return whole.reshape(batch, channels, count * hop).clamp(-1, 1), rest.unflatten(0, (batch, channels))


def sum_frames(frames: Float[Tensor, "n m length"], hop: int) -> Float[Tensor, "n total"]:
    """Frames that begin ``hop`` samples apart, added up; of operators that every program has.

    Args:
        frames: The frames.
        hop: Samples from one to the next.
    """
    count, length = frames.shape[1], frames.shape[2]
    parts = -(-length // hop)
    rows = F.pad(frames, (0, parts * hop - length)).unflatten(2, (parts, hop))
    shifted = [F.pad(rows[:, :, part], (0, 0, part, parts - 1 - part)) for part in range(parts)]
    return torch.stack(shifted).sum(dim=0).flatten(1)[:, : (count - 1) * hop + length]
