"""Options that are one of a few words, of objectives and optimizers that are made in Python."""

from __future__ import annotations

import pytest

from unistep.objectives import CDConfig, CTConfig, CTMConfig, DenoisingConfig, IMMConfig
from unistep.optimizers import AdamConfig


@pytest.mark.usefixtures("_without_type_checks")
@pytest.mark.parametrize(
    ("kind", "wrong", "known"),
    [
        (CTConfig, {"weighting": "inverse"}, "one, inverse_gap"),
        (CTMConfig, {"bridge": "teacher"}, "student, target"),
        (CDConfig, {"solver": "rk4"}, "euler, heun"),
        (IMMConfig, {"second_time": "data"}, "uniform, boundary"),
        (DenoisingConfig, {"pairing": "ot"}, "independent, optimal_transport"),
        (AdamConfig, {"kind": "adam"}, "adamw, radam"),
    ],
)
def test_a_word_that_an_option_does_not_have_is_refused_where_it_is_made(
    kind, wrong: dict[str, str], known: str
) -> None:
    """In Python, too; some were taken for another word."""
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name} must be one of {known}, got {value!r}"):
        kind(**wrong)
