"""A file that cannot be used, with the reason for the summary."""

from __future__ import annotations


class UnusableFileError(ValueError):
    """A file that gives no item of the wanted kind; the message is the reason.

    Args:
        reason: Why not, in a few words.
        recognised: Whether its content is of that kind, though broken.
    """

    def __init__(self, reason: str, *, recognised: bool = True) -> None:
        super().__init__(reason)
        self.recognised = recognised
