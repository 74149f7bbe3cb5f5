"""What every objective is: a module that returns one loss per example, and its options."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unistep.core.condition import AnyField, Condition, ConditionLike, as_condition
from unistep.core.flowmap import ConsistencyModel, Denoiser, FlowMap, Map
from unistep.core.path import Path
from unistep.core.seeding import Randomness
from unistep.objectives.materials import Materials
from unistep.optimizers import OptimizerConfig, OptimizerMaker
from unistep.spelling import check_choices


@dataclass(frozen=True)
class Loss:
    """The result of an objective on a batch."""

    per_example: Float[Tensor, " b"]
    """Weighted loss of each example, in float32; the trainer averages."""
    logs: dict[str, Tensor] = field(default_factory=dict)
    """Scalars to log, detached."""
    level: Float[Tensor, " b"] | None = None
    """Noise to signal ratio of each example, so that the loss can be shown by noise level; see :func:`item_level`."""


@dataclass(frozen=True, kw_only=True)
class ParamGroup:
    """A part of an objective, such as a second network, that is trained in its own way."""

    name: str
    """Name in logs."""
    module: nn.Module
    """The part: a child of the objective, whose trainable parameters the group holds."""
    optimizer: OptimizerConfig | OptimizerMaker | None = None
    """Its optimizer: a configuration, or a function of a list of parameters; ``None`` for one like the run's."""
    lr_scale: float = 1.0
    """Factor of the optimizer's learning rates."""
    clip: float | None = None
    """Largest norm of its gradient, which is clipped by itself; ``None`` for the run's number."""
    every: int = 1
    """It steps at every so many steps of the run, from the first on."""

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"every must be at least 1, got {self.every}")
        if not (self.lr_scale > 0 and (self.clip is None or self.clip > 0)):
            raise ValueError(f"lr_scale and clip must be positive, got {self.lr_scale} and {self.clip}")


