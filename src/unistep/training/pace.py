"""How far along a run is after each step: a fixed number of steps, or a deadline that the number of steps adapts to."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from unistep.files import write_text

PLANS = "plan.jsonl"
"""The file in a run's folder that holds every plan, one a line."""
DECISIONS = 50
"""How many times a run with a deadline compares its plan with the clock."""
TOLERANCE = 0.01
"""A plan stays while the steps that are left differ by no more than this share."""


def now() -> float:
    """Seconds on a clock that never goes back."""
    return time.monotonic()


class Clock:
    """Seconds that a run has taken, those of its earlier sessions included.

    Args:
        before: Seconds of earlier sessions.
    """

    def __init__(self, before: float = 0.0) -> None:
        self.before = before
        self._begin = now()

    def elapsed(self) -> float:
        """Seconds so far."""
        return self.before + now() - self._begin


@dataclass(frozen=True)
class Leg:
    """A plan that holds from one step on: progress goes linearly to 1 at the last step."""

    step: int
    """Step, from 0, that the plan holds from."""
    progress: float
    """Share of the training that is done there."""
    total: int
    """Number of optimizer steps of the whole run."""

    def at(self, step: int) -> float:
        """Share of the training that is done when ``step`` begins, in [0, 1]."""
        if self.total <= self.step:
            return self.progress
        return self.progress + (1 - self.progress) * ((step - self.step) / (self.total - self.step))

    @property
    def share(self) -> float:
        """Share of the training that each of its steps is."""
        return (1 - self.progress) / max(self.total - self.step, 1)


class Pace:
    r"""Progress along a run as a function of the step, piecewise linear.

    From leg :math:`k` on, :math:`p(i) = p_k + (1 - p_k)\,(i - i_k)/(n_k - i_k)`. Schedules and curricula read nothing
    but this progress and the step, so a run that has the same legs has the same numbers, whatever the clock says.

    Args:
        legs: The plans by their first step, the first of which begins at step 0 or where another length was given.
    """

    def __init__(self, legs: Iterable[Leg]) -> None:
        self.legs = list(legs)

    def _leg(self, step: int) -> Leg:
        return next((leg for leg in reversed(self.legs) if leg.step <= step), self.legs[0])

    def total(self, step: int) -> int:
        """Number of optimizer steps of the whole run, as planned when ``step`` begins."""
        return self._leg(step).total

    def progress(self, step: int) -> float:
        """Share of the training that is done when ``step`` begins, in [0, 1]."""
        return self._leg(step).at(step)

    def share(self, step: int) -> float:
        """Share of the training that ``step`` is, in [0, 1]."""
        return self._leg(step).share

    def decided(self, step: int) -> bool:
        """Whether a plan that holds after ``step`` is on record, so that no other may be made before it."""
        return self.legs[-1].step > step

    def add(self, leg: Leg) -> None:
        """Take up a new plan."""
        self.legs.append(leg)

    def up_to(self, step: int) -> list[list[float]]:
        """The legs that begin by ``step``, as they go into a checkpoint."""
        return [list(astuple(leg)) for leg in self.legs if leg.step <= step]


class Deadline:
    """Plans the number of steps of a run anew, so that it ends when its time is over, at whatever speed.

    Args:
        seconds: Time of the whole run.
        step_seconds: Time of one step, as far as it is known.
    """

    def __init__(self, seconds: float, step_seconds: float) -> None:
        self.seconds = seconds
        self.step_seconds = step_seconds
        self._step, self._elapsed = 0, 0.0

    def first(self, elapsed: float) -> Leg:
        """The plan of a run that begins after ``elapsed`` seconds of set-up."""
        return Leg(0, 0.0, max(1, self._steps_in(self.seconds - elapsed)))

    def begin(self, step: int, elapsed: float) -> None:
        """Compare with the clock from ``step`` on."""
        self._step, self._elapsed = step, elapsed

    def replan(self, step: int, elapsed: float, pace: Pace, reserve: float = 0.0) -> Leg | None:
        """A plan that ends in time, where the present one does not.

        Args:
            step: Steps taken.
            elapsed: Seconds that the run has taken.
            pace: The present plan.
            reserve: Seconds that saving the result takes at the end.
        """
        left, window = self.seconds - reserve - elapsed, elapsed - self._elapsed
        if step == self._step or pace.decided(step) or (left > 0 and window < self.seconds / DECISIONS):
            return None
        self.step_seconds = (self.step_seconds + window / (step - self._step)) / 2
        self.begin(step, elapsed)
        planned, possible = pace.total(step) - step, self._steps_in(left)
        if abs(possible - planned) <= TOLERANCE * planned:
            return None
        return Leg(step, pace.progress(step), step + possible)

    def _steps_in(self, seconds: float) -> int:
        return max(0, round(seconds / max(self.step_seconds, 1e-9)))


def read_plans(out: Path) -> list[Leg]:
    """The plans on record in a run's folder; a last line that an interruption cut short is left out."""
    found = []
    path = out / PLANS
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
            found.append(Leg(int(row["step"]), float(row["progress"]), int(row["total"])))
        except (ValueError, KeyError, TypeError):
            break
    return found


def write_plans(out: Path, legs: Sequence[Leg]) -> None:
    """Put the plans of a run on record, whole."""
    write_text(out / PLANS, "".join(f"{json.dumps(vars(leg))}\n" for leg in legs))


def known_plans(stored: Sequence[Sequence[float]], out: Path) -> list[Leg]:
    """The plans of a run that goes on: those of its checkpoint, and later ones that were made before it was killed.

    Args:
        stored: The legs in the checkpoint.
        out: The run's folder.
    """
    legs = [Leg(int(step), float(progress), int(total)) for step, progress, total in stored]
    recorded = read_plans(out)
    if recorded[: len(legs)] != legs:
        return legs
    return recorded
