"""Sounds of a source: the shape they are brought to, and items that read a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from unistep.core.condition import ConditionValue
from unistep.data.sources.base import Item, Label, SourceManifest
from unistep.modalities.audio_options import AudioOptions, Loudness
from unistep.modalities.audio_reading import decode_sound, fit_length, libraries, resample, to_int16
from unistep.modalities.base import Decoded


def channels_of(options: AudioOptions) -> int:
    """Channels of each sound: one, unless two are requested."""
    return options.channels or 1


def audio_manifest(
    options: AudioOptions, count: int, items: Callable[[], Iterator[Item]], **more: Any
) -> SourceManifest:
    """The items of a source of sounds.

    Args:
        options: Rate, length and channels.
        count: Number of items.
        items: Starts reading.
        **more: Other fields of :class:`SourceManifest`.

    Raises:
        ValueError: If the libraries that read sounds are not installed.
    """
    libraries()
    return SourceManifest(
        modality="audio", count=count, shape=(channels_of(options), options.samples), items=items, **more
    )


def audio_item(
    path: Path,
    name: str,
    label: Label,
    options: AudioOptions,
    *,
    condition: Mapping[str, ConditionValue] | None = None,
    speed: float = 1.0,
) -> Item:
    """An item that reads a sound file by the rules of :func:`unistep.modalities.audio_reading.decode_sound`.

    Args:
        path: The file.
        name: Its name within the source.
        label: Its class.
        options: Rate, length, channels and loudness.
        condition: What else is known of it.
        speed: How fast it is played.
    """
    return Item(name=name, label=label, read=partial(_read, path, options, speed), condition=condition or {})


def array_audio(sound: np.ndarray, rate: int, options: AudioOptions, loudness: Loudness) -> Decoded:
    """A sound from samples ``[n, c]`` in [-1, 1] that begin where it should.

    Args:
        sound: The samples.
        rate: How many there are in a second.
        options: Rate, length and channels wanted, and the loudness.
        loudness: What is done about the loudness where the options do not say.
    """
    channels = channels_of(options)
    if sound.shape[1] != channels:
        sound = sound.mean(axis=1, keepdims=True) if channels == 1 else np.repeat(sound[:, :1], 2, axis=1)
    if rate != options.rate:
        sound = resample(sound, rate, options.rate)
    return Decoded(values=to_int16(fit_length(sound, options.samples, options.rate), options.loudness or loudness))


def _read(path: Path, options: AudioOptions, speed: float) -> Decoded:
    found = decode_sound(
        path,
        sample_rate=options.rate,
        samples=options.samples,
        channels=1 if channels_of(options) == 1 else 2,
        loudness=options.loudness or "peak",
        speed=speed,
    )
    return Decoded(values=found.values, notes=found.notes)
