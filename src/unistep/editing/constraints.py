"""What is known of a signal, and how a signal is changed to agree with it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor

from unistep.core.condition import Rows
from unistep.core.path import expand_to
from unistep.core.seeding import randn_like
from unistep.editing.operators import check_alone, check_operator

ROUNDS = 60
"""Most alternations between what is known and the range of signals."""
CLOSE = 1e-5
"""Distance from the range at which they agree."""
RELAXATION = 1.8
"""Length of a step towards the range, of at most 2: longer ones converge sooner."""
STEP = 1 / 127.5
"""From one level of 8 bits to the next, by which a file may round what was clamped."""


class Constraint(ABC):
    """What is known of the signals of a batch."""

    sigma: Tensor
    """Standard deviation of the noise on what is known of each item, ``[b]``."""

    @property
    def gain(self) -> Tensor:
        """By how much undoing the measurement amplifies that noise, in each direction that is known, ``[b]``."""
        return torch.ones_like(self.sigma)

    @property
    @abstractmethod
    def start(self) -> Tensor:
        """Signals ``[b, *shape]`` that are a first guess."""

    @abstractmethod
    def correct(self, x: Tensor, weight: Tensor | float = 1.0) -> Tensor:
        """Signals moved towards what is known by the shortest way, all of the way with the weight 1."""

    def guide(self, x: Tensor, weight: Tensor | float = 1.0, level: Tensor | None = None) -> Tensor:
        """The same by the way that suits such signals best; the shortest without.

        Args:
            x: Signals.
            weight: How much of the way.
            level: Noise to signal ratio at which each was estimated, in what the model sees, where that is known.
        """
        del level
        return self.correct(x, weight)

    @abstractmethod
    def residual(self, x: Tensor) -> Tensor:
        """How far signals are from what is known, ``[b, ...]``."""

    @abstractmethod
    def select(self, rows: Rows) -> Constraint:
        """What is known of some of the items."""

    def check_parts(self) -> None:
        """Check that items may be edited in several batches: that what is known of one is known of it alone.

        Raises:
            ValueError: If it is not.
        """
        return

    @abstractmethod
    def to(self, device: torch.device) -> Constraint:
        """The same on a device."""

    def satisfied(self, x: Tensor, within_range: Callable[[Tensor], Tensor]) -> Tensor:
        """Signals that agree with what is known and with their range, by alternating relaxed projections.

        Args:
            x: Signals.
            within_range: Clamps signals to their range.

        Returns:
            Signals that agree exactly with what is known, and nearly with the range where both can be; each item is
            what it would be alone.

        References:
            Bauschke & Borwein 1996, "On projection algorithms for solving convex feasibility problems", section 3.
        """
        x = self.correct(x)
        for _ in range(ROUNDS):
            change = within_range(x) - x
            far = change.flatten(1).abs().amax(dim=1) > CLOSE
            if not far.any():
                break
            x = torch.where(expand_to(far, x), self.correct(x + RELAXATION * change), x)
        return x


@final
class Linear(Constraint):
    r"""A linear measurement :math:`y = A x + n` with :math:`n \sim N(0, \sigma^2 I)`.

    Args:
        operator: Anything with ``A`` and ``A_dagger``.
        y: What was measured, ``[b, ...]``.
        sigma: Standard deviation of the noise, zero for none; one for all items or ``[b]``.

    Raises:
        ValueError: If the noise is no number from zero on.
    """

    def __init__(self, operator: Any, y: Tensor, sigma: float | Tensor = 0.0) -> None:
        self.operator, self.y, self.sigma = operator, y, torch.as_tensor(sigma).float().expand(len(y)).to(y.device)
        if not (self.sigma >= 0).all() or self.sigma.isinf().any():
            raise ValueError(f"sigma must be a number from 0, got {float(self.sigma.min()):g}")

    @property
    def gain(self) -> Tensor:
        """The size of undone noise over that of the known part of noise, by the same random numbers for each item."""
        generator = torch.Generator().manual_seed(0)
        measured = randn_like(self.y[:1], generator).expand_as(self.y)
        back = self.operator.A_dagger(measured)
        probe = torch.randn(back.shape[1:], generator=generator).to(back).expand_as(back)
        known = self.operator.A_dagger(self.operator.A(probe)).flatten(1).norm(dim=1)
        return back.flatten(1).norm(dim=1) / known.clamp(min=1e-12)

    @property
    def start(self) -> Tensor:
        r"""The operator's own first guess where it has one, :math:`A^\dagger y` without."""
        return getattr(self.operator, "start", self._lift)(self.y)

    @property
    def _lift(self) -> Callable[[Tensor], Tensor]:
        return getattr(self.operator, "lift", self.operator.A_dagger)

    def correct(self, x: Tensor, weight: Tensor | float = 1.0) -> Tensor:
        r"""Back-projection, :math:`x + \lambda A^\dagger (y - A x)`."""
        return x + weight * self.operator.A_dagger(self.y - self.operator.A(x))

    def guide(self, x: Tensor, weight: Tensor | float = 1.0, level: Tensor | None = None) -> Tensor:
        r"""The same with the operator's ``lift`` in the place of :math:`A^\dagger`, where it has one."""
        del level
        return x + weight * self._lift(self.y - self.operator.A(x))

    def residual(self, x: Tensor) -> Tensor:
        r""":math:`A x - y`."""
        return self.operator.A(x) - self.y

    def select(self, rows: Rows) -> Linear:
        """Those rows of ``y``, and of an operator that differs from item to item."""
        chosen = getattr(self.operator, "select", None)
        return Linear(self.operator if chosen is None else chosen(rows), self.y[rows], self.sigma[rows])

    def check_parts(self) -> None:
        """Check that the operator measures an item alone as together with the others."""
        check_alone(self.operator, self.operator.A_dagger(self.y))

    def to(self, device: torch.device) -> Linear:
        """With ``y`` there; operators go where their input is."""
        return Linear(self.operator, self.y.to(device), self.sigma.to(device))

    def checked(self, x: Tensor) -> Linear:
        """Itself, once the operator has passed :func:`~unistep.editing.operators.check_operator` on such signals.

        Raises:
            ValueError: If it does not, or measures something of another shape than ``y``.
        """
        check_operator(self.operator, x)
        measured = self.operator.A(x)
        if measured.shape != self.y.shape:
            raise ValueError(f"the measurement must have shape {list(measured.shape)}, got {list(self.y.shape)}")
        if measured.is_complex() != self.y.is_complex():
            kinds = ["complex" if one.is_complex() else "real" for one in (measured, self.y)]
            raise ValueError(
                f"the measurement must be {kinds[0]}, as A of the operator gives it, got {kinds[1]} numbers"
            )
        return self


