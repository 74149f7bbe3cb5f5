"""A few notes that come with this package, for tests and first trials."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

from unistep.data.options import DataConfig
from unistep.data.sources.audio_items import array_audio, audio_manifest
from unistep.data.sources.base import Item, Source, SourceManifest
from unistep.data.sources.limits import evenly_spaced
from unistep.data.sources.notes import FIELDS, PROGRAMS
from unistep.data.sources.soundfont import FONTS
from unistep.modalities.audio_options import AudioOptions
from unistep.modalities.audio_reading import libraries

EXCERPT = Path(__file__).parent / "bundled" / "notes"
"""Where they are."""


@dataclass(frozen=True, kw_only=True)
class Excerpt(Source):
    """The notes that come with this package, 16 kHz, mono, one second."""

    modality: ClassVar[str | None] = "audio"
    usage: ClassVar[str] = "notes:excerpt"

    @classmethod
    def named(cls, rest: str, config: DataConfig, downloads: Path) -> Self:
        """There is one."""
        del rest, config, downloads
        return cls()

    @property
    def name(self) -> str:
        """As a person writes it."""
        return "notes:excerpt"

    def identity(self) -> dict[str, Any]:
        """Names and lengths of the files."""
        return {"notes-excerpt": [[path.name, path.stat().st_size] for path in self._files()]}

    def _files(self) -> list[Path]:
        return sorted(EXCERPT.glob("*.flac"))

    def open(self, config: DataConfig) -> SourceManifest:
        """Get ready to read the files.

        Raises:
            ValueError: If the libraries that read sounds are not installed.
        """
        soundfile, _ = libraries()
        options: AudioOptions = config.options_for(self.modality_of(config))
        files = self._files()
        chosen = [files[i] for i in evenly_spaced(len(files), config.limit)]

        def items() -> Iterator[Item]:
            for path in chosen:
                instrument, pitch, velocity = path.stem.split("-")
                values, rate = soundfile.read(path, dtype="float32", always_2d=True)
                yield Item(
                    name=path.stem,
                    label=None,
                    read=partial(array_audio, values, rate, options, "keep"),
                    condition={
                        "instrument": list(PROGRAMS).index(instrument),
                        "pitch": int(pitch),
                        "velocity": int(velocity),
                    },
                )

        licence = next(iter(FONTS.values())).licence
        return audio_manifest(options, len(chosen), items, fields=FIELDS, licence=licence, parallel=False)
