"""Further metrics beside held-out data and a teacher, with intervals, as the distances of feature networks are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from unistep.evaluation.intervals import Resampled
from unistep.evaluation.report import ExtraFigure

Found = Mapping[str, float | Resampled]
"""What further metrics found of a row, by column; those of which random halves are known have intervals."""


def values(found: Found) -> dict[str, float]:
    """The figures without their intervals."""
    return {name: figure.value if isinstance(figure, Resampled) else figure for name, figure in found.items()}


def extra_figures(found: Found, held_out: Found | None, alike: Found | None = None) -> dict[str, ExtraFigure]:
    """Intervals, and ratios to held-out data, of the figures that have halves.

    Args:
        found: What was found of a row.
        held_out: What was found of held-out data, where there is some.
        alike: What was found of as many samples of the row as there are held-out items, for figures that depend on it.
    """
    made = {}
    for name, figure in found.items():
        if isinstance(figure, Resampled):
            real = None if held_out is None else held_out.get(name)
            own = (alike or {}).get(name, figure)
            over = own.over(real) if isinstance(own, Resampled) and isinstance(real, Resampled) else None
            made[name] = ExtraFigure(margin=figure.estimate.margin, over_test=over)
    return made


def over_teacher(made: Mapping[str, ExtraFigure], found: Found, teacher: Found) -> dict[str, ExtraFigure]:
    """The same with ratios to the teacher's row.

    Args:
        made: What :func:`extra_figures` made of the row.
        found: What was found of it.
        teacher: What was found of the teacher's best row.
    """
    ratios = {}
    for name, figure in found.items():
        theirs = teacher.get(name)
        if isinstance(figure, Resampled) and isinstance(theirs, Resampled):
            ratios[name] = figure.over(theirs)
    return {name: replace(figure, over_teacher=ratios.get(name)) for name, figure in made.items()}
