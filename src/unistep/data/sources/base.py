"""What a source of data offers: its items, not read yet, in a fixed order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from unistep.core.condition import AnyField, ConditionValue
from unistep.data.options import DataConfig

if TYPE_CHECKING:
    from unistep.modalities.base import Decoded, Modality
    from unistep.modalities.feature_roles import FeatureRoles
    from unistep.modalities.recording import Recording

Label = int | str | None
"""A class by number, or by name; ``None`` is no class."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Item:
    """One file or row of a source, not read yet."""

    name: str
    """Its name within the source, for messages."""
    label: Label
    """Its class."""
    read: Callable[[], Decoded | Recording]
    """Reads it, or raises ``UnusableFileError``; safe to call from any thread."""
    kin: str | None = None
    """What it is one of several variants of, such as an emoji without its skin tone; ``None`` where it stands alone."""
    expected_type: bool = True
    """Whether its name says that it is of the modality, so that failing to read it counts as bad."""
    condition: Mapping[str, ConditionValue | tuple[str, ...]] = field(default_factory=dict)
    """Its values of :attr:`SourceManifest.fields`, as a person writes them; of texts, several that say the same."""
    conditions: tuple[Mapping[str, ConditionValue | tuple[str, ...]], ...] = ()
    """The same for each window of a recording, where they differ."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SourceManifest:
    """The items of a source, all of one shape, in a fixed order."""

    modality: str
    """Name of the modality of every item."""
    count: int
    """Number of items, or of windows by the headers of their files, for shares and for a progress bar."""
    shape: tuple[int, ...]
    """Shape of an item: what :attr:`Item.read` gives, or a window of it."""
    items: Callable[[], Iterator[Item]]
    """Starts reading; sequential."""
    label_names: tuple[str, ...] = ()
    """Names of numbered classes, where the source has them."""
    parallel: bool = True
    """Whether decoding is worth several threads."""
    one_channel_if_equal: bool = False
    """Whether items whose channels are all equal, such as grey images stored as RGB, are kept with one channel."""
    windowed: bool = False
    """Whether items are recordings of any length, cut into windows when a batch is read."""
    fields: Mapping[str, AnyField] = field(default_factory=dict)
    """What is known of every item besides its label."""
    licence: str = ""
    """Under which licence the data is, and whose it is, where the source knows."""
    files: int | None = None
    """Number of files, where one holds several items; of bad ones there is one item each."""


class Source(ABC):
    """Where data comes from; a class is registered as a ``source`` under the word that names begin with."""

    modality: ClassVar[str | None] = None
    """Name of the modality of all that it has; ``None`` where its files or the configuration tell."""
    usage: ClassVar[str]
    """How a person writes it, such as ``folder:PATH``."""
    splits: ClassVar[tuple[str, ...]] = ()
    """Its parts, where it has some."""
    local: ClassVar[bool] = False
    """Whether what follows the colon is a path on this machine."""

    @classmethod
    @abstractmethod
    def named(cls, rest: str, config: DataConfig, downloads: Path) -> Source:
        """The source of this kind that a name stands for.

        Args:
            rest: What follows the word and its colon; empty without a colon.
            config: Has the split where ``rest`` names none.
            downloads: Folder for files that have to be downloaded.

        Raises:
            ValueError: If there is no such part.
        """

    @classmethod
    def feature_roles(cls, modality: Modality) -> FeatureRoles:
        """The feature networks that its data, brought to this modality, is evaluated on; else those of the modality."""
        return modality.feature_roles()

    @property
    @abstractmethod
    def name(self) -> str:
        """The source as a person writes it, with its split."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What the items depend on, in JSON's types; cheap, as it is computed at every start.

        Raises:
            ValueError: If the source is not there.
        """

    def modality_of(self, config: DataConfig) -> str:
        """Name of the modality that :meth:`open` gives items of.

        Raises:
            ValueError: If the configuration names another one than the source has.
        """
        found = self.modality
        if found is None:
            raise NotImplementedError(f"{type(self).__name__} has neither a modality nor a method modality_of")
        if config.modality not in (None, found):
            raise ValueError(f"{self.name} has {found} data, got --data.modality {config.modality}; leave it out")
        return found

    def filled(self, config: DataConfig) -> DataConfig:
        """The configuration with the options that are usual for this source, where it does not say otherwise."""
        return config

    def own_shapes(self, config: DataConfig) -> Sequence[tuple[int, ...]]:
        """Shapes of some of its files as they are, where the options decide which size they are brought to; else none.

        Args:
            config: Names the modality, where that is not the source's.
        """
        del config
        return ()

    @abstractmethod
    def open(self, config: DataConfig) -> SourceManifest:
        """Get ready to read.

        Raises:
            ValueError: If the source is not there or is not what it should be.
        """


class LocalSource(Source):
    """A source that is a path on this machine, and has no splits."""

    local: ClassVar[bool] = True

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def named(cls, rest: str, config: DataConfig, downloads: Path) -> Self:
        """The source at a path.

        Raises:
            ValueError: If there is no path, or a split is asked for.
        """
        from unistep.data.sources.paths import path_of

        del downloads
        prefix = config.prefix
        if not rest:
            raise ValueError(f"{prefix}: needs a path after the colon, such as {cls.usage}")
        if config.split != "train":
            raise ValueError(f"{prefix}: sources have no splits, got split {config.split!r}; give that part's own path")
        return cls(path_of(rest, cls.usage))
