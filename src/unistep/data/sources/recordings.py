"""Long recordings as training data: windows over the whole of each, read block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from unistep.data.options import DataConfig
from unistep.data.source import Item, Label, SourceManifest, evenly_spaced
from unistep.data.sources.sounds import channels_of, rate_and_length, sound_contents
from unistep.modalities.audio_reading import (
    CLIPPED,
    NO_TREBLE,
    ONSET,
    PEAK,
    SILENCE,
    Sound,
    UnusableSoundError,
    blocks,
    length_of,
    libraries,
    quantise,
)


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A sound file of any length."""

    path: Path
    """The file."""
    name: str
    """Its name within the source."""
    label: Label = None
    """Its class."""
    expected_type: bool = True
    """Whether its name says that it is a sound."""
    trouble: str = ""
    """Why it cannot be read, where that is known already."""


def windows(recordings: Sequence[Recording], config: DataConfig) -> SourceManifest:
    """Windows of ``config.seconds`` over the whole of each recording.

    A window begins where the one before is half over, so that for a stream, whose windows are two chunks, each chunk
    but the first is once the next one. Windows that stay below a hundredth of the recording's peak (-40 dB) are left
    out, and so is a rest that fills no window. A recording shorter than one has silence put ahead of it, as its end is
    what a stream learns to make.

    With the loudness ``peak``, the default, the largest sample of the whole recording comes to 1 dB below full scale,
    so that loud and soft passages stay what they are to each other.

    Args:
        recordings: The files.
        config: Rate, length, channels and loudness; ``limit`` is one of windows, of which each file has its share.

    Raises:
        ValueError: If the libraries that read sounds are not installed.
    """
    libraries()
    counts = [_count(recording, config) for recording in recordings]
    quotas = shares(counts, config.limit)

    def items() -> Iterator[Item]:
        for recording, quota in zip(recordings, quotas, strict=True):
            if quota:
                yield from _items(recording, config, quota)

    contents = sound_contents(config, sum(quotas), items, parallel=False)
    return replace(contents, files=sum(quota > 0 for quota in quotas))


def shares(counts: Sequence[int], limit: int | None) -> list[int]:
    """How many of each file's windows are taken: at least one, as long as the limit lasts, and then by length.

    Args:
        counts: Windows of each file, at least one.
        limit: Windows of all together.
    """
    if limit is None or limit >= sum(counts):
        return list(counts)
    if limit <= len(counts):
        some = frozenset(evenly_spaced(len(counts), limit))
        return [int(i in some) for i in range(len(counts))]
    further, left = limit - len(counts), sum(counts) - len(counts)
    ends = [further * (sum(counts[: i + 1]) - i - 1) // left for i in range(len(counts))]
    return [1 + end - before for end, before in zip(ends, [0, *ends], strict=False)]


def _count(recording: Recording, config: DataConfig) -> int:
    """How many windows a file holds by its header; one for what cannot be read, which is then said of it."""
    rate, samples = rate_and_length(config)
    try:
        length = 0 if recording.trouble else int(length_of(recording.path) * rate)
    except UnusableSoundError:
        length = 0
    return max(1, 1 + (length - samples) // _step(samples))


def _step(samples: int) -> int:
    return max(1, samples // 2)


def _items(recording: Recording, config: DataConfig, quota: int) -> Iterator[Item]:
    """At most ``quota`` windows of one file, spread over the loud ones, or one item that says why there are none."""
    try:
        if recording.trouble:
            raise UnusableSoundError(recording.trouble, recognised=False)
        peak, notes = _survey(recording.path, config)
        levels = [float(np.abs(sound).max()) for sound in _cut(recording.path, config)]
    except UnusableSoundError as error:
        yield _item(recording, recording.name, error)
        return
    rate, samples = rate_and_length(config)
    loud = [number for number, level in enumerate(levels) if level >= ONSET * peak]
    if not loud:
        yield _item(recording, recording.name, UnusableSoundError("silent, but for an end that fills no window"))
        return
    quiet = ("has quiet passages: windows of them left out",) if len(loud) < len(levels) else ()
    notes, wanted = (*notes, *quiet), {loud[k] for k in evenly_spaced(len(loud), min(quota, len(loud)))}
    gain = PEAK / peak if (config.loudness or "peak") == "peak" else 1.0
    for number, sound in enumerate(_cut(recording.path, config)):
        if number not in wanted:
            continue
        short = ("shorter than wanted: silence put ahead of it",) if len(sound) < samples else ()
        ahead = np.zeros((samples - len(sound), sound.shape[1]), sound.dtype)
        values = np.ascontiguousarray(quantise(np.concatenate([ahead, sound]) * gain).T)
        at = number * _step(samples) / rate
        yield _item(recording, f"{recording.name} at {at:.1f} s", Sound(values=values, notes=(*notes, *short)))
        notes = ()  # once for each file


def _item(recording: Recording, name: str, outcome: Sound | UnusableSoundError) -> Item:
    def read() -> Sound:
        if isinstance(outcome, UnusableSoundError):
            raise outcome
        return outcome

    return Item(name=name, label=recording.label, read=read, expected_type=recording.expected_type)


def _survey(path: Path, config: DataConfig) -> tuple[float, tuple[str, ...]]:
    """The peak of a recording, read to its end, and remarks.

    Raises:
        UnusableSoundError: If it cannot be read to its end, or is silent.
    """
    rate, _ = rate_and_length(config)
    peak, notes = 0.0, dict[str, None]()
    for block in blocks(path, channels_of(config)):
        peak = max(peak, float(np.abs(block.samples).max()))
        if block.clipped:
            notes[CLIPPED] = None
        if block.rate < rate:
            notes[NO_TREBLE] = None
    if peak < SILENCE:
        raise UnusableSoundError("silent")
    return peak, tuple(notes)


def _cut(path: Path, config: DataConfig) -> Iterator[np.ndarray]:
    """The windows of a recording one after the other, ``[n, c]``; a short recording is one short window."""
    rate, samples = rate_and_length(config)
    step, whole = _step(samples), False
    held = np.zeros((0, channels_of(config)), np.float32)
    for sound in _resampled(path, rate, channels_of(config)):
        held = np.concatenate([held, sound])
        while len(held) >= samples:
            yield held[:samples].copy()
            held, whole = held[step:], True
    if not whole and len(held):
        yield held


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
