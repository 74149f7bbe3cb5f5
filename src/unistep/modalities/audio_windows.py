"""Long sounds as training data: the whole of a recording, read block by block, and where its windows begin."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from unistep.modalities.audio_options import AudioOptions
from unistep.modalities.audio_reading import (
    CLIPPED,
    NO_TREBLE,
    ONSET,
    PEAK,
    SILENCE,
    UnusableSoundError,
    blocks,
    length_of,
    libraries,
    quantise,
)
from unistep.modalities.recording import Recording


def count_windows(path: Path, options: AudioOptions) -> int:
    """How many windows a file has by its header; one for a file that cannot be read, which reading then reports."""
    libraries()
    try:
        length = int(length_of(path) * options.rate)
    except UnusableSoundError:
        return 1
    return max(1, 1 + (length - options.samples) // _step(options))


def read_windows(path: Path, options: AudioOptions) -> Recording:
    """The whole of a recording, and the windows of it that are not silent.

    A window of the grid begins where the one before is half over, so that for a stream, whose windows are two chunks,
    each chunk but the first is once the next one. Windows that stay below a hundredth of the recording's peak (-40 dB)
    are left out, and so is an end that is shorter than a window. In training a window may begin up to a quarter of its
    length earlier or later. A recording shorter than one window has silence put ahead of it, as its end is what a
    stream learns to make.

    With the loudness ``peak``, the default, the largest sample of the whole recording comes to 1 dB below full scale,
    so that loud and soft passages stay what they are to each other.

    Raises:
        UnusableSoundError: If it cannot be read to its end, or is silent.
        ValueError: If the libraries that read sounds are not installed.
    """
    peak, notes = _survey(path, options)
    levels, total = _levels(path, options)
    loud = [number for number, level in enumerate(levels) if level >= ONSET * peak]
    if not loud:
        raise UnusableSoundError("silent, except for an end that is shorter than a window")
    if len(loud) < len(levels):
        notes = (*notes, "has quiet passages: windows of them left out")
    ahead = max(0, options.samples - total)
    if ahead:
        notes = (*notes, "shorter than a window: silence put ahead of it")
    gain = PEAK / peak if (options.loudness or "peak") == "peak" else 1.0
    return Recording(
        blocks=_stored(path, options, gain, ahead),
        starts=tuple(number * _step(options) for number in loud),
        slack=_step(options) // 2,
        notes=notes,
    )


def _step(options: AudioOptions) -> int:
    return max(1, options.samples // 2)


def _channels(options: AudioOptions) -> int:
    return options.channels or 1


def _stored(path: Path, options: AudioOptions, gain: float, ahead: int) -> Iterator[np.ndarray]:
    """The recording as it is stored, int16 ``[n, c]``, after ``ahead`` samples of silence."""
    if ahead:
        yield np.zeros((ahead, _channels(options)), np.int16)
    for sound in _resampled(path, options.rate, _channels(options)):
        yield quantise(sound * gain)


def _survey(path: Path, options: AudioOptions) -> tuple[float, tuple[str, ...]]:
    """The peak of a recording, read to its end, and remarks."""
    peak, notes = 0.0, dict[str, None]()
    for block in blocks(path, _channels(options)):
        peak = max(peak, float(np.abs(block.samples).max()))
        if block.clipped:
            notes[CLIPPED] = None
        if block.rate < options.rate:
            notes[NO_TREBLE] = None
    if peak < SILENCE:
        raise UnusableSoundError("silent")
    return peak, tuple(notes)


def _levels(path: Path, options: AudioOptions) -> tuple[list[float], int]:
    """The peak of each window of the grid, and the recording's length; a short recording is one window."""
    step, samples, levels, total = _step(options), options.samples, list[float](), 0
    held = np.zeros((0, _channels(options)), np.float32)
    for sound in _resampled(path, options.rate, _channels(options)):
        held, total = np.concatenate([held, sound]), total + len(sound)
        while len(held) >= samples:
            levels.append(float(np.abs(held[:samples]).max()))
            held = held[step:]
    return levels or ([float(np.abs(held).max())] if len(held) else []), total


def _resampled(path: Path, rate: int, channels: int) -> Iterator[np.ndarray]:
    """A recording at another rate, block by block, as if it were resampled whole."""
    _, soxr = libraries()
    resampler = None
    for block in blocks(path, channels):
        if block.rate == rate:
            yield block.samples
            continue
        resampler = resampler or soxr.ResampleStream(block.rate, rate, channels, dtype="float32", quality="HQ")
        yield resampler.resample_chunk(block.samples).reshape(-1, channels)
    if resampler is not None:
        nothing = np.zeros((0, channels), np.float32)
        yield resampler.resample_chunk(nothing, last=True).reshape(-1, channels)