class Objective(nn.Module, ABC):
    """A training signal around a student map, and the frozen networks that it needs.

    The trainer wraps the objective, not the network, for parallel training, averages ``per_example``, and calls
    :meth:`after_step` when the optimizer has stepped. Frozen modules (a teacher) stay in evaluation mode.

    Args:
        student: The map that is trained.
        teacher: A frozen map, or ``None``.
    """

    preparing: ClassVar[str] = ""
    """What :meth:`begin` does, for those who wait for it."""

    def __init__(self, student: Map, teacher: nn.Module | None = None) -> None:
        super().__init__()
        if teacher is not None and {*student.parameters()} & {*teacher.parameters()}:
            raise ValueError("student and teacher share weights, which a teacher freezes; give one a copy.deepcopy")
        self.student = student
        self.teacher = None if teacher is None else teacher.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the student; the teacher stays in evaluation mode."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    def __call__(self, x0: Tensor, condition: ConditionLike, **options: Any) -> Loss:
        """Call :meth:`forward`, with plain tensors of the condition wrapped."""
        return super().__call__(x0, as_condition(condition), **options)

    @abstractmethod
    def forward(
        self,
        x0: Float[Tensor, "b *shape"],
        condition: Condition,
        *,
        generator: Randomness,
        progress: float,
    ) -> Loss:
        """Loss of a batch.

        Args:
            x0: Clean data in [-1, 1], shape ``[b, *shape]``.
            condition: Conditions of the batch.
            generator: Source of noise and times.
            progress: Share of the training that is done, in [0, 1].
        """

    def draw(self, step: int) -> int:
        """Number of the draw of data, times and noise that a step is taken with: the step's own, unless draws return.

        Args:
            step: Number of the step, from 0.
        """
        return step

    def param_groups(self) -> list[ParamGroup]:
        """Parts that have an optimizer, a rate, a clipping or a cadence of their own; all others have the run's."""
        return []

    def adopt(self, config: ObjectiveConfig) -> None:
        """Go by the options that :meth:`ObjectiveConfig.suited_to` gave, before the first step."""
        raise NotImplementedError(f"the options of {type(self).__name__} do not follow the length of a run: {config}")

    def begin(self, generator: Randomness) -> None:
        """Prepare what the first step needs of the first weights; most objectives need nothing.

        The trainer calls it on the device, before the first step of a run, and not when a run goes on: what it prepares
        are buffers of the objective, outside of student and teacher, which a checkpoint holds.

        Args:
            generator: Source of randomness.
        """

    def shown(self, condition: Condition, generator: Randomness) -> Condition:
        """Conditions of examples from the data as training has them, so that weights are selected by what they are for.

        Args:
            condition: Conditions of a batch.
            generator: Source of randomness.
        """
        del generator
        return condition

    def after_step(self, progress: float) -> None:
        """Update averaged copies of the student; most objectives have none."""


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig(ABC):
    """The options of an objective: a frozen dataclass that knows what it trains and how it is built."""

    REGISTRY_KIND: ClassVar[str] = "objective"

    trains: ClassVar[type[Denoiser | ConsistencyModel | FlowMap]]
    """The kind of map that it trains."""
    also_trains: ClassVar[tuple[type[Denoiser | ConsistencyModel | FlowMap], ...]] = ()
    """Other kinds that it trains as well."""
    continues: ClassVar[bool] = False
    """Whether it goes on with a trained model, which a run must name, and keeps that model's kind (where it trains
    such; a denoiser becomes a model of the kind ``trains``), path, network and guidance input."""
    starts_from_teacher: ClassVar[bool]
    """Whether the student starts from the weights of a denoiser."""
    teacher_kind: ClassVar[type[Denoiser | ConsistencyModel | FlowMap]] = Denoiser
    """The kind of map that its teacher is; a second stage names the map that its first stage trains."""
    two_times: ClassVar[bool] = False
    """Whether the network needs the time at which a jump ends."""
    follows_tangent: ClassVar[bool] = False
    """Whether it differentiates the network along the trajectory, which requires a network that is smooth in time."""
    most_plain_steps: ClassVar[int | None] = None
    """Optimizer steps from which on training may diverge with a network whose derivative in time is not bounded;
    ``None`` where it does not matter."""
    shows_streams: ClassVar[bool] = False
    """Whether the past is shown to the model of a stream as in use, at the one small level of noise that a stream has,
    rather than at random levels."""
    papers: ClassVar[tuple[str, ...]]
    """What to cite, as keys of :data:`unistep.citations.PAPERS`."""
    supports_level_axes: ClassVar[bool] = False
    """Whether the parts of a signal, such as the frames of a video, may have noise levels of their own."""

    level_axes: tuple[int, ...] = ()
    """Axes of a signal, 0 for its channels, along which each position has a noise level of its own: 1 for the frames of
    a video ``(channels, frames, height, width)``. None gives each item one level."""

    def __post_init__(self) -> None:
        """Check the fields; classes that add some extend it.

        Raises:
            ValueError: Naming the field, its value and what was expected.
        """
        check_choices(self)
        dropout = getattr(self, "label_dropout", 0.0)
        if not 0 <= dropout <= 1:
            raise ValueError(f"label_dropout must be from 0 to 1, got {dropout}")
        if self.level_axes and not self.supports_level_axes:
            raise ValueError(
                f"{type(self).__name__} has one noise level for each item, so level_axes must be empty, "
                f"got {self.level_axes}"
            )
        if len(set(self.level_axes)) < len(self.level_axes) or min(self.level_axes, default=0) < 0:
            raise ValueError(f"level_axes must be different axes, 0 for the channels, got {self.level_axes}")

    def level_shape(self, x0: Float[Tensor, "b *shape"]) -> tuple[int, ...]:
        """Shape of the noise levels of a batch: ``(b,)``, or such as ``(b, 1, frames, 1, 1)`` with ``level_axes``.

        Raises:
            ValueError: If the signal has no such axis.
        """
        if not self.level_axes:
            return (len(x0),)
        sizes = x0.shape[1:]
        if max(self.level_axes) >= len(sizes):
            known = f"of a signal of shape {tuple(sizes)}, from 0 to {len(sizes) - 1}"
            raise ValueError(f"level_axes must be axes {known}, got {self.level_axes}")
        return (len(x0), *(n if axis in self.level_axes else 1 for axis, n in enumerate(sizes)))

    @property
    def least_steps(self) -> int:
        """Fewest optimizer steps that a run should have; 0 where a few do.

        A ``curriculum`` that counts its ``settings`` says how many steps each of them needs.
        """
        curriculum: Any = getattr(self, "curriculum", None)
        count = getattr(curriculum, "settings", 1)
        return 0 if count == 1 else curriculum.steps_per_setting * count

    def suited_to(self, steps: int) -> tuple[Self, str]:
        """The options for a run of so many optimizer steps where they are left open, and why; no change, no reason.

        The objective of options that change implements :meth:`Objective.adopt`.
        """
        del steps
        return self, ""

    def budget_warnings(self, steps: int) -> list[str]:
        """What a number of optimizer steps is too small for."""
        curriculum: Any = getattr(self, "curriculum", None)
        count, least = getattr(curriculum, "settings", 1), getattr(curriculum, "steps_per_setting", 0)
        if count == 1 or steps >= least * count:
            return []
        return [
            f"the curriculum has {count} settings for {steps:,} steps, {steps / count:.1f} each, and needs about "
            f"{least}; take more steps ({least * count:,}) or a smaller "
            f"--objective.curriculum.{curriculum.shortened_by}"
        ]

    def conditions(self) -> dict[str, AnyField]:
        """Conditions of the student besides the fields of the data, by name; most methods have none."""
        return {}

    def grid(self, path: Path, sigma_data: float) -> tuple[float, ...]:
        """Times that the student must be sampled on, if no other jumps are trained; empty if any will do."""
        del path, sigma_data
        return ()

    @property
    def trained_steps(self) -> tuple[int, ...]:
        """Numbers of sampling steps whose jumps are trained, beside that of a :meth:`grid`; empty if any will do."""
        return ()

    @property
    def gamma(self) -> float | None:
        """Share of noise that samples of several steps must draw afresh between jumps; ``None`` for any."""
        return None

    def best_times(self, path: Path) -> dict[int, tuple[float, ...]]:
        """Sampling times by number of steps that the objective trains above others, which a model then samples on."""
        del path
        return {}

    def without_teacher(self) -> Self:
        """The same objective for a student that has begun already and has no teacher, such as one on new data.

        Raises:
            ValueError: If it cannot do without one.
        """
        if not self.starts_from_teacher:
            return self
        raise ValueError(
            f"{type(self).__name__} cannot go on with a trained student without a teacher; name one with --teacher, or "
            "use ect"
        )

    @property
    def sigma_min_trained(self) -> float:
        """Noise level below which the student is not trained, and so not sampled."""
        return 0.0

    @abstractmethod
    def build(self, student: Map, teacher: Denoiser | None) -> Objective:
        """The objective around a student of the kind ``trains``.

        Args:
            student: The map to train.
            teacher: A denoiser of the objective's own (or a map of its ``teacher_kind``), which it freezes; ignored by
                objectives that use none.

        Raises:
            ValueError: If the objective needs a teacher and there is none.
        """

    def build_in_run(self, student: Map, teacher: Denoiser | None, materials: Materials) -> Objective:
        """The objective in a run, for which it may take more than student and teacher; most take no more.

        Args:
            student: The map to train.
            teacher: As for :meth:`build`.
            materials: What the run can give.

        Raises:
            ValueError: If something is missing.
        """
        del materials
        return self.build(student, teacher)


