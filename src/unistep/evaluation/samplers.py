"""Anything that samples, as an evaluation takes it: a generator, a map, a function or samples that exist already."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, final, runtime_checkable

from torch import Tensor

from unistep.core.flowmap import Map

if TYPE_CHECKING:
    from unistep.core.solvers import Solver
    from unistep.evaluation.reference import Examples


@runtime_checkable
class Sampler(Protocol):
    """What an evaluation needs of a model; :class:`unistep.Generator` has it."""

    name: str

    @property
    def kind(self) -> str:
        """``consistency``, ``flow_map`` or ``denoiser``."""
        ...

    def sample(
        self,
        num: int = 1,
        *,
        steps: int | None = None,
        seed: int = 0,
        solver: Solver | None = None,
        guidance: float | None = None,
        batch_size: int = 64,
        **condition: Any,
    ) -> Tensor:
        """Samples ``[num, *shape]`` in [-1, 1]; item ``i`` belongs to ``seed + i``."""
        ...

    @property
    def guidance(self) -> float | None:
        """Guidance weight of samples for which none is given; ``None`` for a model that takes no guidance."""
        ...

    def network_calls(
        self, steps: int | None = None, solver: Solver | None = None, guidance: float | None = None
    ) -> int:
        """Network calls for each sample."""
        ...


AnySampler = Sampler | Map | Callable[[int, int], Tensor] | Tensor | str | Path
"""What :func:`unistep.evaluate` takes as a model."""


@final
@dataclass(frozen=True, kw_only=True)
class Setting:
    """One way to sample."""

    steps: int | None = None
    """Sampling steps; ``None`` where the model has no such choice."""
    solver: Solver | None = None
    """ODE solver, for denoisers."""
    guidance: float | None = None
    """Guidance weight, for denoisers and for models that take it as a condition; the model's default without."""


Sweep = Mapping[str, tuple[Setting, ...]]
"""Settings by kind of model; a kind that is missing is sampled once, by its defaults."""

DEFAULT_SWEEP: Sweep = {
    "consistency": tuple(Setting(steps=n) for n in (1, 2, 4)),
    "flow_map": tuple(Setting(steps=n) for n in (1, 2, 4)),
    "denoiser": tuple(Setting(steps=n, solver=s) for s in ("heun", "dpmpp2m") for n in (5, 10, 18)),
}
"""A one-step model with one, two and four calls; a teacher with two solvers at three lengths."""


def usual_settings(model: Sampler) -> tuple[Setting, ...]:
    """The settings of :data:`DEFAULT_SWEEP`; of a model that was trained for some numbers of steps alone, those."""
    from unistep.generation.generator import Generator

    given = DEFAULT_SWEEP.get(model.kind) or (Setting(),)
    if not isinstance(model, Generator):
        return given
    config = model.config
    trained = tuple(s for s in given if s.steps is None or not config.untrained(s.steps))
    return trained or (Setting(steps=config.steps),)


@final
class FunctionSampler:
    """A function ``(num, seed) -> [num, *shape]`` as a model.

    Args:
        function: Draws samples in [-1, 1].
        name: Its name in the table.
    """

    kind: str = "function"
    guidance: float | None = None

    def __init__(self, function: Callable[[int, int], Tensor], name: str) -> None:
        self._function, self.name = function, name

    def sample(self, num: int = 1, *, seed: int = 0, **rest: Any) -> Tensor:
        """Call the function.

        Raises:
            ValueError: If a condition is given, or it does not return ``num`` samples.
        """
        _check_free(self.name, rest)
        x = self._function(num, seed)
        if not isinstance(x, Tensor) or len(x) != num:
            got = f"shape {list(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"{self.name}({num}, {seed}) must return a tensor of {num} samples, got {got}")
        return x

    def network_calls(
        self, steps: int | None = None, solver: Solver | None = None, guidance: float | None = None
    ) -> int:
        """One, as far as anyone can tell."""
        del steps, solver, guidance
        return 1


@final
class GivenSamples:
    """Samples that exist already, as a model.

    Args:
        x: Signals in [-1, 1], ``[n, *shape]``.
        name: Their name in the table.
    """

    kind: str = "samples"
    guidance: float | None = None

    def __init__(self, x: Tensor, name: str = "samples") -> None:
        self._x, self.name = x.detach().cpu(), name

    def __len__(self) -> int:
        return len(self._x)

    def sample(self, num: int = 1, *, seed: int = 0, **rest: Any) -> Tensor:
        """Samples from position ``seed`` on, beginning again at the end.

        Raises:
            ValueError: If a condition is given.
        """
        _check_free(self.name, rest)
        indices = [(seed + i) % len(self._x) for i in range(num)]
        return self._x[indices].float()

    def network_calls(
        self, steps: int | None = None, solver: Solver | None = None, guidance: float | None = None
    ) -> int:
        """None: they were drawn before."""
        del steps, solver, guidance
        return 0


def _check_free(name: str, given: Mapping[str, Any]) -> None:
    """Raise where a condition is given to what cannot have it: the figures would say that its samples had it.

    Raises:
        ValueError: Naming it.
    """
    known = [field for field in given if field not in ("batch_size", "steps", "solver", "guidance")]
    if known:
        raise ValueError(
            f"{name} takes no condition, got {', '.join(known)}; give samples that have it, or a generator"
        )


def as_sampler(model: AnySampler, reference: Examples) -> Sampler:
    """A model of any form as a sampler.

    Args:
        model: A generator, or anything else with its methods; a map, whose samples are signals of the reference; a
            function ``(num, seed) -> samples``; a tensor of samples; or the name or folder of a saved model.
        reference: The data that its samples are compared with.

    Raises:
        ValueError: If it is none of these.
    """
    if isinstance(model, str | Path):
        from unistep.hub.load import load

        return load(model)
    if isinstance(model, Tensor):
        return GivenSamples(model)
    if isinstance(model, Map):
        from unistep.generation.generator import Generator
        from unistep.generation.live import configuration_of

        network = configuration_of(model.net)
        fields = {name: one for name, one in getattr(reference, "fields", {}).items() if network.takes(name, one)}
        return Generator(model, modality=reference.modality, fields=fields, name=type(model).__name__)
    if isinstance(model, Sampler):
        return model
    if callable(model):
        return FunctionSampler(model, getattr(model, "__name__", type(model).__name__))
    raise ValueError(
        f"a model to evaluate is a generator, a map, a function (num, seed) -> samples, a tensor of samples or a name, "
        f"got {type(model).__name__}"
    )
