"""Every linear operator has the pseudo-inverse that it says, and one from outside is checked before it is used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from unistep.editing.averages import LUMA, BlockAverage, Luma
from unistep.editing.blur import Bandwidth, Blur, parse_kernel
from unistep.editing.constraints import Clipped, Linear
from unistep.editing.operators import (
    TOLERANCE,
    Everything,
    LinearOperator,
    Mask,
    MatrixFree,
    check_operator,
    random_operator,
)

PICTURES, CLIPS, SOUNDS = (3, 16, 12), (3, 5, 8, 8), (1, 400)


class Sums:
    """From outside: sums of neighbouring columns, with nothing but the two methods."""

    def A(self, x: Tensor) -> Tensor:  # noqa: N802
        return x[..., ::2] + x[..., 1::2]

    def A_dagger(self, y: Tensor) -> Tensor:  # noqa: N802
        return (y / 2).repeat_interleave(2, dim=-1)


def frames(*known: int) -> Tensor:
    mask = torch.zeros(1, 5, 1, 1)
    mask[:, list(known)] = 1
    return mask


OPERATORS = {
    "pixels": (Mask(torch.rand(PICTURES, generator=torch.Generator().manual_seed(0)) > 0.4), PICTURES),
    "pixels of each": (
        Mask(torch.rand(4, *PICTURES, generator=torch.Generator().manual_seed(1)) > 0.4, each=True),
        PICTURES,
    ),
    "frames between": (Mask(frames(0, 4)), CLIPS),
    "first frames": (Mask(frames(0, 1)), CLIPS),
    "gap in a sound": (Mask((torch.arange(400) < 100) | (torch.arange(400) > 200)), SOUNDS),
    "blocks of 4": (BlockAverage((2, 3), (16, 12), (4, 3)), PICTURES),
    "uneven blocks": (BlockAverage((2, 3), (16, 12), (5, 7)), PICTURES),
    "blocks of frames": (BlockAverage((3, 4), (8, 8), (2, 4)), CLIPS),
    "brightness": (Luma(), PICTURES),
    "brightness of clips": (Luma(), CLIPS),
    "blur": (Blur(parse_kernel("gaussian:1.5"), (16, 12)), PICTURES),
    "box": (Blur(parse_kernel("box:4"), (16, 12)), PICTURES),
    "motion": (Blur(parse_kernel("motion:5:30"), (8, 8)), CLIPS),
    "bandwidth": (Bandwidth(1_000, 8_000), SOUNDS),
    "everything": (Everything(), PICTURES),
    "random": (random_operator(PICTURES, 100), PICTURES),
    "from outside": (Sums(), PICTURES),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_measuring_undoing_and_measuring_is_measuring(name: str, generator: torch.Generator) -> None:
    operator, shape = OPERATORS[name]
    x = torch.randn(4, *shape, generator=generator)
    y = operator.A(x)
    assert isinstance(operator, LinearOperator)
    assert float(y.norm()) > 0
    assert float((operator.A(operator.A_dagger(y)) - y).abs().max()) < 1e-5
    back = operator.A_dagger(y)  # and the other way round: it is the pseudo-inverse, not any inverse
    assert float((operator.A_dagger(operator.A(back)) - back).abs().max()) < 1e-5 * max(1.0, float(back.abs().max()))
    check_operator(operator, x)


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_are_linear_and_what_is_lost_is_orthogonal_to_what_is_kept(name: str, generator) -> None:
    operator, shape = OPERATORS[name]
    a, b = torch.randn(2, 4, *shape, generator=generator)
    torch.testing.assert_close(operator.A(2 * a - b), 2 * operator.A(a) - operator.A(b), atol=1e-4, rtol=1e-4)
    kept = operator.A_dagger(operator.A(a))
    lost = b - operator.A_dagger(operator.A(b))
    assert abs(float((kept * lost).sum())) < 1e-4 * float(kept.norm() * lost.norm() + 1)


def test_a_wrong_pseudo_inverse_is_refused_at_the_door() -> None:
    x = torch.zeros(1, *PICTURES)
    wrong = MatrixFree(lambda x: 2 * x, lambda y: y)
    with pytest.raises(
        ValueError, match=r"A_dagger of MatrixFree is no pseudo-inverse: A A_dagger A differs from A by 100\.0%"
    ):
        check_operator(wrong, x)
    with pytest.raises(ValueError, match="must give signals of shape"):
        check_operator(MatrixFree(lambda x: x, lambda y: y[:, :1]), x)
    with pytest.raises(ValueError, match="the operator object has no method A and no method A_dagger; it needs both"):
        check_operator(object(), x)
    with pytest.raises(ValueError, match="cannot take signals of shape 3x16x12: "):
        check_operator(MatrixFree(lambda x: x.view(7), lambda y: y), x)
    with pytest.raises(ValueError, match=r"the measurement must have shape \[1, 3, 16, 6\], got \[1, 3, 16, 12\]"):
        Linear(Sums(), x).checked(x)


def _masked(x: Tensor) -> Tensor:
    return x * (torch.arange(PICTURES[-1]) % 2)


def _in_place(x: Tensor) -> Tensor:
    return x.mul_(torch.arange(PICTURES[-1]) % 2)


EACH = torch.rand(2, *PICTURES, generator=torch.Generator().manual_seed(2)) > 0.5


@pytest.mark.parametrize(
    ("A", "A_dagger", "line"),
    [
        (lambda x: _masked(x) / 0, _masked, "A of MatrixFree makes 1152 values that are no finite numbers"),
        (_masked, lambda y: _masked(y) / 0, "A_dagger of MatrixFree makes 1152 values that are no finite numbers"),
        (lambda x: _masked(x).int(), Tensor.float, "floating-point or complex numbers, got int32"),
        (lambda x: _masked(x).numpy(), torch.from_numpy, "floating-point or complex numbers, got ndarray"),
        (torch.fft.fft, torch.fft.ifft, r"signals of type complex64, which need float32; end it with \.real"),
        (
            Tensor.double,
            lambda y: y,
            r"signals of type float64, which need float32; end it with \.to\(torch\.float32\)",
        ),
        (_in_place, _masked, r"A of MatrixFree changes the tensor that it is given; let it work on a copy"),
        (lambda x: x + 0.0, lambda y: y.clamp_(-1, 1), "A_dagger of MatrixFree changes the tensor"),
        (lambda x: x + 0.3, lambda y: y - 0.3, r"A of MatrixFree is not linear: A\(a - 2 b\) differs from"),
        (Tensor.abs, lambda y: y, "A of MatrixFree is not linear"),
        (lambda x: x.foo(), _masked, "cannot take signals of shape 3x16x12: AttributeError: 'Tensor' object has no"),
    ],
)
def test_what_is_no_linear_map_of_signals_is_refused_at_the_door(A, A_dagger, line) -> None:
    with pytest.raises(ValueError, match=line):
        check_operator(MatrixFree(A, A_dagger), torch.zeros(2, *PICTURES))


@pytest.mark.parametrize("A", [lambda x: x * EACH, lambda x: x - x.mean(dim=0)])
def test_what_differs_from_item_to_item_needs_a_way_to_say_so_in_several_batches(A) -> None:
    operator, x = MatrixFree(A, A), torch.ones(2, *PICTURES) + EACH
    known = Linear(operator, A(x)).checked(x)  # one batch of all
    with pytest.raises(ValueError, match=r"alone otherwise than in its batch; give it a method select\(rows\)"):
        known.check_parts()
    Linear(MatrixFree(_masked, _masked), _masked(x)).check_parts()


def test_measurements_may_be_complex(generator: torch.Generator) -> None:
    x = torch.randn(2, *PICTURES, generator=generator)
    operator = MatrixFree(lambda x: torch.fft.fft2(x, norm="ortho"), lambda y: torch.fft.ifft2(y, norm="ortho").real)
    known = Linear(operator, operator.A(x), 0.1).checked(x)
    torch.testing.assert_close(known.correct(torch.zeros_like(x)), x)
    assert float((known.gain - 1).abs().max()) < 0.1  # noise of each part has its size in the signals
    with pytest.raises(ValueError, match="the measurement must be complex, as A of the operator gives it, got real"):
        Linear(operator, x).checked(x)


class Iterating:
    """From outside: a pseudo-inverse by so many steps down the gradient, which stop before they are there."""

    def __init__(self, steps: int) -> None:
        self.matrix, self.steps = torch.eye(12) + 0.2 * torch.eye(12).roll(1, 0), steps

    def A(self, x: Tensor) -> Tensor:  # noqa: N802
        return x @ self.matrix.T

    def A_dagger(self, y: Tensor) -> Tensor:  # noqa: N802
        x = torch.zeros_like(y)
        for _ in range(self.steps):
            x = x + (y - self.A(x)) @ self.matrix
        return x


def test_a_pseudo_inverse_that_stops_early_is_taken_where_it_is_close(generator: torch.Generator) -> None:
    x = torch.randn(2, *PICTURES, generator=generator)
    close = Iterating(steps=4)
    left = float((close.A(close.A_dagger(x)) - x).norm() / x.norm())
    assert 1e-3 < left < TOLERANCE
    known = Linear(close, x).checked(x)
    far = known.residual(torch.zeros_like(x)).norm()
    assert float(known.residual(known.correct(torch.zeros_like(x))).norm() / far) < TOLERANCE
    with pytest.raises(ValueError, match=r"A_dagger of Iterating is no pseudo-inverse: .* at most 5% is allowed"):
        Linear(Iterating(steps=1), x).checked(x)


def test_blocks_of_equal_length_are_means() -> None:
    x = torch.arange(16.0).view(1, 1, 4, 4)
    operator = BlockAverage((2, 3), (4, 4), (2, 2))
    torch.testing.assert_close(operator.A(x), torch.nn.functional.avg_pool2d(x, 2))
    with pytest.raises(ValueError, match="4 values cannot be averaged in 5 blocks"):
        BlockAverage((2, 3), (4, 4), (5, 2))


def test_brightness_is_the_first_coefficient_of_the_papers_transform(generator: torch.Generator) -> None:
    """Appendix D of arXiv 2303.01469: an orthogonal matrix whose first column is that of brightness."""
    first = torch.tensor(LUMA)
    basis, _ = torch.linalg.qr(torch.cat([first[:, None], torch.eye(3)[:, 1:]], dim=1))
    x, other = torch.randn(2, 1, 3, 4, 4, generator=generator)
    coefficients, others = (torch.einsum("cd,bchw->bdhw", basis, v) for v in (x, other))
    replaced = torch.cat([coefficients[:, :1], others[:, 1:]], dim=1)
    expected = torch.einsum("cd,bdhw->bchw", basis, replaced)
    torch.testing.assert_close(Linear(Luma(), Luma().A(x)).correct(other), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(Luma().A(Luma().lift(Luma().A(x))), Luma().A(x), atol=1e-5, rtol=1e-5)


def test_a_blur_is_a_convolution_where_nothing_is_lost(generator: torch.Generator) -> None:
    kernel = torch.tensor([[0.0, 0.1, 0.0], [0.1, 0.6, 0.1], [0.0, 0.1, 0.0]])
    x = torch.randn(1, 1, 8, 8, generator=generator)
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1), mode="circular")
    expected = torch.nn.functional.conv2d(padded, kernel[None, None])
    torch.testing.assert_close(Blur(kernel, (8, 8)).A(x), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(Blur(kernel, (8, 8)).A_dagger(expected), x, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("gauss:1", "unknown kernel 'gauss:1'"),
        ("gaussian:-1", "unknown kernel"),
        ("gaussian", "unknown kernel"),
        ("box:2.7", "unknown kernel"),
        ("box:inf", "the numbers of the kernel 'box:inf' must be at most 500"),
        ("motion:5:nan", "the numbers of the kernel 'motion:5:nan' must be at most 500"),
        ("gaussian:1e6", "the numbers of the kernel 'gaussian:1e6' must be at most 500"),
        ("missing.npy", "cannot read the kernel missing.npy: No such file or directory"),
        ("missing.png", "cannot read the kernel missing.png: No such file or directory"),
    ],
)
def test_mistakes_in_a_kernel_are_one_line(text: str, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        parse_kernel(text)


def test_files_that_are_no_kernel_are_one_line(tmp_path) -> None:
    (tmp_path / "empty.npy").write_bytes(b"")
    np.save(tmp_path / "complex.npy", np.ones((3, 3)) * 1j)
    with (tmp_path / "several.npy").open("wb") as file:
        np.savez(file, a=np.ones((3, 3)))
    for name in ("empty", "complex", "several"):
        with pytest.raises(ValueError, match=f"cannot read the kernel .*{name}.npy: no array of"):
            parse_kernel(str(tmp_path / f"{name}.npy"))


@pytest.mark.parametrize("text", ["gaussian:1.5", "box:3", "motion:7:45", "motion:1:0"])
def test_kernels_sum_to_one(text: str) -> None:
    assert float(parse_kernel(text).sum()) == pytest.approx(1, abs=1e-12)


def test_pictures_of_kernels_keep_their_sixteen_bits_and_their_transparency(tmp_path: Path) -> None:
    """Pillow's grey cut off what is above 255 of 65,535, which made nearly all kernels boxes, and saw no alpha."""
    wanted = np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]]) / 8
    Image.fromarray((40_000 * wanted).astype(np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(wanted.astype(np.float32)).save(tmp_path / "floats.tiff")
    white = np.full((3, 3, 4), 255, np.uint8)
    white[..., 3] = 160 * wanted
    Image.fromarray(white).save(tmp_path / "white.png")
    for name in ("deep.png", "floats.tiff", "white.png"):
        np.testing.assert_allclose(parse_kernel(str(tmp_path / name)).numpy(), wanted, atol=1e-6)


def test_kernels_that_do_not_sum_to_one_or_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="a kernel must sum to one, and this one sums to 9; divide it by its sum"):
        Blur(torch.ones(3, 3), (8, 8))
    with pytest.raises(ValueError, match="a kernel must be finite real numbers"):
        Blur(torch.eye(3) * (1 / 3 + 0j), (8, 8))
    with pytest.raises(ValueError, match="the kernel has 9 x 9 values, more than the 8 x 8 pixels"):
        Blur(torch.full((9, 9), 1 / 81), (8, 8))


def test_declipping_is_a_projection_on_what_clipping_makes_the_signal_of(generator: torch.Generator) -> None:
    x = torch.randn(2, 1, 100, generator=generator)
    y = x.clamp(-0.5, 0.5)
    constraint = Clipped(y, torch.full((2,), 0.5))
    torch.testing.assert_close(constraint.correct(x), x)
    guess = torch.randn(2, 1, 100, generator=generator)
    once = constraint.correct(guess)
    torch.testing.assert_close(once.clamp(-0.5, 0.5), y, atol=1e-3, rtol=0)  # the width that counts as at the limit
    torch.testing.assert_close(constraint.correct(once), once)
    assert float((once - guess).norm()) <= float((x - guess).norm())  # no other such signal is nearer


@pytest.mark.parametrize("level", [0.5, 0.7, 0.9])
def test_values_at_the_limit_are_open_though_a_file_of_8_bits_rounds_them(level: float) -> None:
    """The nearest of 256 levels may lie half a level below the limit; those values were taken for known."""
    x = torch.linspace(-1, 1, 400)[None, None]
    stored = ((x.clamp(-level, level) + 1) * 127.5).round() / 127.5 - 1
    constraint = Clipped(stored, torch.tensor([level]))
    beyond = x.abs() > level
    torch.testing.assert_close(constraint.correct(x)[beyond], x[beyond])
    assert float((constraint.correct(x) - x).abs().max()) <= 1 / 255 + 1e-6


def test_what_is_known_and_the_range_are_met_together(generator: torch.Generator) -> None:
    x = torch.rand(2, 3, 8, 8, generator=generator) * 2 - 1
    constraint = Linear(Luma(), Luma().A(x))
    found = constraint.satisfied(3 * torch.randn(x.shape, generator=generator), lambda v: v.clamp(-1, 1))
    assert float(found.abs().max()) <= 1.01  # from noise, in a corner of all colours
    assert float(constraint.residual(found).abs().max()) < 1e-5


def test_the_gain_is_that_of_undone_noise(generator: torch.Generator) -> None:
    shape = (1, 32, 32)
    y = torch.zeros(2, *shape)
    assert Linear(Everything(), y, 0.1).gain.tolist() == pytest.approx([1, 1], abs=0.1)
    blocks = BlockAverage((2, 3), (32, 32), (8, 8))  # its singular values are 1/4
    assert Linear(blocks, y[..., ::4, ::4], 0.1).gain.tolist() == pytest.approx([4, 4], rel=0.2)


@pytest.mark.parametrize("name", [name for name, (operator, _) in OPERATORS.items() if hasattr(operator, "lift")])
def test_a_lift_has_the_measurements_and_is_smoother(name: str, generator: torch.Generator) -> None:
    operator, shape = OPERATORS[name]
    y = operator.A(torch.randn(4, *shape, generator=generator))
    lifted = operator.lift(y)
    assert float((operator.A(lifted) - y).abs().max()) < 1e-5
    x = torch.randn(4, *shape, generator=generator)
    guided = Linear(operator, y).guide(x)
    assert float((operator.A(guided) - y).abs().max()) < 1e-5
    assert float((operator.A(Linear(operator, y).guide(x, 0.5)) - (operator.A(x) + y) / 2).abs().max()) < 1e-5


def test_enlarged_straight_lines_stay_straight() -> None:
    line = torch.linspace(-1, 1, 32).expand(1, 1, 32, 32)
    operator = BlockAverage((2, 3), (32, 32), (8, 8))
    inside = operator.lift(operator.A(line))[..., 8:-8] - line[..., 8:-8]
    blocks = operator.A_dagger(operator.A(line))[..., 8:-8] - line[..., 8:-8]
    assert float(inside.abs().max()) < 0.2 * float(blocks.abs().max())
