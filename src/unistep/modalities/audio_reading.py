"""One sound file, of whatever kind and state, to 16-bit samples of a given rate and length; or the reason why not.

Files are only ever opened for reading, and only as much of one is read as is used: a recording of two hours costs what
one of half a minute does.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from unistep.modalities.unusable import UnusableFileError

if TYPE_CHECKING:
    from soundfile import SoundFile

Loudness = Literal["peak", "keep"]
"""Whether every sound is brought to the same peak, or left as loud as it is."""

SUFFIXES = frozenset(
    "." + ending
    for ending in (
        *("wav", "wave", "w64", "rf64", "bwf", "flac", "ogg", "oga", "opus", "mp3", "mp2", "aif", "aiff", "aifc"),
        *("au", "snd", "caf", "voc", "paf", "svx", "iff"),
    )
)
"""File names that claim to be a sound that libsndfile reads."""

FULL = 32_768
"""What 1 is in 16 bits, as libsndfile has it; the largest number is one less."""
PEAK = 10 ** (-1 / 20)
"""What ``peak`` brings the largest sample to: 1 dB below full scale."""
SILENCE = 1e-4
"""A sound that stays below this is silent (-80 dB of full scale)."""
ONSET = 0.01
"""A sound begins where it first reaches this share of its peak (-40 dB)."""
CLIPPED = "clipped: used as it is"
"""Remark on a sound cut off at full scale."""
NO_TREBLE = "sampled at a lower rate than wanted: has no treble"
"""Remark on a sound that was brought to a higher rate."""

_LOOK = 30.0  # seconds in which a sound must begin
_BLOCK = 10.0  # seconds of a long file that are read at once
_BEFORE = 0.005  # seconds that are kept before that
_FADE = 0.01  # seconds over which a sound that is cut dies away
_RATES = (1_000, 768_000)  # Hz
_CHANNELS = 32
_NO_SOUND = (1, 7)  # libsndfile's codes for an unknown format; 7 is what it says of an MP3 that is none
_STREAMED = 0x7FFF_0000  # a header that claims more bytes was written before the length was known


class UnusableSoundError(UnusableFileError):
    """A file that gives no sound."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sound:
    """Samples, and what had to be done to get them."""

    values: np.ndarray
    """Array of shape ``[c, samples]``, int16."""
    filled: int
    """How many of the samples are the file's; those after them are silence that was put there."""
    notes: tuple[str, ...] = ()
    """Remarks worth counting, such as "clipped: used as it is"."""


def decode_sound(
    file: Path,
    *,
    sample_rate: int,
    samples: int,
    channels: Literal[1, 2] = 1,
    loudness: Loudness = "peak",
    speed: float = 1.0,
) -> Sound:
    """Read a sound and bring it to shape ``[channels, samples]``.

    Silence before the sound is dropped: it begins 5 ms before it first reaches a hundredth of its peak, which must
    happen within half a minute. Several channels become one by their mean, one becomes two equal ones, and of more than
    two wanted as two the first two are taken. It is resampled by soxr (a band-limited polyphase filter, 20 bits), cut
    with a fade of 10 ms or padded with silence, and with ``peak`` scaled so that its largest sample is 1 dB below full
    scale.

    Args:
        file: The file.
        sample_rate: Samples per second wanted.
        samples: Length wanted.
        channels: 1 for mono, 2 for stereo.
        loudness: Rule for how loud it becomes.
        speed: How fast it is played: 2 is an octave higher and half as long.

    Returns:
        The samples, with remarks.

    Raises:
        UnusableSoundError: With the reason, for anything that is not a sound.
        ValueError: If the libraries that read sounds are not installed.
    """
    with opened(file) as reader:
        return _finish(reader, sample_rate / speed, samples, channels, loudness)


def length_of(file: Path) -> Fraction:
    """Seconds that a sound file lasts, by its header; exact.

    Raises:
        UnusableSoundError: With the reason, for anything that is not a sound.
    """
    with opened(file) as reader:
        _check_header(reader)
        return Fraction(reader.frames, reader.samplerate)


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """Some seconds of a sound file."""

    samples: np.ndarray
    """Shape ``[n, channels]``, float32."""
    rate: int
    """Samples a second."""
    clipped: bool
    """Whether the file's own channels were."""


