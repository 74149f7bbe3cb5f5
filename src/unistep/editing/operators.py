"""Linear measurements of signals: anything with ``A`` and ``A_dagger`` is one, an object of another library as well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, final, runtime_checkable

import torch
from torch import Tensor

from unistep.core.condition import Rows

TOLERANCE = 0.05
"""How far :math:`A A^\\dagger A` may be from :math:`A`, relative to it: pseudo-inverses of other libraries
iterate and stop early, those of `deepinv` 1 to 3 % away. Each correction leaves so much of what was wrong."""


@runtime_checkable
class LinearOperator(Protocol):
    r"""A linear map of signals, with its pseudo-inverse: :math:`A A^\dagger A = A`.

    The physics of ``deepinv`` are such objects. Where the map differs from item to item, ``select(rows)`` gives that of
    some items; without it, all items have the same. Where there are better guesses than the shortest signals that have
    the measurements, ``lift(y)`` gives one, with :math:`A\,\mathrm{lift}(y) = y` for what can be measured, and
    ``start(y)`` one to begin from that need not have them.
    """

    def A(self, x: Tensor) -> Tensor:  # noqa: N802
        """What is measured of signals ``[b, *shape]``, a tensor ``[b, ...]``."""
        ...

    def A_dagger(self, y: Tensor) -> Tensor:  # noqa: N802
        """Signals ``[b, *shape]`` that have the measurements ``y``."""
        ...


def check_operator(operator: Any, x: Tensor) -> None:
    r"""Check that an operator is a linear map of such signals and that :math:`A A^\dagger A = A`, on random ones.

    Args:
        operator: The operator.
        x: Signals of the shape, type and device that it is for.

    Raises:
        ValueError: If it has not both methods, cannot take the signals, gives no numbers or such that no signals can be
            made of, changes what it is given, is not linear, its ``A_dagger`` is no pseudo-inverse, or its ``select``
            gives another operator.
    """
    name = type(operator).__name__
    missing = [method for method in ("A", "A_dagger") if not callable(getattr(operator, method, None))]
    if missing:
        raise ValueError(f"the operator {name} has no method {' and no method '.join(missing)}; it needs both")
    probe = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
    y = _called(operator, "A", probe, probe)
    _check_measurement(y, name)
    back = _called(operator, "A_dagger", y, probe)
    _check_signals(back, x, name)
    again = _called(operator, "A", back, probe)
    error = _difference(again, y)
    if not error <= TOLERANCE:
        raise ValueError(
            f"A_dagger of {name} is no pseudo-inverse: A A_dagger A differs from A by {error:.1%}, at most "
            f"{TOLERANCE:.0%} is allowed"
        )
    other = probe.flip(-1) + 0.5
    expected = y - 2 * _called(operator, "A", other, probe)
    error = _difference(_called(operator, "A", probe - 2 * other, probe), expected)
    if not error <= TOLERANCE:
        raise ValueError(f"A of {name} is not linear: A(a - 2 b) differs from A(a) - 2 A(b) by {error:.1%}")
    if getattr(operator, "select", None) is not None:
        check_alone(operator, probe)


def check_alone(operator: Any, x: Tensor) -> None:
    """Check that an operator measures an item alone as in its batch, so that batches can be divided.

    Args:
        operator: An operator that passes :func:`check_operator`.
        x: Signals of a whole batch.

    Raises:
        ValueError: If it does not.
    """
    name, last = type(operator).__name__, slice(len(x) - 1, len(x))
    chosen, whole = getattr(operator, "select", None), operator.A(x)
    how = "give it a method select(rows), the operator of some items, or let one batch hold all (batch_size)"
    try:
        alone = (operator if chosen is None else chosen(last)).A(x[last].clone())
    except Exception as error:
        raise ValueError(
            f"the operator {name} cannot take one item of a batch ({_first_line(error)}); {how}"
        ) from error
    if alone.shape != whole[last].shape or not _difference(alone, whole[last]) <= TOLERANCE:
        raise ValueError(f"the operator {name} measures an item alone otherwise than in its batch; {how}")


def _called(operator: Any, method: str, given: Tensor, signals: Tensor) -> Any:
    """What a method makes of a copy, which it must leave as it is."""
    name, own = type(operator).__name__, given.clone()
    try:
        with torch.no_grad():
            made = getattr(operator, method)(own)
    except Exception as error:
        shape = "x".join(map(str, signals.shape[1:]))
        raise ValueError(f"the operator {name} cannot take signals of shape {shape}: {_first_line(error)}") from error
    if not torch.equal(own, given):
        raise ValueError(f"{method} of {name} changes the tensor that it is given; let it work on a copy, x.clone()")
    return made


def _check_measurement(y: Any, name: str) -> None:
    """Raise where measurements are no floating-point or complex numbers."""
    if not isinstance(y, Tensor) or not (y.is_floating_point() or y.is_complex()):
        got = str(y.dtype).removeprefix("torch.") if isinstance(y, Tensor) else type(y).__name__
        raise ValueError(f"A of {name} must give a tensor of floating-point or complex numbers, got {got}")
    if not y.isfinite().all():
        raise ValueError(f"A of {name} makes {int((~y.isfinite()).sum())} values that are no finite numbers")


def _check_signals(back: Any, x: Tensor, name: str) -> None:
    """Raise where what was undone are no such signals."""
    if not isinstance(back, Tensor) or back.shape != x.shape:
        got = list(back.shape) if isinstance(back, Tensor) else type(back).__name__
        raise ValueError(f"A_dagger of {name} must give signals of shape {list(x.shape)}, got {got}")
    if torch.promote_types(back.dtype, x.dtype) != x.dtype:
        types = [str(one.dtype).removeprefix("torch.") for one in (back, x)]
        how = ".real" if back.is_complex() else f".to(torch.{types[1]})"
        raise ValueError(
            f"A_dagger of {name} gives signals of type {types[0]}, which need {types[1]}; end it with {how}"
        )
    if not back.isfinite().all():
        raise ValueError(f"A_dagger of {name} makes {int((~back.isfinite()).sum())} values that are no finite numbers")


def _difference(found: Tensor, expected: Tensor) -> float:
    """The distance of measurements, relative to the size of those that are expected."""
    size = float(expected.norm())
    return float((found - expected).norm()) / size if size != 0 else float(found.norm())


def _first_line(error: Exception) -> str:
    line = (str(error).splitlines() or [""])[0]
    return line if isinstance(error, (RuntimeError, ValueError, TypeError)) else f"{type(error).__name__}: {line}"


@final
class Mask:
    r"""Only some values are known: :math:`A x = M x` and :math:`A^\dagger y = M y`.

    Args:
        known: 1 or true where a value is known, of a shape that broadcasts against a batch of signals.
        each: Whether the first axis is that of the batch, so that each item has a mask of its own.
    """

    def __init__(self, known: Tensor, *, each: bool = False) -> None:
        self.known, self.each = known, each

    def A(self, x: Tensor) -> Tensor:  # noqa: N802
        """The known values, and zero elsewhere."""
        return torch.where(self.known.to(x.device) > 0, x, 0)

    def A_dagger(self, y: Tensor) -> Tensor:  # noqa: N802
        """The same."""
        return self.A(y)

    def select(self, rows: Rows) -> Mask:
        """That of some items."""
        return Mask(self.known[rows], each=True) if self.each else self


@final
class MatrixFree:
    """An operator from two functions.

    Args:
        A: What is measured of a batch of signals.
        A_dagger: Its pseudo-inverse.
    """

    def __init__(self, A: Callable[[Tensor], Tensor], A_dagger: Callable[[Tensor], Tensor]) -> None:
        self.A = A
        self.A_dagger = A_dagger


@final
class Everything:
    """The whole signal is measured, as for denoising."""

    def A(self, x: Tensor) -> Tensor:  # noqa: N802
        """The signal."""
        return x

    def A_dagger(self, y: Tensor) -> Tensor:  # noqa: N802
        """The signal."""
        return y


def random_operator(shape: tuple[int, ...], measurements: int, seed: int = 0) -> MatrixFree:
    r"""Random measurements without a matrix: a random choice of the coefficients of a randomly signed transform.

    .. math:: A = S\,H\,D, \qquad A^\dagger = D\,H^\top S^\top

    with :math:`D` random signs, :math:`H` the orthonormal real Fourier (Hartley) transform of all values, and :math:`S`
    a choice of coefficients.

    Args:
        shape: Shape of one signal.
        measurements: How many numbers are measured.
        seed: Of the signs and the choice.

    Raises:
        ValueError: If there are not as many coefficients.

    References:
        Hartley 1942, "A more symmetrical Fourier analysis applied to transmission problems"; Do, Gan, Nguyen & Tran
        2012, arXiv 1106.5037, section II, for the structure.
    """
    size = torch.Size(shape).numel()
    if not 1 <= measurements <= size:
        raise ValueError(f"measurements must be from 1 to {size}, the values of a signal, got {measurements}")
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, (size,), generator=generator) * 2 - 1
    kept = torch.randperm(size, generator=generator)[:measurements]

    def hartley(v: Tensor) -> Tensor:
        spectrum = torch.fft.fft(v, norm="ortho")
        return spectrum.real - spectrum.imag  # its own inverse

    def forth(x: Tensor) -> Tensor:
        return hartley(x.flatten(1) * signs.to(x))[:, kept.to(x.device)]

    def back(y: Tensor) -> Tensor:
        full = y.new_zeros(len(y), size)
        full[:, kept.to(y.device)] = y
        return (hartley(full) * signs.to(y)).view(len(y), *shape)

    return MatrixFree(forth, back)
