"""Non-finite losses and gradients: counted, reported, skipped, and bounded."""

from __future__ import annotations

import math
from dataclasses import dataclass


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
            kept = "there is no checkpoint yet" if saved is None else f"the checkpoint of step {saved} is whole"
            raise TrainingStoppedError(
                f"{self.streak} steps in a row had a non-finite loss or gradient (step {step}: loss {loss}, gradient "
                f"norm {gradient_norm}); {kept}. In another --out, try a lower learning rate or "
                "--precision fp32"
            )
        return False
