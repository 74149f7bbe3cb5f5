"""Options that say how files become signals; each modality has a class of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, ClassVar, Self


class SignalOptions:
    """How files of one modality become signals of one shape: a frozen dataclass whose fields are options of ``--data``.

    ``unistep train ... --data.NAME`` sets a field, so their names must not be those of
    :class:`~unistep.data.options.DataConfig`. Its ``__post_init__`` checks them and raises ``ValueError``.
    """

    REGISTRY_KIND: ClassVar[str] = "modality"
    REGISTRY_PART: ClassVar[str] = "options"

    @property
    def windowed(self) -> bool:
        """Whether files are recordings of any length, of which each item is a window."""
        return False

    def as_windows(self) -> Self:
        """The same options with windows of recordings as the items.

        Raises:
            ValueError: If files of this kind are not recordings.
        """
        raise ValueError(f"{type(self).__name__} has no windows: its files are items, not recordings")

    def apart(self) -> Self:
        """The same options with windows of which none overlap.

        Raises:
            ValueError: If files of this kind are not recordings.
        """
        return self.as_windows()

    def as_written(self) -> Self:
        """The same options for files that hold finished items: nothing is done to them once more."""
        return self

    def filled(self, shapes: Callable[[], Sequence[tuple[int, ...]]]) -> Self:
        """The options with what only the files can say, where they leave it open.

        Args:
            shapes: Finds the shapes of some of the files, by their headers.
        """
        del shapes
        return self

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The options by name."""
        return tuple(field.name for field in fields(cls))  # type: ignore[arg-type]

    @property
    def given(self) -> dict[str, Any]:
        """The options that differ from their defaults."""
        mine = {field.name: (getattr(self, field.name), field.default) for field in fields(self)}  # type: ignore[arg-type]
        return {name: value for name, (value, default) in mine.items() if value != default}

    @property
    def key(self) -> dict[str, Any]:
        """The options for the key of a cache: those that differ from what is done without them."""
        return self.given


def check_whole(**values: object) -> None:
    """Check that options are whole numbers or ``None``.

    Raises:
        ValueError: Naming the first one that is not.
    """
    for name, value in values.items():
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise ValueError(f"{name} must be a whole number, got {value!r}")


def check_text(usual: dict[str, str], **values: object) -> None:
    """Check that options are text.

    Args:
        usual: A usual value of each, for the message.
        **values: The options.

    Raises:
        ValueError: Naming the first one that is not.
    """
    for name, value in values.items():
        if not isinstance(value, str):
            raise ValueError(f"{name} must be a text such as {usual[name]}, got {value!r}")
