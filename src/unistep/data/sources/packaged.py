"""Sound files of installed packages, sorted into classes by their names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from unistep.data.options import DataConfig
from unistep.data.sources.audio_items import audio_item, audio_manifest
from unistep.data.sources.base import Item, Source, SourceManifest
from unistep.data.sources.limits import evenly_spaced
from unistep.modalities.audio_options import AudioOptions


@dataclass(frozen=True, kw_only=True)
class Packaged(Source):
    """Files of installed packages, sorted into classes by their names."""

    modality: ClassVar[str | None] = "audio"

    name_written: str
    """The source as a person writes it."""
    files: tuple[tuple[Path, str], ...]
    """Each file with its class."""
    licence: str
    """Under which licences they are."""
    tunings: tuple[int, ...] = (0,)
    """Semitones by which each is tuned, once for each, as a drummer tunes a drum."""

    @property
    def name(self) -> str:
        """As a person writes it."""
        return self.name_written

    def identity(self) -> dict[str, Any]:
        """Names, lengths and classes of the files."""
        files = [[str(path), path.stat().st_size, label] for path, label in self.files]
        return {self.name_written: files} | ({"tunings": list(self.tunings)} if self.tunings != (0,) else {})

    def open(self, config: DataConfig) -> SourceManifest:
        """Get ready to read the files.

        Raises:
            ValueError: If the libraries that read sounds are not installed.
        """
        options: AudioOptions = config.options_for(self.modality_of(config))
        all_of_them = [(*file, tuning) for file in self.files for tuning in self.tunings]
        chosen = [all_of_them[i] for i in evenly_spaced(len(all_of_them), config.limit)]

        def items() -> Iterator[Item]:
            for path, label, tuning in chosen:
                name = "/".join(path.parts[-3:]) + (f" {tuning:+d}" if tuning else "")
                yield audio_item(path, name, label, options, speed=2 ** (tuning / 12))

        return audio_manifest(options, len(chosen), items, licence=self.licence)
