"""The models of a server: loaded when they are asked for, and dropped when their weights take too much memory."""

from __future__ import annotations

import os
import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from unistep.generation.model_config import ModelConfig
from unistep.hub.load import find, load, models
from unistep.hub.save import CONFIG, WEIGHTS
from unistep.serialization import read_json
from unistep.serving.latency import Latency
from unistep.spelling import nearest

if TYPE_CHECKING:
    from unistep.generation.generator import Generator
    from unistep.serving.settings import Settings


class UnknownModelError(ValueError):
    """There is no such model here."""


@dataclass(kw_only=True, eq=False)
class Served:
    """A loaded model."""

    name: str
    """What clients call it."""
    generator: Generator
    """The model."""
    model_hash: str
    """SHA-256 of its weights."""
    latencies: dict[Hashable, Latency] = field(default_factory=dict)
    """How long its batches take, by kind of work."""
    streams: int = 0
    """Live streams of it."""
    used: float = field(default_factory=time.monotonic)
    """When it was last asked for."""

    def latency(self, kind: Hashable) -> Latency:
        """How long batches of one kind of work take."""
        return self.latencies.setdefault(kind, Latency())

    @property
    def bytes(self) -> int:
        """Bytes of its weights in memory."""
        network, codec = self.generator.map, self.generator.codec
        parts = (*network.parameters(), *network.buffers(), *codec.parameters(), *codec.buffers())
        return sum(one.numel() * one.element_size() for one in parts)


class Pool:
    """Models by the names under which clients know them; nothing else is ever loaded.

    Args:
        settings: Which models, where, and how much memory they may take.

    Raises:
        ValueError: If there is no such model, or two would have one name.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        wanted = settings.models or tuple(name for name, path in models().items() if _is_quick(path))
        self.folders: dict[str, Path] = {}
        """Folder of each model."""
        for one in wanted:
            folder = Path(os.path.abspath(find(one)))  # a game that begins changes the directory for a moment
            name = _name_of(one, folder)
            if name in self.folders:
                raise ValueError(f"two models would be called {name!r}: {self.folders[name]} and {folder}")
            self.folders[name] = folder
        self.configs = {name: read_json(ModelConfig, path / CONFIG) for name, path in self.folders.items()}
        """Description of each model."""
        self.hashes: dict[str, str] = {}
        """SHA-256 of the weights of each model that was ever loaded."""
        self._loaded: dict[str, Served] = {}
        self._lock, self._changing = Lock(), Lock()

    @property
    def loaded(self) -> Mapping[str, Served]:
        """Those that are in memory."""
        return dict(self._loaded)

    def config(self, name: str) -> ModelConfig:
        """The description of a model.

        Raises:
            UnknownModelError: If it is not served here.
        """
        if name not in self.configs:
            shown = f"{name[:60]!r}"
            raise UnknownModelError(f"there is no model {shown} here; {nearest(name[:60], list(self.configs))}")
        return self.configs[name]

    def get(self, name: str) -> Served:
        """A model, loaded where it is not; for a thread that may wait.

        Raises:
            UnknownModelError: If it is not served here.
        """
        self.config(name)
        found = self._loaded.get(name)
        if found is None:
            with self._changing:  # one is loaded at a time
                found = self._loaded.get(name) or self._load(name)
        found.used = time.monotonic()
        return found

    def find(self, name: str) -> Served | None:
        """A model that is in memory, which counts as asked for; ``None`` for others."""
        found = self._loaded.get(name)
        if found is not None:
            found.used = time.monotonic()
        return found

    def drop(self, name: str) -> None:
        """Forget a model that is in memory."""
        with self._lock:
            self._loaded.pop(name, None)

    def load(self, name: str) -> Generator:
        """A model once more, which nobody else has."""
        settings = self._settings
        precision: Any = "fp32" if settings.precision == "int8" else settings.precision
        generator = load(self.folders[name], device=settings.device, precision=precision)
        generator.name = name
        return generator

    def _load(self, name: str) -> Served:
        from unistep.generation.saving import model_hash

        generator = self.load(name)
        served = Served(name=name, generator=generator, model_hash=model_hash(generator))
        self.hashes[name] = served.model_hash
        self._make_room(served.bytes)
        with self._lock:
            self._loaded[name] = served
        return served

    def _make_room(self, wanted: int) -> None:
        """Drop what was not used for longest, but for models with live streams, until so many bytes fit."""
        budget = self._settings.memory
        while budget and sum(one.bytes for one in self._loaded.values()) + wanted > budget:
            idle = [one for one in self._loaded.values() if one.streams == 0]
            if not idle:
                return
            with self._lock:
                self._loaded.pop(min(idle, key=lambda one: one.used).name, None)


def _name_of(given: str, folder: Path) -> str:
    """What clients call a model: its name among those that ship or on the hub, else that of its folder, or of its run.

    Args:
        given: What the person gave who started the server.
        folder: What was found by it, from the root on: ``.`` has no name.
    """
    if given in models() or not Path(given).expanduser().is_dir():
        return given
    return folder.name if folder.name != "model" else folder.parent.name


def _is_quick(folder: Path) -> bool:
    """Whether a shipped model makes samples in few network calls."""
    return (folder / WEIGHTS).is_file() and read_json(ModelConfig, folder / CONFIG).kind != "denoiser"
