"""FD loss: post-training of a one-step generator on the Fréchet distance between its samples and the data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unistep.core.condition import Condition, Label, as_it_is, select, to_device
from unistep.core.flowmap import ConsistencyModel, Denoiser, FlowMap, Map
from unistep.core.path import Path
from unistep.core.sampling_inputs import first_point
from unistep.core.seeding import Randomness, randn_like
from unistep.objectives.base import Loss, Objective, frozen_copy
from unistep.objectives.frechet import FrechetTarget, Representation, influence
from unistep.objectives.frechet_bias import slope_of_real
from unistep.objectives.guidance import GuidanceRangeConfig
from unistep.objectives.materials import Materials, Streams
from unistep.objectives.population import POPULATIONS, ClassMeans, Newest, Population, of_all_processes

Examples = Callable[[int], Iterable[tuple[Tensor, Condition]]]
"""``examples(count)``: so many clean inputs with their conditions, spread over the data, in batches."""
REAL = 2048
"""Real items on which the bias of the gradient is measured."""


@dataclass(frozen=True, kw_only=True)
class FDConfig(GuidanceRangeConfig):
    """Train a one-step model on the Fréchet distance of its samples from the data, in several representations."""

    trains = ConsistencyModel
    also_trains = (FlowMap,)
    continues = True
    starts_from_teacher = False
    shows_streams = True
    papers = ("yang2026fd",)

    representations: tuple[str, ...] = ()
    """Feature networks that are trained on, by the names that ``unistep evaluate --features`` takes; without, those
    that suit the signal. The maps inside of the run's teacher are trained on as well, where one is named, as with
    ``denoiser:MODEL``. A network that is trained on no longer measures quality: select and report on others."""
    population: int = 1024
    """Samples whose moments are compared with the data's, of which a batch is the newest share; more than features."""
    times: tuple[float, ...] = ()
    """Later times of a sample of several steps, falling, such as 0.9: the result of each is trained as well as that of
    one step, on an equal share of the batch and with a population of its own. Without, one step alone."""
    moments: Literal["running", "queue"] = "running"
    """``running``: exponential averages of the moments; ``queue``: the features of the last samples."""
    conditional: float = 0.0
    """Weight of the distance between the means of each class, beside the distance of all samples; 0 leaves it out."""
    anchor: float = 0.0
    """Weight of the squared distance from what the first weights make of the same noise; 0 leaves it out."""
    unbiased: bool = True
    """Whether what the gradient would be for real data in place of samples is taken from it: a population of some
    thousand is too small to know directions of little variance, and without this they are lost."""

    streams: int = 0
    """Streams of the model's own, for the model of a stream: three in four of its examples go on from one, and so from
    what it makes of itself after hundreds of chunks, where else all go on from the data. 0 for none; 64 are usual."""
    stream_length: int = 480
    """Chunks after which such a stream begins anew; recordings must hold so many after the past."""
    answering: bool = False
    """Whether actions are those of the recorded moment most like such a stream, and so answer to what it shows."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.streams < 0 or self.stream_length < 1:
            got = f"{self.streams} of {self.stream_length}"
            raise ValueError(
                f"streams must be from 0 on and as long as a chunk at least, got {got}; 64 of 480 are usual"
            )
        if self.answering and not self.streams:
            raise ValueError("answering is about streams of its own, and there are none; give streams, 64 are usual")
        if self.population < 2:
            raise ValueError(f"population must be at least 2 samples, got {self.population}; 1024 is usual")
        if list(self.times) != sorted({t for t in self.times if 0 < t < float("inf")}, reverse=True):
            raise ValueError(f"times must be positive and fall from step to step, got {self.times}; 0.9 is usual")
        for name in ("conditional", "anchor"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be a number from 0 on, got {getattr(self, name)}; 0 leaves it out")

    def best_times(self, path: Path) -> dict[int, tuple[float, ...]]:
        """The times of the samples that are trained."""
        return {n + 1: (path.t_max, *self.times[:n]) for n in range(1, len(self.times) + 1)}

    def build(
        self,
        student: Map,
        teacher: Denoiser | None,
        representations: Sequence[Representation] = (),
        examples: Examples | None = None,
        streams: Streams | None = None,
    ) -> FrechetObjective:
        """The objective in some representations; it uses no teacher beside them.

        Raises:
            ValueError: If there is no representation, or the student is a denoiser.
        """
        del teacher
        return FrechetObjective(student, representations, self, examples, streams)

    def build_in_run(self, student: Map, teacher: Denoiser | None, materials: Materials) -> FrechetObjective:
        """The objective in the representations that the options name, with the moments of the run's data.

        Args:
            student: The map to train.
            teacher: A denoiser whose maps inside are trained on as well; without, the named networks alone.
            materials: What the run can give.
        """
        found = materials.representations(self.representations, by_class=self.conditional > 0, teacher=teacher)
        # Without weights in training, a model that takes them would unlearn what they do.
        weights = materials.guidance_range if self.guidance_range is None else self.guidance_range
        streams = materials.streams(self.streams, self.stream_length, self.answering) if self.streams else None
        return replace(self, guidance_range=weights).build(student, teacher, found, materials.examples, streams)


class FrechetObjective(Objective):
    r"""Move the moments of generated features towards those of the data, through the newest batch.

    With :math:`x = f_\theta(\sigma_T z, T)`, features :math:`\phi_k`, and :math:`d_k` the Fréchet distance of the data
    from a population of samples, among them this batch,

    .. math:: L = \frac1K \sum_k \frac{d_k}{d_k^{(0)}} + \lambda_a \lVert x - x^{(0)}\rVert^2, \qquad
              d = \lVert m-\mu\rVert^2 + \mathrm{tr}\,\Sigma + \mathrm{tr}\,\Sigma_r - 2\,\mathrm{tr}\,(R\Sigma R)^{1/2}

    where :math:`d_k^{(0)}` is the distance, and :math:`x^{(0)}` the sample of the same noise, by the first weights. The
    gradient goes through the batch alone, as if it were the whole population: that of the paper divided by the batch's
    share :math:`1-\beta`, so that the other terms need no weight that depends on it. Each example's loss is its
    :func:`~unistep.objectives.frechet.influence`, so that processes need exchange no more than features. With
    ``conditional`` the squared distances between the means of each class, averaged over the samples, are added to
    each :math:`d_k`. With ``times``, samples of two and more steps have terms of their own; their gradient goes through
    the last jump.

    The eigenvalues of :math:`R\Sigma R` are those of a population, which must therefore be larger than the number of
    features, and small enough to follow the weights: moments that lag push the weights past their goal. The value
    always has a bias of the population's size, about :math:`\mathrm{tr}\,\Sigma / N`. So has the gradient: it takes
    variance away where there is little, from real data as well. With ``unbiased``, and examples of the data, :math:`G`
    in the influence becomes :math:`G - B`, in which

    .. math:: B = \sum_j \frac{v_j^\top M v_j}{\lambda_j} \, v_j v_j^\top, \qquad
              M = E\bigl[ ((m-\mu) + G(\phi-m))\,(\phi-m)^\top \bigr]

    is what it is for batches of real data, along the eigenvectors :math:`v_j` of their covariance. In an accumulated
    batch each part is the newest share by itself.

    A representation is soon exploited where it sees less than an eye does: watch networks that are not trained on.

    Args:
        student: A one-step model, of which only the jump from the largest time is trained, and those from ``times``. A
            consistency model around the network of a denoiser turns that into a one-step model.
        representations: Where distances are measured.
        config: Its options.
        examples: Real items: conditions for the first population, and what the gradient's bias is measured on. Without,
            the first batch is all of the population, and the bias stays.
        streams: Streams of the student's own, which most examples go on from, a module.

    References:
        Yang et al. 2026, arXiv 2604.28190, section 3; Dowson & Landau 1982, equation 4.
    """

    preparing = "making samples of the first weights, the measure of all later ones; minutes, if in streams of its own"
    scales: Tensor

    def __init__(
        self,
        student: Map,
        representations: Sequence[Representation],
        config: FDConfig | None = None,
        examples: Examples | None = None,
        streams: Streams | None = None,
    ) -> None:
        config = config or FDConfig()
        if not isinstance(student, ConsistencyModel | FlowMap):
            raise ValueError(f"this objective trains a one-step model, not a {type(student).__name__}")
        if config.times and not isinstance(student, ConsistencyModel):
            raise ValueError(f"times are for a consistency model, not for a {type(student).__name__}; leave them out")
        if config.times and config.times[0] >= student.path.t_max:
            raise ValueError(f"times must be less than the first, {student.path.t_max:g}, got {config.times[0]:g}")
        if not representations:
            raise ValueError("a Fréchet distance needs a representation of the samples; give one or more")
        features = [r.features if isinstance(r.features, nn.Module) else _Plain(r.features) for r in representations]
        frozen = nn.ModuleDict({"features": nn.ModuleList(features)})
        if config.anchor > 0:
            frozen["start"] = frozen_copy(student)
        frozen["targets"] = nn.ModuleList(FrechetTarget(r.mean, r.covariance) for r in representations)
        super().__init__(student, frozen)
        self.config, self.examples, self.steps = config, examples, 1 + len(config.times)
        self.streams = streams  # a module, so that a checkpoint holds them
        self._given = [r.given for r in representations]
        kept, size = POPULATIONS[config.moments], config.population
        # By number of steps, and for each in every representation.
        each = [(steps, r) for steps in range(1, self.steps + 1) for r in representations]
        self.names = [r.name if steps == 1 else f"{r.name}/{steps}" for steps, r in each]
        self.populations = nn.ModuleList(kept(size, len(r.mean)) for _, r in each)
        means = [r.class_means if config.conditional > 0 else {} for _, r in each]
        self.classes = nn.ModuleList(ClassMeans(size, given) for given in means)
        self.register_buffer("scales", torch.zeros(len(each), dtype=torch.float64))
        # Of each representation; the samples of any number of steps have the same share of a batch.
        for k, r in enumerate(representations):
            zeros = torch.zeros_like(r.covariance, dtype=torch.float64)
            self.register_buffer(f"bias_{k}", zeros, persistent=False)  # the same data gives it anew
        self._measured = examples is None or not config.unbiased
        self._newest: list[Newest] = []
        self._step_of_newest = 0.0

    def features(self, x: Float[Tensor, "b *shape"], condition: Condition) -> list[Float[Tensor, "b dim"]]:
        """Features of samples in each representation, in full precision whatever the student's arithmetic."""
        assert self.teacher is not None
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(torch.promote_types(x.dtype, torch.float32))
            networks = zip(self.teacher.get_submodule("features").children(), self._given, strict=True)
            return [(network(x, condition) if given else network(x)).flatten(1) for network, given in networks]

    @torch.no_grad()
    def begin(self, generator: Randomness) -> None:
        """Fill the populations with samples of the first weights, whose distances are the units of the loss."""
        self._newest = []
        if self.streams is not None:
            self.streams.begin(self.student)
        if self.examples is None:
            return
        was = self.student.training
        self.student.eval()
        for x0, condition in self.examples(self.config.population):
            condition = as_it_is(condition)
            x0 = x0.to(self.scales.device)
            condition = self.config.sample_guidance(to_device(condition, x0.device), x0, generator)
            condition = self.shown(condition, generator)
            for steps in range(1, self.steps + 1):
                x = self.jumps([randn_like(x0, generator) for _ in range(steps)], condition)
                newest = Newest(steps, self.features(x, condition), _labels(condition))
                # The distance of all so far; what the last batch leaves in place is that of the whole population.
                for k, phi in enumerate(newest.features, start=(steps - 1) * len(newest.features)):
                    newest.distances.append(self._compared(k, newest, phi, condition)[0])
                self._take_in(newest, rescale=True)
        self.student.train(was)

    def forward(
        self, x0: Float[Tensor, "b *shape"], condition: Condition, *, generator: Randomness, progress: float
    ) -> Loss:
        """Loss of a batch; see :class:`Objective`. Of the data only the conditions and the shape are used."""
        if self.streams is not None and torch.is_grad_enabled():
            self.streams.refresh(self.student)
        # What the student makes is compared with the data as it is, whatever was done to the items of this batch.
        condition = self.shown(self.config.sample_guidance(as_it_is(condition), x0, generator), generator)
        # For the whole batch, as a process of several draws its own share of them.
        noises = [randn_like(x0, generator) for _ in range(self.steps)]
        logs, losses, order = dict[str, Tensor](), list[Tensor](), list[Tensor]()
        if torch.is_grad_enabled() and progress != self._step_of_newest:
            self._newest, self._step_of_newest = [], progress  # what a skipped step left is no part of this one
        for i in range(min(self.steps, len(x0))):
            # Every n-th example, so that the shares of several processes are together that of one.
            rows = torch.arange(i, len(x0), self.steps, device=x0.device)
            own = select(condition, rows)
            x = self.jumps([noise[rows] for noise in noises[: i + 1]], own)
            loss = self._of_share(i + 1, x, own, logs)
            if self.config.anchor > 0 and i == 0:
                away = self._away(x, noises[0][rows], own)
                logs["fd/away"] = away.detach().mean()
                loss = loss + self.config.anchor * away
            losses.append(loss)
            order.append(rows)
        return Loss(torch.cat(losses)[torch.cat(order).argsort()], logs)

    def shown(self, condition: Condition, generator: Randomness) -> Condition:
        return condition if self.streams is None else self.streams.shown(condition, generator)

    def _of_share(
        self, steps: int, x: Float[Tensor, "b *shape"], condition: Condition, logs: dict[str, Tensor]
    ) -> Float[Tensor, " b"]:
        """The relative distance of the population with samples of so many steps, with their gradient."""
        found, own = self.features(x, condition), _labels(condition)
        newest = Newest(
            steps, [of_all_processes(phi) for phi in found], {n: of_all_processes(v) for n, v in own.items()}
        )
        self._measure_bias(len(newest.features[0]))
        total = x.new_zeros(len(x), dtype=found[0].dtype)
        for k, phi in enumerate(found, start=(steps - 1) * len(found)):
            distance, parts = self._compared(k, newest, phi, condition)
            newest.distances.append(distance)
            scale = torch.where(self.scales[k] > 0, self.scales[k], self._unit(k, distance))
            # The value of the whole, with the gradient of each example's part.
            total = total + ((distance.to(phi) + parts - parts.detach()) / scale.to(phi)) / len(found)
            logs[f"fd/{self.names[k]}"] = distance
        logs["fd/relative" if steps == 1 else f"fd/relative/{steps}"] = total.detach().mean()
        if torch.is_grad_enabled():
            self._newest.append(newest)
        return total

    def jumps(self, noises: Sequence[Float[Tensor, "b *shape"]], condition: Condition) -> Float[Tensor, "b *shape"]:
        """Samples of as many steps as there are noises, the gradient through the last of them."""
        x = noises[0]
        for i, noise in enumerate(noises):
            with torch.set_grad_enabled(torch.is_grad_enabled() and i == len(noises) - 1):
                start, time = (x, self.config.times[i - 1]) if i else (None, None)
                x = one_jump(self.student, noise, condition, start, time)
        return x

    def _compared(
        self, k: int, newest: Newest, phi: Float[Tensor, "b dim"], condition: Condition
    ) -> tuple[Float[Tensor, ""], Float[Tensor, " b"]]:
        """Distance of a population with the newest batch, and the influence of this process's examples on it."""
        assert self.teacher is not None
        which = k % len(newest.features)  # of the representations
        mean, covariance = cast(Population, self.populations[k]).moments(newest.features[which])
        target = self.teacher.get_submodule("targets").get_submodule(str(which))
        distance, by_mean, by_covariance = target(mean, covariance)
        parts = influence(phi, mean, by_mean, by_covariance - self.get_buffer(f"bias_{which}"))
        if self.config.conditional > 0:
            classes = cast(ClassMeans, self.classes[k])
            apart, slopes = classes(newest.features[which], newest.indices, phi, _labels(condition))
            distance, parts = distance + self.config.conditional * apart, parts + self.config.conditional * slopes
        return distance, parts

    @torch.no_grad()
    def _measure_bias(self, batch: int) -> None:
        """Find the bias of each representation's gradient, once it is known how many samples a step adds.

        Not in a timing run, before there is a population: it would be taken for what a step costs.
        """
        if self._measured or not int(cast(Population, self.populations[0]).filled):
            return
        assert self.examples is not None
        real, device = [list[Tensor]() for _ in self._given], self.scales.device
        for x0, condition in self.examples(REAL):
            found = self.features(x0.to(device), to_device(as_it_is(condition), device))
            for rows, phi in zip(real, found, strict=True):
                rows.append(phi)
        for k, rows in enumerate(real):
            population = POPULATIONS[self.config.moments](self.config.population, rows[0].shape[1]).to(device)
            self.get_buffer(f"bias_{k}").copy_(slope_of_real(torch.cat(rows), population, batch))
        self._measured = True

    def _unit(self, k: int, distance: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """The distance as a divisor: not below what rounding leaves of one."""
        assert self.teacher is not None
        targets = cast(nn.ModuleList, self.teacher.get_submodule("targets"))
        trace = cast(FrechetTarget, targets[k % len(targets)]).trace
        return distance.clamp(min=trace * torch.finfo(torch.float32).eps + torch.finfo(torch.float32).tiny)

    def _away(self, x: Tensor, noise: Tensor, condition: Condition) -> Float[Tensor, " b"]:
        """Mean squared distance from the samples of the first weights, in units of the data's variance."""
        assert self.teacher is not None
        with torch.no_grad():
            first = one_jump(cast(Map, self.teacher.get_submodule("start")), noise, condition)
        return (x - first).float().square().flatten(1).mean(dim=1) / self.student.sigma_data**2

    def after_step(self, progress: float) -> None:
        """Take the newest batch into the populations; that of a step that was skipped never gets there."""
        del progress
        if self.streams is not None:
            self.streams.after_step()
        for newest in self._newest:
            self._take_in(newest, rescale=not bool((self.scales > 0).all()))
        self._newest = []

    @torch.no_grad()
    def _take_in(self, newest: Newest, *, rescale: bool) -> None:
        for i, features in enumerate(newest.features):
            k = (newest.steps - 1) * len(newest.features) + i
            cast(Population, self.populations[k]).add(features)
            cast(ClassMeans, self.classes[k]).add(features, newest.indices)
            if rescale:
                self.scales[k] = self._unit(k, newest.distances[i])


def one_jump(
    model: Map,
    noise: Float[Tensor, "b *shape"],
    condition: Condition,
    start: Float[Tensor, "b *shape"] | None = None,
    time: float | None = None,
) -> Float[Tensor, "b *shape"]:
    """One jump to data: from noise, or from a clean signal with noise up to a time."""
    t = noise.new_full((len(noise),), model.path.t_max if time is None else time)
    return model(first_point(model.path, noise, t, start), t, None, condition)


def _labels(condition: Condition) -> dict[str, Tensor]:
    """The classes of a batch by the name of the condition."""
    return {name: value.index for name, value in condition.items() if isinstance(value, Label)}


class _Plain(nn.Module):
    """A function as a module.

    Args:
        function: From samples to features.
    """

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._function = function

    def forward(self, x: Tensor) -> Tensor:
        return self._function(x)
