"""Streams of audio: 16-bit samples for a pipe, and files that grow chunk by chunk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from torch import Tensor

from unistep.files import DiskError, replacing
from unistep.modalities.audio_reading import libraries, quantise
from unistep.modalities.audio_writing import FORMATS
from unistep.modalities.stream_output import StreamOutput, leave


def audio_stream(sample_rate: int, channels: int) -> StreamOutput:
    """The output of a stream of audio.

    Args:
        sample_rate: Samples per second.
        channels: 1 for mono, 2 for stereo.
    """
    return StreamOutput(
        content="sound",
        raw="samples",
        rate=sample_rate,
        player=f"aplay -f S16_LE -r {sample_rate} -c {channels}",
        endings=tuple(FORMATS),
        to_bytes=lambda chunk: quantise(chunk.numpy().T).astype("<i2").tobytes(),
        open_file=partial(_open_file, sample_rate, channels),
    )


@contextmanager
def _open_file(
    sample_rate: int, channels: int, path: Path, finish: Callable[[Path], object] = leave
) -> Iterator[Callable[[Tensor], object]]:
    """Write a file chunk by chunk; it replaces an older one when the block ends.

    Raises:
        ValueError: If it cannot be written; a :class:`~unistep.files.DiskError` on a full or broken disk.
    """
    soundfile, _ = libraries()
    container, code = FORMATS[path.suffix.lower()]
    with replacing(path) as temporary:
        try:
            with soundfile.SoundFile(temporary, "w", sample_rate, channels, code, format=container) as file:
                yield lambda chunk: file.write(quantise(chunk.numpy().T))
        except soundfile.LibsndfileError as error:
            # Of a full disk libsndfile says only that the system failed; writing there ourselves says how.
            with temporary.open("ab", buffering=0) as probe:
                probe.write(bytes(2**20))
                os.fsync(probe.fileno())
            raise DiskError(f"cannot write {path}: {error.error_string}") from None
        finish(temporary)
