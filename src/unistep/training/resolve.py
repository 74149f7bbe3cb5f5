"""From what is requested to what is trained: every choice is made here, once, and nothing changes it later."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from unistep.codecs.base import Codec
from unistep.core.flowmap import Denoiser
from unistep.data import Dataset, Loader
from unistep.data.balanced import balanced
from unistep.data.encoded import encode_dataset
from unistep.data.rehearsal import RehearsingDataset
from unistep.data.weighted import WeightedDataset
from unistep.generation.generator import Generator
from unistep.hub.load import load_config, models
from unistep.modalities.base import Modality
from unistep.nets.config import NetworkConfig
from unistep.training.budget import parse_amount
from unistep.training.build import (
    build_objective,
    build_student,
    continued,
    fit_model_to_data,
    fit_model_to_objective,
    fit_model_to_start,
    fit_sampling_to_objective,
    keep_conditions,
    load_fitting,
    place,
    trained_weight,
)
from unistep.training.choices import choose_batch, choose_network
from unistep.training.compiled import compile_networks, keep_if_faster, worth_compiling
from unistep.training.examples import Examples
from unistep.training.loop_options import LoopOptions
from unistep.training.lora import with_adapter
from unistep.training.materials import RunMaterials
from unistep.training.optim import build_optimizer
from unistep.training.optimizer_choice import ChosenOptimizer, choose_optimizer, in_doubt
from unistep.training.parallel import World, wrap
from unistep.training.preflight import network_warnings, start_warnings, time_embedding_slope
from unistep.training.rehearsal import old_data, replayed, still_known, with_rehearsal
from unistep.training.resolved import Parts, ResolvedRun, Session
from unistep.training.run_config import RunConfig
from unistep.training.run_paths import teacher_of
from unistep.training.step import TrainStep
from unistep.training.timing import StepTime, time_steps
from unistep.weights import weights_hash

TIMING_SHARE = 0.03
"""Share of a deadline that a timing run may take."""
SIZE_SECONDS = 2.0
"""Seconds of the timing run of each size, after two steps of warm-up."""
TRIAL_BATCH = {"cpu": 16, "cuda": 64}
"""Items per step of the timing runs that a choice is made by: a CPU is as fast with few."""


def resolve(config: RunConfig, data: Dataset, session: Session | None = None) -> ResolvedRun:
    """Make every choice that a configuration leaves open, and build what is trained.

    In this order: the network, by the data and the budget; the model's shape, codec and conditions; teacher and first
    weights; the batch size; the optimizer; compiling; the number of steps. Where one of them depends on the speed of
    this machine, a short timing run measures it.

    Args:
        config: What is requested.
        data: Training data.
        session: Where and when; the current folder and this process alone by default.

    Raises:
        ValueError: If anything does not fit: the data, the network, the objective, the teacher.
    """
    return _Resolver(config, data, session or Session()).run()


def time_size(config: RunConfig, modality: Modality, device: torch.device) -> float:
    """Items per second of training on signals of a modality, with the network of its base or the cheapest one.

    Args:
        config: The run, or its first stage.
        modality: What the signals are; random ones are as good for this.
        device: Where to compute.
    """
    generator = torch.Generator().manual_seed(0)
    signals = 2 * torch.rand(TRIAL_BATCH["cpu"], *modality.shape, generator=generator) - 1
    config = replace(config, data=replace(config.data, balance=0.0))  # random signals have no classes
    resolver = _Resolver(config, Dataset.from_tensors(signals, modality=modality), Session(world=World(device=device)))
    return resolver.cheapest_speed()


class _Resolver:
    """The state of one call of :func:`resolve`."""

    def __init__(self, config: RunConfig, data: Dataset, session: Session) -> None:
        self.requested, self.data, self.session, self.world = config, data, session, session.world
        self.reasons: dict[str, str] = {}
        self.rehearsed: Dataset | None = None
        self.old_identity: dict[str, str] = {}
        self.measured: StepTime | None = None  # of the chosen network, by the timing run of a choice
        amount = None if config.max_steps is not None else parse_amount(config.budget, "budget")
        self.timed = amount is not None and amount.unit == "seconds"
        self.seconds = amount.value - session.spent if amount is not None and self.timed else None

    def run(self) -> ResolvedRun:
        config = continued(self.requested)
        config = replace(config, model=fit_sampling_to_objective(config.model, config.objective))
        config = self._with_network(self._with_base(config))
        config = self._with_batch(config)
        config, teacher, start = self._fitted(config)
        parts, slope = self._built(config, teacher, start)
        config, parts, cost = self._with_optimizer(config, parts, self._cost(parts))
        config, speed = self._compiled(config, parts, cost.items_per_second)
        speed, steps = self.world.broadcast((speed, self._steps(config, speed)))
        config = self._with_curriculum(config, parts, steps)
        if not self.timed:
            config = replace(config, max_steps=steps)
        counted = replace(config, max_steps=steps)
        # What a time is too short for is said with the budget that is enough; see unistep.training.outlook.
        least = counted.objective.least_steps if self.timed else 0
        warnings = [*network_warnings(counted, slope), *counted.objective.budget_warnings(max(steps, least))]
        warnings += start_warnings(config.model, teacher, "teacher") + start_warnings(config.model, start, "init")
        return ResolvedRun(
            config=config,
            data=self.data,
            steps=steps,
            seconds=self.seconds,
            speed=speed,
            resumed=self._known_speed(config) is not None,
            reasons=self.reasons,
            warnings=tuple(warnings),
            parts=parts,
        )

    def cheapest_speed(self) -> float:
        """Items per second with the network of the first weights, or the cheapest one for these signals."""
        config = self._with_base(continued(self.requested))
        if config.init is None and "network" in config.auto:
            modality, second = self.data.modality, config.model.network.takes_second_time
            network = modality.default_networks(config.model.codec.shape(modality.shape))[0].with_second_time(second)
            config = replace(config, auto=(), model=replace(config.model, network=network))
        config = self._with_network(config)
        return self._timed(config, SIZE_SECONDS).at(config.batch_size).items_per_second

    def _left(self) -> float | None:
        """Seconds that are left for training."""
        return None if self.seconds is None else max(self.seconds - self.session.clock.elapsed(), 1.0)

    def _with_base(self, config: RunConfig) -> RunConfig:
        """The configuration with a base that its weights start from, where that is open and one suits the signals."""
        if "init" not in config.auto:
            return config
        config = replace(config, auto=tuple(name for name in config.auto if name != "init"))
        fresh = config.init is None and teacher_of(config, self.session.out) is None
        base = self.data.modality.default_base()
        open_network = "network" in config.auto and config.objective.trains is Denoiser
        if not (fresh and open_network) or base is None or base not in models():
            return config
        self.reasons["first weights"] = f"those of {base}, which has seen much else; --init none begins from nothing"
        return replace(config, init=base)

    def _with_network(self, config: RunConfig) -> RunConfig:
        """The configuration with its network: that of its teacher or start, or one chosen by timing runs."""
        if "network" not in config.auto:
            return config
        config = replace(config, auto=tuple(name for name in config.auto if name != "network"))
        second = config.model.network.takes_second_time
        known = config.init or teacher_of(config, self.session.out)
        if known is not None:
            self.reasons["network"] = f"that of {known}, whose weights training starts from"
            network = load_config(known).network.with_second_time(second)
            return replace(config, model=replace(config.model, network=network))
        measured: list[tuple[NetworkConfig, StepTime]] = []

        def speed(network: NetworkConfig) -> float:
            tried = replace(config, model=replace(config.model, network=network), compile=False)
            measured.append((network, self._timed(tried)))
            return measured[-1][1].at(config.batch_size).items_per_second

        modality = self.data.modality
        shape = config.model.codec.shape(modality.shape)
        candidates = [network.with_second_time(second) for network in modality.default_networks(shape)]
        left = self.world.broadcast(self._left())  # by one clock: all processes time as many networks
        chosen = self.world.broadcast(choose_network(candidates, speed, left))
        self.reasons["network"] = f"{chosen.value.described}: {chosen.reason}"
        self.measured = self.world.broadcast(next((s for network, s in measured if network == chosen.value), None))
        return replace(config, model=replace(config.model, network=chosen.value))

    def _with_batch(self, config: RunConfig) -> RunConfig:
        """The configuration with a batch size, chosen by a timing run where it is left open."""
        if "batch_size" not in config.auto:
            return config
        config = replace(config, auto=tuple(name for name in config.auto if name != "batch_size"))
        if self._left() is not None and self.measured is None:
            self.measured = self._timed(config)
        speed = 1.0 if self.measured is None else self.measured.at(config.batch_size).items_per_second
        chosen = self.world.broadcast(choose_batch(speed, self._left()))
        least = self.world.size * config.accumulation  # each process and each part gets as many
        size = -(-chosen.value // least) * least
        self.reasons["batch size"] = f"{size}: {chosen.reason}"
        return replace(config, batch_size=size)

    def _with_curriculum(self, config: RunConfig, parts: Parts, steps: int) -> RunConfig:
        """The configuration with a curriculum that so many steps are enough for, where that is left open."""
        if "curriculum" not in config.auto:
            return config
        config = replace(config, auto=tuple(name for name in config.auto if name != "curriculum"))
        suited, reason = config.objective.suited_to(steps)
        if not reason:
            return config
        parts.objective.adopt(suited)
        self.reasons["curriculum"] = reason
        return replace(config, objective=suited)

    def _with_optimizer(self, config: RunConfig, parts: Parts, cost: StepTime) -> tuple[RunConfig, Parts, StepTime]:
        """The run with its optimizer, chosen by what a step of Muon costs where that is open, and what a step costs."""
        if "optimizer" not in config.auto:
            return config, parts, cost
        config = replace(config, auto=tuple(name for name in config.auto if name != "optimizer"))
        if self.measured is not None and in_doubt(cost):  # which was concluded from another batch
            cost = time_steps(parts.train_step, parts.optimizer, self._longest())
        muon = ChosenOptimizer(config=config.optimizer, optimizer=parts.optimizer, cost=cost)
        chosen = choose_optimizer(muon, parts.objective, parts.train_step, timed=self.timed)
        if chosen.reason:
            self.reasons["optimizer"] = chosen.reason
        config = replace(config, optimizer=chosen.config)
        return config, replace(parts, optimizer=chosen.optimizer), chosen.cost

    def _timed(self, config: RunConfig, longest: float | None = None) -> StepTime:
        """What a step costs, by a timing run with a small batch, of ``longest`` seconds where given."""
        least = self.world.size * config.accumulation
        batch_size = -(-TRIAL_BATCH.get(self.world.device.type, 64) // least) * least
        config = replace(config, batch_size=batch_size, compile=False)
        config, teacher, start = self._fitted(config)
        parts, _ = self._built(config, teacher, start)
        return time_steps(parts.train_step, parts.optimizer, longest or self._longest(), longest is not None)

    def _fitted(self, config: RunConfig) -> tuple[RunConfig, Generator | None, Generator | None]:
        """The run with the model that fits its data, its teacher, and the model that its weights start from."""
        model = fit_model_to_objective(fit_model_to_data(config.model, self.data), config.objective)
        model = keep_conditions(model, config.init, teacher_of(config, self.session.out))
        teacher = load_fitting(teacher_of(config, self.session.out), model, "teacher")
        start = load_fitting(config.init, model, "init")
        fitted = replace(config, model=fit_model_to_start(model, start, teacher))
        return with_adapter(with_rehearsal(fitted, self.data.fields, start), start), teacher, start

    def _built(self, config: RunConfig, teacher: Generator | None, start: Generator | None) -> tuple[Parts, float]:
        """What is trained, and the slope of its embedding of time."""
        model = config.model
        student = build_student(config, model, start or teacher)
        slope = time_embedding_slope(student.net)
        options = LoopOptions.of(config)
        codec = model.build_codec().to(self.world.device)
        data, latent = self._encoded(self.data, codec)
        even = balanced(data, self.data, config.data.balance)
        mixed, rehearsed = self._rehearsing(config, start, even, codec)
        weight = trained_weight(config)
        mixed = mixed if weight is None else WeightedDataset(mixed, weight)
        loader = Loader(mixed, options.batch_size, config.seed, rank=self.world.rank, world=self.world.size)
        modality = data.modality if latent else model.modality
        examples = Examples(
            modality, codec, model.context, model.sigma_data, latent, as_in_streams=config.objective.shows_streams
        )
        materials = RunMaterials(config, self.data, data, examples, self.world)
        objective = build_objective(config, student, teacher, materials)
        place(objective, config, self.world)
        module = wrap(objective, self.world, config.parallel)
        train_step = TrainStep(module, loader, examples, options, self.world)
        if config.compile:
            compile_networks(objective, train_step)
        optimizer = build_optimizer(config.optimizer, student.net, objective, train_step.precision)
        frozen = objective.teacher
        teacher_hash = "" if frozen is None else weights_hash(frozen.state_dict())
        identity = {"data": self.data.fingerprint, "teacher": teacher_hash}
        identity |= rehearsed
        if model.adapter is not None:
            identity["base"] = model.adapter.sha256
        return Parts(objective=objective, train_step=train_step, optimizer=optimizer, identity=identity), slope

    def _rehearsing(
        self, config: RunConfig, start: Generator | None, data: Dataset, codec: Codec
    ) -> tuple[Dataset, dict[str, str]]:
        """The data with old data of the first model among it, where the run rehearses, and what identifies that."""
        if not config.rehearsal or start is None:
            return data, {}
        if self.rehearsed is None:
            self.session.say(f"preparing what {config.init} was trained on, once (--rehearsal 0 goes without)")
            here = self.world.run_on_rank_zero(lambda: old_data(start) is not None)
            own = old_data(start) if here else None
            self.rehearsed = replayed(start) if own is None else own
            samples = f"samples of {weights_hash(start.map.state_dict())}"  # whose bits differ between machines
            self.old_identity = {"rehearsed": samples if own is None else own.fingerprint}
            self.reasons["rehearsal"] = f"{config.rehearsal:.0%} of each batch are of {self.rehearsed.source}"
        old, _ = self._encoded(self.rehearsed, codec)
        known = {n: spec for n, spec in still_known(start.config, config.model).items() if n in old.fields}
        return RehearsingDataset(data, old, config.rehearsal, known), self.old_identity

    def _encoded(self, data: Dataset, codec: Codec) -> tuple[Dataset, bool]:
        """Data, and whether it is latents: a codec with weights encodes items once where they never vary."""
        if not codec.config.has_weights or codec.chunked or data.varies:
            return data, False
        self.world.run_on_rank_zero(lambda: encode_dataset(data, codec))
        return encode_dataset(data, codec, progress=False), True

    def _known_speed(self, config: RunConfig) -> float | None:
        """Items per second of earlier sessions."""
        earlier = self.session.earlier or {}
        if earlier.get("step", 0) and earlier.get("seconds", 0.0) > 0:
            return earlier["step"] * config.batch_size / earlier["seconds"]
        return None

    def _longest(self) -> float | None:
        """Seconds that a timing run may take."""
        return None if self.seconds is None else max(TIMING_SHARE * self.seconds, 0.1)

    def _cost(self, parts: Parts) -> StepTime:
        """What a step costs: as in earlier sessions, as the timing run of a choice found, or by one of its own."""
        batch_size, known = parts.train_step.options.batch_size, self._known_speed(self.requested)
        if known is not None:
            return StepTime(batch_size=batch_size, gradient=batch_size / known)
        if self.measured is not None:
            return self.measured.at(batch_size)
        return time_steps(parts.train_step, parts.optimizer, self._longest())

    def _compiled(self, config: RunConfig, parts: Parts, speed: float) -> tuple[RunConfig, float]:
        """The run with its networks compiled where that is worth it, and its speed."""
        seconds = self._steps(config, speed) * parts.train_step.options.batch_size / speed
        if not worth_compiling(config, seconds, parts.train_step, self.session.out):
            return config, speed
        self.session.say("compiling the network, as this run is long (--no-auto-compile goes without)")
        try:
            faster = keep_if_faster(parts.objective, parts.train_step, parts.optimizer, speed)
        except ValueError as error:
            self.session.say(f"not compiled: {error}")
            return config, speed
        return (config, speed) if math.isnan(faster) else (replace(config, compile=True), faster)

    def _steps(self, config: RunConfig, speed: float) -> int:
        """Optimizer steps of the whole run, at this speed."""
        if config.max_steps is not None:
            return config.max_steps
        batch_size, left = config.batch_size, self._left()
        if left is None:
            return parse_amount(config.budget, "budget").steps(batch_size, speed)
        done = (self.session.earlier or {}).get("step", 0)
        return max(1, done + round(left * speed / batch_size))