M = TypeVar("M", bound=Map)


def expects(student: Map, kind: type[M]) -> M:
    """The student, which must be a map of one kind.

    Raises:
        ValueError: If it is another.
    """
    if not isinstance(student, kind):
        article = "an" if type(student).__name__[:1] in "AEIOU" else "a"
        raise ValueError(
            f"this objective trains a {kind.__name__}, not {article} {type(student).__name__}; "
            f"wrap the network in one: {kind.__name__}(net, path)"
        )
    return student


def item_level(sigma: Float[Tensor, "b *levels"]) -> Float[Tensor, " b"]:
    """One noise level for each item: its own, or the geometric mean of the levels of its parts."""
    return sigma if sigma.ndim == 1 else sigma.log().flatten(1).mean(dim=1).exp()


def frozen_copy(student: Map) -> Map:
    """A copy of the student to serve as an averaged target."""
    return copy.deepcopy(student).requires_grad_(False)


@torch.no_grad()
def ema_update(target: Map, student: Map, decay: float) -> None:
    r"""Move a target towards the student: :math:`\theta^- \leftarrow \mu\theta^- + (1-\mu)\theta`."""
    for theta_target, theta in zip(target.parameters(), student.parameters(), strict=True):
        theta_target.lerp_(theta.detach(), 1 - decay)


def with_same_dropout(
    student: Callable[[], Tensor],
    target: Callable[[], Tensor],
    device: torch.device,
    partly: Callable[[], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Evaluate both branches of a consistency loss with the same dropout mask, the target without gradient.

    The random state of the CPU and of ``device`` is restored to that before the student's call, so that the
    target's call draws the same mask. Different masks would make the two predictions differ even for equal
    inputs (Song & Dhariwal 2023, arXiv 2310.14189, section 3.3).

    Args:
        student: The branch with gradient.
        target: The branch without.
        device: Where both run.
        partly: A cheaper way to the target on a part of the batch, taken where the student draws no mask: a part would
            draw the masks of other items.
    """
    # Weights that autocast has cast without gradient must not serve the student from its cache; those that the student
    # leaves there serve the target.
    torch.clear_autocast_cache()
    before = _random_states(device)
    answer = student()
    drawn = any(not torch.equal(old, new) for old, new in zip(before, _random_states(device), strict=True))
    if drawn:
        torch.set_rng_state(before[0])
        if device.type == "cuda":
            torch.cuda.set_rng_state(before[1], device)
    with torch.no_grad():
        return answer, (target if partly is None or drawn else partly)()


def _random_states(device: torch.device) -> list[Tensor]:
    """The random state of the CPU, and of a GPU."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]
