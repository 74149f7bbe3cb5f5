"""Which feature networks a kind of signal is evaluated on, and what the figures of each are for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True, kw_only=True)
class FeatureRoles:
    """The networks that models may be trained on, the one by which they are chosen, and those that report.

    Whatever is trained on a network or chosen by it looks better on it than elsewhere: so no network has two roles.
    """

    training: tuple[str, ...] = ("scales", "random-convolutions")
    """Names of the networks of objectives that compare features."""
    selection: str
    """Name of the network for searches, early stopping and averages."""
    reporting: tuple[str, ...]
    """Names of the networks of published figures: at least two, trained differently."""

    def __post_init__(self) -> None:
        """Check the roles.

        Raises:
            ValueError: If a network has two roles, there are fewer than two to report, or one is named twice.
        """
        for name in (self.selection, *self.training):
            others = (*self.reporting, *(self.training if name == self.selection else ()))
            if name in others:
                does = "select" if name == self.selection else "train"
                raise ValueError(f"features {name!r} {does}, so they have no other role; name others for it")
        if len(set(self.reporting)) != len(self.reporting) or len(self.reporting) < 2:
            named = ", ".join(self.reporting) or "none"
            raise ValueError(f"figures are reported on at least two different feature networks, got {named}")

    @property
    def evaluation(self) -> tuple[str, ...]:
        """The networks of an evaluation, those that report first."""
        return (*self.reporting, self.selection)
