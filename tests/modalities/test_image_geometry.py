"""EDM's augmentation: the vector says what was done to an image, and the image shows what the vector says."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from unistep.modalities.image_geometry import GeometricAugmentation

AUGMENTATION = GeometricAugmentation()
IMAGE = torch.randint(0, 256, (3, 9, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def vector(**numbers: float) -> Tensor:
    """A vector with these numbers, zeros elsewhere."""
    names = ("left", "top", "scale", "cosine", "sine", "along", "across", "right", "down")
    return torch.tensor([numbers.get(name, 0.0) for name in names])


def turned(degrees: float) -> dict[str, float]:
    """The numbers of a rotation."""
    angle = math.radians(degrees)
    return {"cosine": math.cos(angle) - 1, "sine": math.sin(angle)}


def spot(row: int, column: int, size: int = 65) -> Tensor:
    """A smooth bright spot, whose centre can be found between pixels."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return (-((rows - row) ** 2 + (columns - column) ** 2) / 18).exp()[None]


def centre(image: Tensor) -> list[float]:
    """Row and column of the centre of the brightest spot, from the centre of the image."""
    bright = (image[0] - image.max() / 4).clamp(min=0)  # without the tails of what is mirrored at the edge
    share = bright / bright.sum()
    places = torch.arange(len(share)) - (len(share) - 1) / 2
    return [float((share.sum(1) * places).sum()), float((share.sum(0) * places).sum())]


def test_zeros_leave_an_image_as_it_is() -> None:
    assert AUGMENTATION.apply(IMAGE, torch.zeros(9)) is IMAGE


def test_flips_are_exact() -> None:
    assert torch.equal(AUGMENTATION.apply(IMAGE, vector(left=1)), IMAGE.flip(-1))
    assert torch.equal(AUGMENTATION.apply(IMAGE, vector(top=1)), IMAGE.flip(-2))
    assert torch.equal(AUGMENTATION.apply(IMAGE, vector(left=1, top=1)), IMAGE.flip(-1, -2))


@pytest.mark.parametrize("quarters", [1, 2, -1])
def test_quarter_turns_are_those_of_torch(quarters: int) -> None:
    # On the grid, but for the rounding of sine and cosine: less than half a level.
    found = AUGMENTATION.apply(IMAGE, vector(**turned(90 * quarters)))
    assert torch.equal(found, torch.rot90(IMAGE, quarters, (-2, -1)))


# A spot at (row, column) from the centre, rows downwards, and where it goes.
MOVES = {
    "turned by 30 degrees": (turned(30), (0, 12), (-6, 12 * math.cos(math.pi / 6))),
    "twice as large": ({"scale": 5.0}, (5, -6), (10, -12)),
    "stretched to the right": ({"along": 2.5}, (8, 8), (8 / math.sqrt(2), 8 * math.sqrt(2))),
    "squeezed to the right": ({"along": -2.5}, (8, 8), (8 * math.sqrt(2), 8 / math.sqrt(2))),
    "stretched up to the right": ({"across": 2.5}, (-8, 8), (-8 * math.sqrt(2), 8 * math.sqrt(2))),
    "moved": ({"right": 1.0, "down": -0.5}, (2, 3), (2 - 65 / 16, 3 + 65 / 8)),
    "turned, then moved": (turned(90) | {"down": 1.0}, (0, 12), (-12 + 65 / 8, 0)),
    "stretched after it is turned": (turned(90) | {"along": 2.5}, (0, 12), (-12 / math.sqrt(2), 0)),
    "turned after it is flipped": (turned(90) | {"left": 1.0}, (0, 12), (12, 0)),
}


@pytest.mark.parametrize("name", MOVES)
def test_a_vector_says_where_a_spot_goes(name: str) -> None:
    numbers, start, wanted = MOVES[name]
    moved = AUGMENTATION.apply(spot(32 + start[0], 32 + start[1]), vector(**numbers))
    # Where the spot fades to zero lies between pixels, which moves its centre by a few hundredths of one.
    assert centre(moved) == pytest.approx(wanted, abs=0.05)


def test_what_is_drawn_has_the_stated_distribution() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([AUGMENTATION.draw(generator) for _ in range(4000)])
    share = (drawn != 0).float().mean(dim=0)
    p = 0.12
    # Four standard deviations of a share of 4000 draws.
    for number, wanted in ((0, 0.5), (1, p / 2), (2, p), (3, p), (4, p), (5, p), (6, p / 2), (7, p), (8, p)):
        assert share[number].item() == pytest.approx(wanted, abs=4 * math.sqrt(wanted * (1 - wanted) / 4000)), number
    scales = drawn[:, 2][drawn[:, 2] != 0]
    assert scales.std().item() == pytest.approx(1, abs=4 / math.sqrt(2 * len(scales)))
    turns = drawn[:, 3:5][drawn[:, 4] != 0] + torch.tensor([1.0, 0.0])
    torch.testing.assert_close(turns.norm(dim=1), torch.ones(len(turns)))


def test_probability_zero_flips_at_most() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([AUGMENTATION.with_probability(0.0).draw(generator) for _ in range(50)])
    assert not drawn[:, 1:].any()
    assert drawn[:, 0].unique().tolist() == [0, 1]


def test_an_image_of_one_row_and_one_pixel_is_taken() -> None:
    numbers = vector(scale=1.0, right=0.5, **turned(40))
    assert AUGMENTATION.apply(torch.full((1, 1, 1), 7, dtype=torch.uint8), numbers).tolist() == [[[7]]]
    assert AUGMENTATION.apply(IMAGE[:, :1], numbers).shape == (3, 1, 9)