@final
class Clipped(Constraint):
    """A signal whose values were clamped to ``[-level, level]``: those at the limit may be any beyond it.

    Args:
        y: Clamped signals.
        level: The limit of each, ``[b]``.
    """

    def __init__(self, y: Tensor, level: Tensor) -> None:
        self.y, self.level, self.sigma = y, level, y.new_zeros(len(y))
        self._low = torch.where(-y >= _limit(-y, level), -torch.inf, y)
        self._high = torch.where(y >= _limit(y, level), torch.inf, y)

    @property
    def start(self) -> Tensor:
        """The clamped signals."""
        return self.y

    def correct(self, x: Tensor, weight: Tensor | float = 1.0) -> Tensor:
        """The nearest signals that clamping makes ``y`` of."""
        return x + weight * (x.maximum(self._low).minimum(self._high) - x)

    def residual(self, x: Tensor) -> Tensor:
        """What the correction would change."""
        return x - self.correct(x)

    def select(self, rows: Rows) -> Clipped:
        """Those rows."""
        return Clipped(self.y[rows], self.level[rows])

    def to(self, device: torch.device) -> Clipped:
        """With ``y`` there."""
        return Clipped(self.y.to(device), self.level.to(device))


def _limit(y: Tensor, level: Tensor) -> Tensor:
    """From where on values of each item were clamped: a file's rounding may lie just below, at the largest value."""
    peak = y.flatten(1).amax(dim=1)
    rounded = (peak < level) & (peak > level - STEP)
    return expand_to(torch.where(rounded, peak, level), y) * (1 - 1e-3)
