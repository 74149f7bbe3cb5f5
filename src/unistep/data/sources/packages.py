"""Data that packages of the system bring, where they are installed."""

from __future__ import annotations


def missing_package(what: str, package: str) -> ValueError:
    """The error to raise where a package of the system is not installed."""
    return ValueError(f"{what} needs Debian's package {package}, which is not installed: apt-get install {package}")


def check_part(part: str, known: tuple[str, ...], message: str) -> None:
    """Check that a part of a source exists.

    Raises:
        ValueError: If not; ``message`` says which do.
    """
    if part not in known:
        raise ValueError(f"{message}, got {part!r}")
