"""What a kind of signal defines: files to signals and back, previews, and which codec, network and features suit it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from unistep.modalities.augmentation import ConditionalAugmentation
from unistep.modalities.enough import EnoughItems
from unistep.modalities.feature_roles import FeatureRoles
from unistep.modalities.layout import Layout
from unistep.modalities.signal_options import SignalOptions

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL import Image
    from torch import Tensor, nn

    from unistep.codecs.base import CodecConfig
    from unistep.modalities.recording import Recording
    from unistep.modalities.stream_output import StreamOutput
    from unistep.nets.config import NetworkConfig


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """One item of a data set as it is stored, and remarks on what was done to it."""

    values: np.ndarray
    """The signal in its stored type, such as uint8 pixels ``[c, h, w]`` or int16 samples ``[c, n]``."""
    notes: tuple[str, ...] = ()
    """Remarks, such as ``turned upright``, that a summary counts."""
    references: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Reference signals that belong to it by the name of their condition, in their stored type."""


class Modality(ABC):
    """A kind of signal, with the shape of one item: a frozen dataclass, registered as a ``modality``."""

    REGISTRY_KIND: ClassVar[str] = "modality"

    noun: ClassVar[str]
    """What one item is called, such as ``image``; with an s it is the plural."""
    suffixes: ClassVar[frozenset[str]]
    """How names of its files end, in lower case with the dot."""
    options: ClassVar[type[SignalOptions]]
    """How its files become items."""
    previews: ClassVar[int] = 16
    """Number of samples that a training run shows."""
    example: ClassVar[str]
    """Where samples go by default, such as ``samples.png``."""
    exact: ClassVar[str | None] = None
    """How names of files end that hold an item as it is stored, where those of :attr:`example` do not."""
    augmentations: ClassVar[Mapping[str, Callable[..., Any]]] = {}
    """Random changes of one stored item in training, by name: functions of it and of a generator."""
    conditional_augmentations: ClassVar[Mapping[str, ConditionalAugmentation]] = {}
    """Random changes that a vector describes, which the network is given, by name."""
    media_types: ClassVar[Mapping[str, str]] = {"npz": "application/octet-stream"}
    """Media type of each format that :meth:`encode` writes for others to read, the usual one first."""
    plays: ClassVar[bool] = False
    """Whether a player's actions may belong to each moment of its recordings, in tables beside them."""
    default_source: ClassVar[str | None] = None
    """Data that models of this modality are compared with where nothing is known of them."""

    # What an item is.

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of one signal: channels first."""

    @property
    @abstractmethod
    def described(self) -> str:
        """The shape in words, such as ``28 x 28 pixels, grey``."""

    @property
    def media(self) -> str:
        """The first part of its media types, such as ``image``: who it is for."""
        return next(iter(self.media_types.values())).partition("/")[0]

    @property
    def seconds(self) -> float | None:
        """How long one signal lasts; ``None`` for a kind of signal without time."""
        return None

    @property
    def rate(self) -> int | None:
        """Values per second along the last axis; ``None`` for a kind of signal without time."""
        return None if self.seconds is None else round(self.shape[-1] / self.seconds)

    @property
    def still(self) -> Modality | None:
        """What one moment of such a signal is, where that is a signal, as the image of a video; else ``None``."""
        return None

    def stills(self, x: Tensor) -> Tensor:
        """The moments of signals, ``[b, *shape]`` to ``[b, moments, *still.shape]``.

        Raises:
            ValueError: If one moment is no signal itself.
        """
        del x
        raise ValueError(f"one moment of {self.noun}s is no signal itself")

    def part(self, shape: tuple[int, ...]) -> Modality:
        """The same kind of signal in the shape of a part of it, such as one chunk of a stream.

        Raises:
            ValueError: If there are no streams of such signals.
        """
        del shape
        raise ValueError(f"there are no streams of {self.noun}s: they have no last axis that could be time")

    @property
    def stream_output(self) -> StreamOutput:
        """How streams of such signals reach a player or a file.

        Raises:
            ValueError: If such signals cannot be played.
        """
        raise ValueError(f"{self.noun}s cannot be played: they do not last in time")

    @property
    def layout(self) -> Layout:
        """What the axes of such signals mean, for editing; nothing is known of them without."""
        return Layout()

    @abstractmethod
    def to_signal(self, stored: Tensor) -> Tensor:
        """Stored items as float32 signals in [-1, 1], on the same device."""

    @abstractmethod
    def to_stored(self, signal: Tensor) -> Tensor:
        """Inverse of :meth:`to_signal`: rounded and clamped to what files hold.

        Raises:
            ValueError: If there are values that are not numbers.
        """

    def quantised(self, signal: Tensor) -> Tensor:
        """Signals in [-1, 1] rounded to the levels that stored ones have."""
        return self.to_signal(self.to_stored(signal))

    def mismatch(self, other: Modality) -> str | None:
        """What keeps items of ``other`` from being compared with items of this one, or ``None``."""
        if type(other) is not type(self):
            return f"{self.noun}s instead of {other.noun}s"
        return None if other == self else f"{self.described} instead of {other.described}"

    @classmethod
    def expect(cls, modality: Modality, purpose: str) -> Self:
        """``modality``, which must be of this class.

        Args:
            modality: Any modality.
            purpose: What needs it, in the plural, for the message.

        Raises:
            ValueError: If it is of another class.
        """
        if not isinstance(modality, cls):
            raise ValueError(f"{purpose} need {cls.noun}s, and these are {modality.noun}s")
        return modality

    # From files.

    @classmethod
    @abstractmethod
    def fitted(cls, options: Any, shape: tuple[int, ...]) -> Modality:
        """The modality of items of ``shape`` that were read by ``options``."""

    @classmethod
    @abstractmethod
    def item_shape(cls, options: Any) -> tuple[int, ...]:
        """Shape of what :meth:`read` gives by these options.

        Raises:
            ValueError: If the options do not say it.
        """

    @abstractmethod
    def as_options(self) -> Any:
        """The options by which :meth:`read` gives items of this modality: for data to compare its samples with."""

    def shape_option(self, shape: tuple[int, ...]) -> str:
        """What a person types to get signals of ``shape``, such as ``--data.size 32``; empty where nothing does."""
        del shape
        return ""

    @classmethod
    @abstractmethod
    def read(cls, path: Path, options: Any) -> Decoded:
        """Read a file and bring it to :meth:`item_shape`; safe to call from any thread or process.

        Raises:
            UnusableFileError: If it is none, with the reason.
        """

    @classmethod
    def one_channel_if_equal(cls, options: Any) -> bool:
        """Whether items are kept with one channel where all of a source's have equal channels, such as grey images."""
        del options
        return False

    @classmethod
    def count_windows(cls, path: Path, options: Any) -> int:
        """How many windows a recording has, by its header; at least one."""
        del path, options
        return 1

    @classmethod
    def read_windows(cls, path: Path, options: Any) -> Recording:
        """Read the whole of a recording, of which items are windows as long as :meth:`item_shape` has it.

        Raises:
            UnusableFileError: If it is none, with the reason.
            ValueError: If this kind of signal has no time that could be cut.
        """
        del options
        raise ValueError(f"{path.name}: {cls.noun}s cannot be cut into windows")

    @classmethod
    def of_tensors(cls, shape: tuple[int, ...], dtype: torch.dtype) -> Modality | None:
        """The modality of plain tensors, where their shape and type leave no doubt.

        Args:
            shape: Shape of one, channels first.
            dtype: Type of the values.
        """
        del shape, dtype
        return None

    @property
    def meaning(self) -> tuple[Any, ...]:
        """What stored values do not say themselves, such as a sampling rate, for fingerprints of data."""
        return ()

    @abstractmethod
    def load(self, path: str | Path) -> Tensor:
        """Read one file as a signal of :attr:`shape` in [-1, 1].

        Raises:
            ValueError: If it cannot be read, with the reason.
        """

    def load_end(self, path: str | Path) -> Tensor:
        """The end of a file as a signal of :attr:`shape`, for streams to go on from; the file itself where it has none.

        Raises:
            ValueError: If it cannot be read, with the reason.
        """
        return self.load(path)

    def moments_in(self, path: str | Path) -> int | None:
        """Steps in time that a file has for :meth:`load`, which pads the rest; ``None`` where it pads nothing."""
        return None

    # To files and previews.

    @abstractmethod
    def save(self, x: Tensor, path: str | Path, *, labels: Sequence[int] | None = None) -> None:
        """Write signals in [-1, 1]; what is written depends on how ``path`` ends.

        Raises:
            ValueError: If ``path`` cannot be written.
        """

    @abstractmethod
    def encode(self, x: Tensor, format: str) -> bytes:
        """Signals as the bytes of one file of a ``format`` such as ``png``, for a web handler.

        Raises:
            ValueError: For an unknown format.
        """

    @abstractmethod
    def check_path(self, path: str | Path) -> None:
        """Raise now what :meth:`save` would raise after the work is done."""

    @abstractmethod
    def save_preview(self, x: Tensor, folder: Path, name: str) -> None:
        """Write files that show (or play) what samples are like, named after ``name``."""

    @abstractmethod
    def grid(self, x: Tensor, columns: int | None = None, labels: Sequence[str] | None = None) -> Image.Image:
        """Pictures of signals side by side, in reading order, with words under each where there are ``labels``."""

    @abstractmethod
    def contact_sheet(self, rows: Sequence[tuple[str, Tensor]]) -> Image.Image:
        """One row of pictures for each title."""

    # What suits it.

    @abstractmethod
    def default_codec(self) -> CodecConfig:
        """The codec that a new model of such signals has."""

    def feature_roles(self) -> FeatureRoles:
        """The feature networks that such signals are evaluated on where their data has none of its own.

        Fixed ones select, since they are there at once; the one that learns from the data itself reports.
        """
        return FeatureRoles(selection="random-convolutions:1", reporting=("vicreg", "pixels"))

    def feature_map(self) -> nn.Module:
        """What convolutional feature networks see of signals: ``[b, *shape] -> [b, c, *places]``, differentiable.

        Maps of two axes, or of three where one is time. The values themselves without, all axes between the first and
        the last as one.
        """
        from unistep.modalities.feature_map import AsMap

        return AsMap()

    def random_view(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Signals ``[b, *shape]`` changed at random in ways that leave them what they are, for learning without labels.

        Moved along the last axis by up to an eighth, and louder or softer by up to 3 dB.
        """
        from unistep.modalities.views import scaled, shifted

        return scaled(shifted(x, (x.shape[-1] // 8,), generator), 3.0, generator)

    @classmethod
    def usual(cls) -> Modality:
        """The modality with a usual shape, for a configuration whose data is not known yet."""
        options = cls.options()
        return cls.fitted(options, cls.item_shape(options))

    def default_base(self) -> str | None:
        """Name of a shipped denoiser that a new model of such signals may start from; ``None`` for fresh weights."""
        return None

    def enough_items(self, *, from_base: bool) -> EnoughItems | None:
        """How much training such signals want for good samples; ``None`` where no measurement says.

        Args:
            from_base: Whether a denoiser starts from the :meth:`default_base`.
        """
        del from_base
        return None

    @classmethod
    def file_shape(cls, path: Path) -> tuple[int, ...] | None:
        """The shape of a file as it is, by its header; ``None`` where it says none, or cannot be read."""
        del path
        return None

    @classmethod
    def sizes_to_consider(cls, options: Any, shapes: Sequence[tuple[int, ...]]) -> Sequence[Modality]:
        """Sizes to choose among by the budget, from small to large; none where the options leave nothing open.

        Args:
            options: How files become signals.
            shapes: The :meth:`file_shape` of some files.
        """
        del options, shapes
        return ()

    @classmethod
    def options_like(cls, options: Any, known: Modality) -> Any:
        """The options with the size of ``known``, where they leave it open."""
        del known
        return options

    @abstractmethod
    def default_networks(self, shape: tuple[int, ...]) -> Sequence[NetworkConfig]:
        """Networks that suit a new model, from cheap to large, before they are fitted to ``shape``.

        Args:
            shape: What the codec makes of one signal, ``(channels, *spatial)``.
        """

    @classmethod
    def tuning(cls, objective: str) -> Mapping[str, Any]:
        """What suits such signals better than a method's own defaults.

        Args:
            objective: Name of the objective, such as ``ect``.

        Returns:
            Overrides of a method's fields by name, in nested mappings, such as ``{"objective": {"weighting": "one"}}``.
        """
        del objective
        return {}

    @classmethod
    def post_training_share(cls, objective: str) -> float:
        """Share of a run's budget that post-training gets at its end where that is left open; 0 where nothing is known.

        Args:
            objective: Name of the objective that the run trains by.
        """
        del objective
        return 0.0
