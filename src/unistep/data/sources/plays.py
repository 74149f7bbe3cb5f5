"""Windows of the episodes of played games."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from unistep.core.condition import AnyField
from unistep.data.sources.base import Item, SourceManifest
from unistep.data.sources.limits import evenly_spaced
from unistep.data.sources.recording_apart import Played
from unistep.modalities.recording import Recording
from unistep.modalities.video_options import VideoOptions


@dataclass(frozen=True, kw_only=True)
class Part:
    """Frames of an episode that follow each other."""

    number: int
    """Number of the episode."""
    first: int
    """First frame."""
    frames: int
    """How many."""


def windows_of(
    numbers: Sequence[int],
    length: int,
    *,
    options: VideoOptions,
    side: int,
    limit: int | None,
    name: Callable[[int], str],
    record: Callable[[Part], Played],
    fields: Mapping[str, AnyField],
    licence: str,
) -> SourceManifest:
    """The clips of episodes: one begins every stride, always there, since its actions are known for that place alone.

    Args:
        numbers: Which episodes.
        length: Frames of each.
        options: Length, stride and colours of the clips.
        side: Side of the square frames, in pixels.
        limit: Use at most so many clips, spread evenly.
        name: What an episode is called in messages.
        record: Plays the part of an episode that is needed; called from several threads at once.
        fields: The field ``action``.
        licence: Of the pictures.
    """
    starts = range(0, length - options.length + 1, options.step)
    chosen = frozenset(evenly_spaced(len(numbers) * len(starts), limit))
    channels = options.channels or 3

    def items() -> Iterator[Item]:
        for i, number in enumerate(numbers):
            wanted = [start for k, start in enumerate(starts) if i * len(starts) + k in chosen]
            if wanted:
                part = Part(number=number, first=wanted[0], frames=wanted[-1] + options.length - wanted[0])
                begin = tuple(start - wanted[0] for start in wanted)
                read = partial(_read, partial(record, part), begin, options.length, channels)
                yield Item(name=name(number), label=None, read=read)

    return SourceManifest(
        modality="video",
        count=len(chosen),
        shape=(channels, options.length, side, side),
        items=items,
        windowed=True,
        fields=fields,
        licence=licence,
    )


def _read(record: Callable[[], Played], starts: tuple[int, ...], length: int, channels: int) -> Recording:
    frames, actions = record()
    if channels == 1:
        red, green, blue = frames.astype(np.uint32).swapaxes(0, 1)
        frames = ((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16).astype(np.uint8)[:, None]  # as Pillow's
    conditions = tuple({"action": actions[start : start + length]} for start in starts)
    return Recording(blocks=iter([frames]), starts=starts, conditions=conditions)
