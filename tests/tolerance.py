"""How far two results of the same sum may lie apart: from the arithmetic, not from what one machine printed."""

from __future__ import annotations

import math

import torch

SAFETY = 16
"""Standard deviations of accumulated rounding that are allowed."""


def rounding(terms: int, scale: float = 1.0, dtype: torch.dtype = torch.float32) -> float:
    r"""Largest difference that another order of summation explains.

    .. math:: 16\, \epsilon \sqrt{n}\, s

    Each of :math:`n` additions is rounded by at most :math:`\epsilon/2` of a partial sum, independently of the others,
    so that the errors add up like a random walk (Higham 2002, "Accuracy and Stability of Numerical Algorithms",
    section 2.8).

    Args:
        terms: Numbers that are summed into one result, :math:`n`.
        scale: Magnitude of the partial sums, :math:`s`.
        dtype: Type that is computed in.
    """
    return SAFETY * torch.finfo(dtype).eps * math.sqrt(terms) * scale