def blocks(file: Path, channels: int) -> Iterator[Block]:
    """A sound file from beginning to end, some seconds at a time.

    Raises:
        UnusableSoundError: With the reason, for anything that is not a sound, or not whole.
    """
    with opened(file) as reader:
        _check_header(reader)
        while reader.tell() < reader.frames:
            own = _read(reader, round(_BLOCK * reader.samplerate))
            yield Block(samples=_mix(own, channels), rate=reader.samplerate, clipped=_clipped(own))


@contextmanager
def opened(file: Path) -> Iterator[SoundFile]:
    """A sound file for the block; what fails in it is the file's fault.

    Raises:
        UnusableSoundError: With the reason, for anything that is not a sound.
        ValueError: If the libraries that read sounds are not installed.
    """
    soundfile, _ = libraries()
    try:
        with file.open("rb") as content:  # for its reason, of which libsndfile says no more than that the system failed
            size = os.fstat(content.fileno()).st_size
    except OSError as error:
        raise UnusableSoundError(f"cannot be read: {error.strerror}", recognised=False) from error
    if size == 0:
        raise UnusableSoundError("empty file", recognised=False)
    try:
        reader = soundfile.SoundFile(os.fsencode(file))
    except Exception as error:  # a header can be broken in any way; the reason goes into the summary
        if isinstance(error, OSError):
            raise UnusableSoundError(f"cannot be read: {error.strerror}", recognised=False) from error
        if getattr(error, "code", None) in _NO_SOUND:
            raise UnusableSoundError("not a sound", recognised=False) from error
        raise UnusableSoundError(f"broken: {_reason(error)}") from error
    with reader:
        try:
            yield reader
        except UnusableFileError:
            raise
        except Exception as error:  # so can its samples
            raise UnusableSoundError(f"broken: {_reason(error)}") from error


def _finish(reader: SoundFile, sample_rate: float, samples: int, channels: int, loudness: Loudness) -> Sound:
    rate, notes = reader.samplerate, []
    _check_header(reader)
    head = _read(reader, round(_LOOK * rate))
    loudest = np.abs(head).max(axis=1)
    if loudest.max() < SILENCE:
        longer = reader.frames > len(head)
        raise UnusableSoundError(f"silent in its first {_LOOK:.0f} s" if longer else "silent")
    begin = max(0, int(np.argmax(loudest >= ONSET * loudest.max())) - round(_BEFORE * rate))
    needed = math.ceil(samples * rate / sample_rate) + 1
    excerpt = head[begin : begin + needed]
    if len(excerpt) < needed and begin + len(excerpt) < reader.frames:
        excerpt = np.concatenate([excerpt, _read(reader, needed - len(excerpt))])
    if _clipped(excerpt):
        notes.append(CLIPPED)
    if rate < sample_rate:
        notes.append(NO_TREBLE)
    mixed = _mix(excerpt, channels)
    if np.abs(mixed).max() < SILENCE:
        alone = "the two channels that are used are silent"  # as the left and right of films with sound in the centre
        raise UnusableSoundError("its channels cancel each other" if channels == 1 else alone)
    if rate != sample_rate:
        mixed = resample(mixed, rate, sample_rate)
    if begin + needed < reader.frames:
        notes.append("longer than wanted: only its beginning is used")
    elif len(mixed) < samples - round(_FADE * sample_rate):
        notes.append("shorter than wanted: padded with silence")
    values = to_int16(fit_length(mixed, samples, sample_rate), loudness)
    return Sound(values=values, filled=min(len(mixed), samples), notes=tuple(notes))


def fit_length(sound: np.ndarray, samples: int, sample_rate: float) -> np.ndarray:
    """A sound ``[n, c]`` padded with silence, or cut with a fade, to ``[samples, c]``."""
    if len(sound) < samples:
        return np.concatenate([sound, np.zeros((samples - len(sound), sound.shape[1]), sound.dtype)])
    cut = sound[:samples].copy()
    if len(sound) > samples:
        fade = min(samples, round(_FADE * sample_rate))
        cut[samples - fade :] *= np.linspace(1, 0, fade, dtype=cut.dtype)[:, None]
    return cut


