"""Trying backends on a network: which agree with it, and how fast they are."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from unistep.backends.base import Backend, BackendError, BackendPrecision
from unistep.backends.call import Call
from unistep.core.flowmap import NetworkCall

ROUNDS = 30
"""Most timed calls of each candidate."""
SECONDS = 1.5
"""After which no other round of calls begins."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One backend in one arithmetic."""

    backend: str
    """Its name."""
    precision: BackendPrecision
    """The arithmetic."""
    error: float = math.nan
    """Largest relative error of a call, against the network in float32 (:func:`relative_error`)."""
    milliseconds: float = math.nan
    """Median time of a network call."""
    problem: str = ""
    """Why it was not timed, in words."""


@dataclass(frozen=True, kw_only=True)
class Acceleration:
    """What was tried, and what was chosen."""

    trials: tuple[Trial, ...]
    """All, the network itself in float32 first."""
    chosen: Trial
    """What runs the network."""
    batch_size: int
    """Items of the calls that were timed."""
    threads: int
    """Threads of PyTorch, which backends on the CPU follow."""

    @property
    def described(self) -> str:
        """The arithmetic, and what computes in it."""
        return f"{self.chosen.precision} by {self.chosen.backend}"

    def __str__(self) -> str:
        """The trials as a table."""
        lines = [f"{'backend':<12} {'precision':<9} {'ms':>8}  {'error':>8}"]
        for trial in self.trials:
            shown = "-" if math.isnan(trial.milliseconds) else f"{trial.milliseconds:.2f}"
            apart = "-" if math.isnan(trial.error) else f"{trial.error:.1e}"
            remark = "chosen" if trial == self.chosen else trial.problem
            lines.append(f"{trial.backend:<12} {trial.precision:<9} {shown:>8}  {apart:>8}  {remark}".rstrip())
        plural = "" if self.threads == 1 else "s"
        lines.append(f"batch {self.batch_size}, {self.threads} thread{plural}; errors relative to eager fp32")
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What is to be tried."""

    backend: type[Backend]
    """The backend."""
    precision: BackendPrecision
    """Its arithmetic."""
    tolerance: float
    """Largest relative error with which it may be chosen."""


@torch.inference_mode()
def try_backends(
    net: nn.Module,
    calls: Sequence[Call],
    candidates: Sequence[Candidate],
    folder: Path,
    device: torch.device,
    batch_size: int = 1,
) -> tuple[list[Trial], list[NetworkCall | None]]:
    """Prepare candidates, compare what they compute with the network itself, and time those that agree.

    Args:
        net: The network, in float32.
        calls: Calls of one form that its model made, two items or more each.
        candidates: What is tried.
        folder: Where files of these weights are kept.
        device: Where the network is.
        batch_size: Items of the calls that are timed.

    Returns:
        For each candidate what was found, and what runs the network; ``None`` where it cannot or does not agree.
    """
    checked = [*calls[:4], calls[0].first(1), calls[0].unconditional()]
    expected = [call.run(net) for call in checked]
    trials: list[Trial] = []
    made: list[NetworkCall | None] = []
    for candidate in candidates:
        trial, call = _checked(net, calls, candidate, folder, device, checked, expected)
        trials.append(trial)
        made.append(call)
    timed = calls[0].repeated(batch_size)
    times = _interleaved([call for call in made if call is not None], timed, device)
    left = iter(times)
    return [
        trial if call is None else replace(trial, milliseconds=next(left))
        for trial, call in zip(trials, made, strict=True)
    ], made


def _checked(
    net: nn.Module,
    calls: Sequence[Call],
    candidate: Candidate,
    folder: Path,
    device: torch.device,
    checked: Sequence[Call],
    expected: Sequence[Tensor],
) -> tuple[Trial, NetworkCall | None]:
    """One candidate, prepared and compared."""
    backend, precision = candidate.backend, candidate.precision
    trial = Trial(backend=backend.name, precision=precision)
    problem = backend.problem(device)
    if problem is not None:
        return replace(trial, problem=problem), None
    try:
        with torch.inference_mode(mode=False):  # what a compiler or an exporter keeps must not be inference tensors
            made = backend().prepare(net, calls, precision, folder, device)
        error = max(relative_error(call.run(made), ref) for call, ref in zip(checked, expected, strict=True))
    except BackendError as failure:
        return replace(trial, problem=str(failure)), None
    trial = replace(trial, error=error)
    if not error <= candidate.tolerance:
        return replace(trial, problem=f"its error {error:.2g} is above the tolerance {candidate.tolerance:g}"), None
    return trial, made


def relative_error(x: Tensor, expected: Tensor) -> float:
    r"""The norm of the difference relative to that of what is expected; infinite where something is no number.

    .. math:: \lVert x - y \rVert_2 / \lVert y \rVert_2
    """
    scale = float(expected.float().norm())
    found = float((x.float() - expected.float()).norm()) / (scale or 1.0)
    return math.inf if math.isnan(found) else found


def _interleaved(made: Sequence[NetworkCall], call: Call, device: torch.device) -> list[float]:
    """Median milliseconds of calls that take turns, so that what else the computer does slows all of them."""
    for one in made:
        call.run(one)
        call.run(one)
    times: list[list[float]] = [[] for _ in made]
    began = time.perf_counter()
    for number in range(ROUNDS):
        for one, kept in zip(made, times, strict=True):
            _wait(device)
            start = time.perf_counter()
            call.run(one)
            _wait(device)
            kept.append(time.perf_counter() - start)
        if number >= 2 and time.perf_counter() - began > SECONDS:
            break
    return [1000 * statistics.median(kept) for kept in times]


def _wait(device: torch.device) -> None:
    """Wait for what a device was given to do."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
