"""Places that a text names."""

from __future__ import annotations

import pytest

from unistep.editing.masks import parse_mask
from unistep.modalities.layout import Layout

SHAPE, PICTURES = (3, 8, 12), Layout(space=(2, 3))


def test_rectangles_and_ellipses_cover_what_lies_inside() -> None:
    rectangle = parse_mask("2,1,5,4", SHAPE, PICTURES)
    assert rectangle.shape == (1, 1, 8, 12)
    assert rectangle[0, 0, 1:4, 2:5].all()
    assert int(rectangle.sum()) == 9
    assert int(parse_mask("ellipse:2,1,6,5", SHAPE, PICTURES).sum()) == 12  # all but the corners


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("circle:2,1,5,4", "unknown mask 'circle:2,1,5,4'"),  # which was a rectangle
        ("2.1,2.1,2.4,2.4", "'2.1,2.1,2.4,2.4' holds the middle of no pixel"),  # nothing changed, without a word
    ],
)
def test_masks_that_are_none_are_one_line(text: str, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        parse_mask(text, SHAPE, PICTURES)