def to_int16(sound: np.ndarray, loudness: Loudness) -> np.ndarray:
    """A sound ``[n, c]`` in [-1, 1] as int16 ``[c, n]``, after its loudness is set.

    Raises:
        UnusableSoundError: If it is silent.
    """
    peak = float(np.abs(sound).max())
    if peak < SILENCE:
        raise UnusableSoundError("silent")
    return np.ascontiguousarray(quantise(sound * (PEAK / peak if loudness == "peak" else 1.0)).T)


def quantise(sound: np.ndarray) -> np.ndarray:
    """Samples in [-1, 1] as int16, which a file holds and reading it gives back."""
    return np.rint(sound * FULL).clip(-FULL, FULL - 1).astype(np.int16)


def resample(sound: np.ndarray, rate: float, wanted: float) -> np.ndarray:
    """A sound ``[n, c]`` at another rate, band-limited."""
    _, soxr = libraries()
    return soxr.resample(sound, rate, wanted, quality="HQ")


def libraries() -> tuple[Any, Any]:
    """Soundfile and soxr.

    Raises:
        ValueError: If they are not installed, with the command that installs them.
    """
    try:
        import soundfile
        import soxr
    except (ImportError, OSError) as error:  # OSError: soundfile without libsndfile
        raise ValueError(f"sounds need soundfile and soxr ({error}): pip install 'unistep[audio]'") from None
    return soundfile, soxr


def _check_header(reader: SoundFile) -> None:
    """Refuse rates and numbers of channels that no sound has, and files that hold nothing or less than they say."""
    if not _RATES[0] <= reader.samplerate <= _RATES[1]:
        raise UnusableSoundError(f"sampled at {reader.samplerate} Hz, wanted {_RATES[0]} to {_RATES[1]}")
    if reader.channels > _CHANNELS:
        raise UnusableSoundError(f"has {reader.channels} channels, wanted at most {_CHANNELS}")
    if reader.frames < 1:
        raise UnusableSoundError("holds no samples")
    _check_length(reader)


def _check_length(reader: SoundFile) -> None:
    """Refuse a file that holds less than its header says, which libsndfile takes for a shorter one."""
    if reader.frames > 2**62:
        raise UnusableSoundError("broken: its header does not say how long it is; write it anew")
    lengths = re.search(r"(?:data|SSND)\s*: (\d+) \(should be (\d+)\)", reader.extra_info)
    if lengths and int(lengths[2]) < int(lengths[1]) < _STREAMED:
        raise UnusableSoundError("truncated")


def _reason(error: Exception) -> str:
    """What a library says, without the name of the file."""
    text = " ".join(str(error).split())
    return text.rpartition("': ")[2].removeprefix("Error : ")[:120] or type(error).__name__


def _read(reader: SoundFile, count: int) -> np.ndarray:
    """The next samples, float32 of shape ``[n, c]``, at most ``count``."""
    wanted = min(count, reader.frames - reader.tell())
    values = reader.read(wanted, dtype="float32", always_2d=True)
    if len(values) < wanted:
        raise UnusableSoundError("truncated")
    if not np.isfinite(values).all():
        raise UnusableSoundError("has samples that are not numbers")
    return values


def _mix(sound: np.ndarray, channels: int) -> np.ndarray:
    if channels == 1:
        return sound.mean(axis=1, keepdims=True)
    return np.repeat(sound, 2, axis=1) if sound.shape[1] == 1 else np.ascontiguousarray(sound[:, :2])


def _clipped(sound: np.ndarray) -> bool:
    """Whether three samples in a row lie at full scale, beyond which only floating numbers go."""
    level = np.abs(sound)
    full = level >= 0.999
    return len(sound) > 2 and level.max() < 1.01 and bool((full[2:] & full[1:-1] & full[:-2]).any())
