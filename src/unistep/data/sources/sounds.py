"""Sounds of a source: the shape they are brought to, and items that read a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from unistep.core.condition import ConditionValue
from unistep.data.options import DataConfig
from unistep.data.source import DEFAULT_RATE, DEFAULT_SECONDS, Item, Label, SourceManifest
from unistep.modalities.audio_reading import (
    Loudness,
    Sound,
    UnusableSoundError,
    decode_sound,
    fit_length,
    libraries,
    resample,
    to_int16,
)


def rate_and_length(config: DataConfig) -> tuple[int, int]:
    """Samples per second, and samples, of each sound."""
    rate = config.sample_rate or DEFAULT_RATE
    return rate, max(1, round((config.seconds or DEFAULT_SECONDS) * rate))


def channels_of(config: DataConfig) -> int:
    """1, or 2 where stereo is asked for.

    Raises:
        ValueError: If there are three.
    """
    if config.channels == 3:
        raise ValueError("sounds have 1 channel (mono) or 2 (stereo), got channels 3")
    return config.channels or 1


def sound_contents(
    config: DataConfig, count: int, items: Callable[[], Iterator[Item]], **further: Any
) -> SourceManifest:
    """The contents of a source of sounds.

    Args:
        config: Rate, length and channels.
        count: Number of items.
        items: Starts reading.
        **further: Other fields of :class:`SourceManifest`.

    Raises:
        ValueError: If the libraries that read sounds are not installed.
    """
    libraries()
    rate, samples = rate_and_length(config)
    return SourceManifest(count=count, shape=(channels_of(config), samples), items=items, sample_rate=rate, **further)


def sound_item(
    path: Path,
    name: str,
    label: Label,
    config: DataConfig,
    *,
    expected_type: bool = True,
    trouble: str = "",
    condition: Mapping[str, ConditionValue] | None = None,
    speed: float = 1.0,
) -> Item:
    """An item that reads a sound file by the rules of :func:`unistep.modalities.audio_reading.decode_sound`.

    Args:
        path: The file.
        name: Its name within the source.
        label: Its class.
        config: Rate, length, channels and loudness.
        claims: Whether its name says that it is a sound.
        trouble: Why it cannot be read, where that is known already.
        condition: What else is known of it.
        speed: How fast it is played.
    """
    return Item(
        name=name,
        label=label,
        read=partial(_read, path, config, trouble, speed),
        expected_type=expected_type,
        condition=condition or {},
    )


def array_sound(sound: np.ndarray, rate: int, config: DataConfig, loudness: Loudness) -> Sound:
    """A sound from samples ``[n, c]`` in [-1, 1] that begin where it should, by ``config``."""
    wanted, samples = rate_and_length(config)
    channels = channels_of(config)
    if sound.shape[1] != channels:
        sound = sound.mean(axis=1, keepdims=True) if channels == 1 else np.repeat(sound[:, :1], 2, axis=1)
    if rate != wanted:
        sound = resample(sound, rate, wanted)
    return Sound(values=to_int16(fit_length(sound, samples, wanted), config.loudness or loudness))


def _read(path: Path, config: DataConfig, trouble: str, speed: float) -> Sound:
    if trouble:
        raise UnusableSoundError(trouble, recognised=False)
    rate, samples = rate_and_length(config)
    channels, loudness = 1 if channels_of(config) == 1 else 2, config.loudness or "peak"
    return decode_sound(path, sample_rate=rate, samples=samples, channels=channels, loudness=loudness, speed=speed)
