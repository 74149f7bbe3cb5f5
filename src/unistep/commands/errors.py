"""Failures of a command that are nobody's mistake in typing."""

from __future__ import annotations


class CommandError(RuntimeError):
    """The work could not be done; one line says why and what is safe. Exit code 1."""
