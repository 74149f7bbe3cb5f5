"""A pitch tracker that has learned nothing: YIN, on the steady part of a note."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

WINDOW = 0.064
"""Length of a frame, in seconds: eight periods of the lowest pitch of the notes."""
LOWEST, HIGHEST = 60.0, 2_200.0
"""Pitches that are looked for, in Hz."""
THRESHOLD = 0.15
"""A dip of the normalised difference below this is a period; between 0.1 and 0.15 in the paper."""

_HOP = 0.032  # seconds from frame to frame
_LOUD = 0.1  # frames below this share of the loudest one's power say nothing


def yin(sound: Float[Tensor, "b n"], sample_rate: int) -> tuple[Float[Tensor, "b frames"], Float[Tensor, "b frames"]]:
    r"""Pitch of each frame, with how far it is from periodic.

    .. math:: d(\tau) = \sum_j (x_j - x_{j+\tau})^2, \quad
              d'(\tau) = d(\tau) \Big/ \tfrac1\tau \sum_{j \le \tau} d(j)

    The period is the first dip of :math:`d'` below the threshold, at its bottom, else the deepest; a parabola through
    its neighbours tells it finer than a sample.

    Args:
        sound: Waveforms.
        sample_rate: Samples per second.

    Returns:
        Pitches in Hz and :math:`d'` at the period (0 is periodic, 1 is noise), for frames 32 ms apart.

    Raises:
        ValueError: If the sounds are shorter than a frame and the longest period.

    References:
        de Cheveigné & Kawahara 2002, "YIN, a fundamental frequency estimator for speech and music", JASA 111(4),
        section II, equations 6 and 8.
    """
    window, longest = round(WINDOW * sample_rate), math.ceil(sample_rate / LOWEST)
    shortest = max(2, int(sample_rate / HIGHEST))
    if sound.shape[-1] < window + longest + 1:
        raise ValueError(
            f"sounds of {sound.shape[-1]} samples are too short for a pitch; at {sample_rate} Hz they need at least "
            f"{window + longest + 1}"
        )
    frames = sound.double().unfold(-1, window + longest + 1, round(_HOP * sample_rate))
    size = 2 ** math.ceil(math.log2(2 * frames.shape[-1]))
    spectrum = torch.fft.rfft(frames, size)
    head = torch.fft.rfft(frames[..., :window], size)
    product = torch.fft.irfft(spectrum * head.conj(), size)[..., : longest + 2]
    power = torch.nn.functional.pad(frames.square().cumsum(-1), (1, 0))
    power = power[..., window : window + longest + 2] - power[..., : longest + 2]
    difference = (power[..., :1] + power - 2 * product).clamp_min(0)
    lag = torch.arange(1, longest + 2, dtype=torch.float64, device=sound.device)
    mean = difference[..., 1:].cumsum(-1) / lag
    normalised = torch.where(mean > 0, difference[..., 1:] / mean.clamp_min(1e-30), 1.0)  # at lags from 1
    left, middle, right = normalised[..., :-2], normalised[..., 1:-1], normalised[..., 2:]  # middle is lag 2 and on
    inside = lag[1:-1] >= shortest
    dip = (middle <= left) & (middle < right) & inside
    depth = torch.where(dip, middle, torch.inf)
    good = depth < THRESHOLD
    first = torch.where(good.any(-1), good.to(torch.int8).argmax(-1), depth.argmin(-1))
    a, b, c = (part.gather(-1, first[..., None])[..., 0] for part in (left, middle, right))
    bend = a - 2 * b + c
    offset = torch.where(bend > 0, (a - c) / (2 * bend.clamp_min(1e-30)), 0.0).clamp(-1, 1)
    found = dip.any(-1)
    period = torch.where(found, first + 2 + offset, torch.nan)
    return (sample_rate / period).float(), torch.where(found, b, 1.0).float()


def note_pitch(sound: Float[Tensor, "b n"], sample_rate: int) -> Float[Tensor, " b"]:
    """Pitch of a note in Hz: the median over the more periodic half of its loud frames; NaN for silence.

    Args:
        sound: Waveforms, each of one note.
        sample_rate: Samples per second.

    Raises:
        ValueError: If the sounds are too short.
    """
    pitch, aperiodic = yin(sound, sample_rate)
    window, hop = round(WINDOW * sample_rate), round(_HOP * sample_rate)
    power = sound.double().square().unfold(-1, window, hop).mean(-1)[:, : pitch.shape[1]]
    loud = (power > _LOUD * power.amax(-1, keepdim=True)) & pitch.isfinite()
    pitches = []
    for p, a, chosen in zip(pitch, aperiodic, loud, strict=True):
        if not chosen.any():
            pitches.append(torch.tensor(torch.nan))
            continue
        p, a = p[chosen], a[chosen]
        pitches.append(p[a <= a.median()].median())
    return torch.stack(pitches)


def cents(pitch: Float[Tensor, " b"], midi: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """How far pitches in Hz lie above MIDI's, in hundredths of a semitone."""
    return 1200 * torch.log2(pitch / (440 * 2 ** ((midi - 69) / 12)))
