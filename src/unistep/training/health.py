"""Non-finite losses and gradients: counted, reported, skipped, and bounded; non-finite weights: never exported."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

REMEDY = "In another --out, try a lower learning rate or --precision fp32"
"""What to do about numbers that are not finite."""


class TrainingStoppedError(RuntimeError):
    """Training cannot go on; the message says why, and what is safe."""


@dataclass
class Health:
    """Counts the steps that had to be skipped.

    Args:
        limit: Consecutive bad steps after which training stops.
    """

    limit: int
    """Consecutive bad steps after which training stops."""
    skipped: int = 0
    """Bad steps so far."""
    streak: int = 0
    """Bad steps since the last good one."""

    def accept(self, step: int, loss: float, gradient_norm: float, saved: int | None = None) -> bool:
        """Whether a step may be taken.

        Args:
            step: Number of the step.
            loss: Its loss, averaged over all processes.
            gradient_norm: Norm of its gradient.
            saved: Step of the newest checkpoint; ``None`` where there is none yet.

        Raises:
            TrainingStoppedError: After ``limit`` bad steps in a row.
        """
        if math.isfinite(loss) and math.isfinite(gradient_norm):
            self.streak = 0
            return True
        self.skipped += 1
        self.streak += 1
        if self.streak >= self.limit:
            raise TrainingStoppedError(
                f"{self.streak} steps in a row had a non-finite loss or gradient (step {step}: loss {loss}, gradient "
                f"norm {gradient_norm}); {_kept(saved)}. {REMEDY}"
            )
        return False


def count_broken(weights: Iterable[Tensor]) -> tuple[int, int]:
    """How many of some weights are not finite, and how many there are."""
    counts = [(w.numel() - int(w.isfinite().sum()), w.numel()) for w in weights]
    return sum(broken for broken, _ in counts), sum(count for _, count in counts)


def refuse_broken(broken: int, count: int, step: int, saved: int | None) -> None:
    """Stop where averaged weights are not finite, from which no further step recovers.

    Args:
        broken: Number of those that are not.
        count: Number of all.
        step: Steps taken.
        saved: Step of the newest checkpoint; ``None`` where there is none yet.

    Raises:
        TrainingStoppedError: If any is not finite.
    """
    if broken:
        # Where such weights were saved already, by an earlier version, that checkpoint is none to rely on.
        kept = "its checkpoint holds them, too" if saved == step else _kept(saved)
        raise TrainingStoppedError(
            f"after step {step}, {broken:,} of the {count:,} averaged weights are not finite, so that no model is "
            f"written; {kept}. {REMEDY}"
        )


def _kept(saved: int | None) -> str:
    return "there is no checkpoint yet" if saved is None else f"the checkpoint of step {saved} is whole"
