"""Failures of a command other than mistakes in what was typed."""

from __future__ import annotations

INTERRUPTED = 130
"""Exit code after Ctrl-C."""


class CommandError(RuntimeError):
    """The work could not be done; one line says why and what is safe. Exit code 1."""
