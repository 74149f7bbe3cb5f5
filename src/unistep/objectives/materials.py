"""What a run gives an objective beside student and teacher."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from torch import Tensor, nn

from unistep.core.condition import Condition
from unistep.core.flowmap import Map
from unistep.core.seeding import Randomness
from unistep.core.values import Value
from unistep.objectives.frechet import Representation


class Streams(Protocol):
    """Streams of the student's own, a module with what they are at as its state."""

    def begin(self, student: Map) -> None:
        """Begin them with the first weights."""
        ...

    def refresh(self, student: Map) -> None:
        """Where it is time, let them go on with the weights that the student has now."""
        ...

    def shown(self, condition: Condition, generator: Randomness) -> dict[str, Value]:
        """A batch of conditions, most of them with those of a stream's next chunk in their place, its past among them.

        Args:
            condition: Those of examples from the data, with the past in them.
            generator: Source of randomness.
        """
        ...

    def after_step(self) -> None:
        """Count a step of the optimizer."""


class Materials(Protocol):
    """What a run can give an objective beside student and teacher: parts that depend on its data and its signal."""

    def discriminator(self, widths: tuple[int, ...]) -> nn.Module:
        """A fresh discriminator ``(x, condition) -> [b]`` of the run's signals and conditions.

        Args:
            widths: Channels at each resolution, finest first.
        """
        ...

    def representations(
        self, names: Sequence[str], *, by_class: bool = False, teacher: Map | None = None
    ) -> Sequence[Representation]:
        """Frozen feature networks of what the student makes, with the moments of the run's data.

        Args:
            names: Names of feature networks; those that suit the signal where there are none.
            by_class: Whether they need the mean of each class.
            teacher: A denoiser of whole signals whose maps inside are features, too, where its network names them.

        Raises:
            ValueError: If there is no such network, or it does not take such signals.
        """
        ...

    @property
    def guidance_range(self) -> tuple[float, float] | None:
        """Smallest and largest guidance weight that the student takes as a condition; ``None`` where it takes none."""

    def examples(self, count: int) -> Iterable[tuple[Tensor, Condition]]:
        """So many clean inputs with their conditions, spread over the data, in batches."""
        ...

    def streams(self, count: int, length: int, answering: bool) -> Streams:
        """So many streams of the student's own, under recordings of ``length`` chunks after their past.

        Args:
            count: Number of streams.
            length: Chunks after the past.
            answering: Whether what is recorded comes from moments that look like the stream, in place of one recording.
        """
        ...
