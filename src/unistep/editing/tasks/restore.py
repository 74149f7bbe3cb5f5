"""Signals from a measurement by an operator of one's own."""

from __future__ import annotations

from typing import Any

from unistep.editing.solvers import Settings
from unistep.editing.task import Restoration


class Restore(Restoration):
    """Whatever was measured, by any object with ``A`` and ``A_dagger``."""

    summary = "restore signals from measurements by an operator of your own (from Python)"
    takes = ("operator", "sigma")
    needs = ("operator",)
    settings = Settings(first=8.0, last=0.4)

    def operator(self, num: int) -> Any:
        """The one that was given."""
        del num
        return self.options.operator

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Whatever the operator makes."""
        return ()
