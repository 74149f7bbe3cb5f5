"""Training with objects of your own, from a notebook: an objective around any network, and any data."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn

from unistep.codecs.base import Codec, CodecConfig
from unistep.codecs.weights import build_codec
from unistep.core.flowmap import Denoiser, Map
from unistep.data import Dataset, Loader
from unistep.generation.generator import Generator
from unistep.generation.live import configuration_of, describe
from unistep.generation.requests import check_number
from unistep.objectives.base import Objective, ObjectiveConfig
from unistep.optimizers import MuonConfig, OptimizerConfig
from unistep.precision import WantedPrecision
from unistep.training.build import fit_sampling_to_objective
from unistep.training.checkpoint import TrainingState, checkpoints
from unistep.training.display import Display
from unistep.training.ema import EMA, EMAConfig, PowerEMA
from unistep.training.examples import Examples
from unistep.training.log import MetricsLog
from unistep.training.loop import Callback, Loop
from unistep.training.loop_options import LoopOptions
from unistep.training.optim import RunOptimizer, Schedule, SteppedGroup, build_optimizer
from unistep.training.pace import Clock, Leg, Pace
from unistep.training.parallel import start_world, wrap
from unistep.training.restore import restore
from unistep.training.run_directory import run_lock
from unistep.training.run_files import RunFiles
from unistep.training.step import TrainStep
from unistep.training.stop import Cancel, Stop
from unistep.weights import weights_hash

DENOISER_STEPS = 18
"""Sampling steps of a denoiser where nothing else is said."""

Optimizers = OptimizerConfig | torch.optim.Optimizer | Callable[[list[nn.Parameter]], torch.optim.Optimizer]
"""An optimizer: its options, the object, or a function of the parameters."""


class Trainer:
    """Trains an objective on a data set, with the same loop as ``unistep train``.

    ::

        x0 = torch.rand(1000, 3, 16, 16) * 2 - 1
        student = unistep.ConsistencyModel(MyNetwork(), unistep.VarianceExploding())
        trainer = unistep.Trainer(CTConfig().build(student, None), unistep.Dataset.from_tensors(x0), steps=2000)
        trainer.run()
        samples = trainer.generator().sample(8)

    Args:
        objective: The training signal around the student, such as ``CTConfig().build(student, None)``.
        dataset: Training data, or signals in [-1, 1] as a tensor ``[n, *shape]``.
        codec: What the network sees of a signal: a codec, or its options, which name its weights where it has any; by
            default the one that suits the signal.
        steps: Optimizer steps.
        batch_size: Items per optimizer step.
        optimizer: An optimizer's options, an optimizer of the objective's parameters, or a function of a list of
            parameters that makes one; Muon by default.
        schedule: Learning rate along training; a short warm-up and a linear descent in the second half by default.
        ema: The average of the weights that samples are drawn from.
        seed: Seed of the data order and all noise.
        device: ``cpu`` or ``cuda``; a GPU where there is one without.
        precision: Arithmetic of the network.
        out: Folder for checkpoints, numbers and samples; without, everything stays in memory.
        callback: Called with a :class:`~unistep.training.loop.Progress` after every step.
        cancel: A function that returns whether to stop, or an event that is set to stop.
        checkpoint_every: Time or optimizer steps between checkpoints in ``out``.
        sample_every: Time or optimizer steps between samples in ``out``.
        console: Where the main process shows progress; standard output by default, ``Console(quiet=True)`` for nothing.

    Raises:
        ValueError: If an option is out of range, or if objective and data do not fit.
    """

    def __init__(
        self,
        objective: Objective,
        dataset: Dataset | Tensor,
        *,
        codec: Codec | CodecConfig | None = None,
        steps: int = 1000,
        batch_size: int = 64,
        optimizer: Optimizers | None = None,
        schedule: Schedule | None = None,
        ema: EMAConfig | None = None,
        seed: int = 0,
        device: str | None = None,
        precision: WantedPrecision = "auto",
        out: str | os.PathLike[str] | None = None,
        callback: Callback | None = None,
        cancel: Cancel | None = None,
        checkpoint_every: str = "5m",
        sample_every: str = "1m",
        console: Console | None = None,
    ) -> None:
        if not isinstance(objective, Objective):
            found = type(objective).__name__
            raise ValueError(f"objective must be an Objective, such as CTConfig().build(student, None), got {found}")
        for name, number in (("steps", steps), ("batch_size", batch_size)):
            check_number(name, number, 1)
        _check_conditions(objective)
        dataset = Dataset.from_tensors(dataset) if isinstance(dataset, Tensor) else dataset
        self.objective, self.dataset, self.modality = objective, dataset, dataset.modality
        self.codec = _codec(codec, dataset, objective.student.sigma_data)
        self.out = None if out is None else Path(out).expanduser()
        self._world = start_world(device)
        self._console = (console or Console()) if self._world.is_rank_zero else Console(quiet=True)
        self._options = LoopOptions(
            batch_size=batch_size,
            precision=precision,
            seed=seed,
            schedule=schedule or Schedule(warmup_steps=min(100, steps // 10)),
            emas=(ema or PowerEMA(),),
            checkpoint_every=checkpoint_every,
            sample_every=sample_every,
        )
        self._steps, self._callback, self._stop = steps, callback, Stop(cancel)
        self._build(optimizer)

    def _build(self, optimizer: Optimizers | None) -> None:
        """Build the loop."""
        world, objective, options = self._world, self.objective.to(self._world.device), self._options
        module = wrap(objective, world, "ddp")
        loader = Loader(self.dataset, options.batch_size, options.seed, rank=world.rank, world=world.size)
        examples = Examples(self.modality, self.codec.to(world.device), None, objective.student.sigma_data)
        train_step = TrainStep(module, loader, examples, options, world)
        built = _optimizer(optimizer, objective, train_step)
        averages = [EMA(ema, objective.student.net.parameters()) for ema in options.emas]
        frozen = objective.teacher
        self._identity = {
            "data": self.dataset.fingerprint,
            "teacher": "" if frozen is None else weights_hash(frozen.state_dict()),
            "settings": f"batch_size {options.batch_size}, seed {options.seed}, steps {self._steps}",
        }
        self._loop = Loop(
            options,
            objective,
            train_step,
            TrainingState(objective, built, averages),
            Pace([Leg(0, 0.0, self._steps)]),
            clock=Clock(),
            files=None if self.out is None else RunFiles(self.out, options.keep, self._identity),
            draw=self._draw,
            modality=self.modality,
            stop=self._stop,
            callback=self._callback,
            resume="run(resume=True)",
        )

    @property
    def step(self) -> int:
        """Optimizer steps taken."""
        return self._loop.step

    def run(self, *, resume: bool = False) -> bool:
        """Train, or go on where the last call was stopped.

        Args:
            resume: Whether to go on from the newest checkpoint in ``out``, if there is one.

        Returns:
            Whether the last step was reached; false after an interruption.

        Raises:
            ValueError: If ``out`` holds checkpoints and ``resume`` is off, or if those are of another run.
            TrainingStoppedError: When training diverges.
        """
        folder, main = self.out, self._world.is_rank_zero
        if folder is None:
            return self._run(None)
        folder.mkdir(parents=True, exist_ok=True)
        with run_lock(folder) if main else nullcontext():
            if self.step == 0 and checkpoints(folder / "checkpoints"):
                if not resume:
                    raise ValueError(f"{folder} already holds a run; go on with run(resume=True), or give another out")
                named = {
                    "data": "data",
                    "teacher": "teacher",
                    "settings": "batch size, seed or number of steps",
                }
                state = self._loop.state
                self._loop.go_on(restore(state, folder, self._identity, named, self._world, self._console))
            log = MetricsLog(folder, self.step) if main else None
            try:
                return self._run(log)
            finally:
                if log is not None:
                    log.close()

    def _run(self, log: MetricsLog | None) -> bool:
        self._loop.clock = Clock(self._loop.seconds)  # time between two calls is none of training
        display = Display(self._console, self._loop.total, self._loop.step, f"{self.modality.noun}s")
        return self._loop.run(display, log)

    def generator(self) -> Generator:
        """A generator with the averaged weights, which further training leaves as it is."""
        with self._loop.averaged():
            student = copy.deepcopy(self.objective.student)
        return self._generator(student.requires_grad_(False), copy.deepcopy(self.codec))

    def _generator(self, student: Map, codec: Codec) -> Generator:
        """A generator of the student on the times, and with the conditions, that the objective trains."""
        steps = DENOISER_STEPS if isinstance(student, Denoiser) else 1
        known, network = _options(self.objective), configuration_of(student.net)
        given = {**self.dataset.fields, **({} if known is None else known.conditions())}
        fields = {name: field for name, field in given.items() if network.takes(name, field)}
        model = describe(student, self.modality, codec, fields, steps=steps)
        return Generator(student, model if known is None else fit_sampling_to_objective(model, known), codec=codec)

    def _draw(self) -> Tensor:
        """Samples of the student as it is, always of the same seeds."""
        return self._generator(self.objective.student, self.codec).sample(self.modality.previews)


def _options(objective: Objective) -> ObjectiveConfig | None:
    """What the objective was built from, where it says so."""
    found = getattr(objective, "config", None)
    return found if isinstance(found, ObjectiveConfig) else None


def _check_conditions(objective: Objective) -> None:
    """Check that the student's network takes what the objective gives it beside the data's conditions: a second time,
    and conditions of its own.

    Raises:
        ValueError: If it does not.
    """
    known, network = _options(objective), configuration_of(objective.student.net)
    if known is not None and known.two_times and not network.takes_second_time:
        raise ValueError(
            f"{type(known).__name__} needs a network that takes the time at which a jump ends; build it with "
            "second_time=True"
        )
    for name, field in ({} if known is None else known.conditions()).items():
        if not network.takes(name, field):
            raise ValueError(
                f"the objective gives the student the condition {name!r} ({field.extent}), which its network does not "
                f"take; build it with one, such as scalars={{{name!r}: 4.0}}"
            )


def _codec(codec: Codec | CodecConfig | None, dataset: Dataset, sigma_data: float) -> Codec:
    """The codec, with the scale of the data where it has one and none was given."""
    if isinstance(codec, Codec):
        return codec
    modality = dataset.modality
    if codec is None:
        some: Sequence[int] = range(min(len(dataset), 256))
        signals = (modality.to_signal(dataset.batch([i])[0]) for i in some)
        codec = (
            modality.default_codec().fitted(modality.shape, dims=None, multiples=(1,)).calibrated(signals, sigma_data)
        )
    return build_codec(codec, modality.shape)


def _optimizer(given: Optimizers | None, objective: Objective, train_step: TrainStep) -> RunOptimizer:
    """The optimizer of a run, from whatever was given."""
    if given is None or isinstance(given, OptimizerConfig):
        return build_optimizer(given or MuonConfig(), objective.student.net, objective, train_step.precision)
    made = given if isinstance(given, torch.optim.Optimizer) else given(train_step.trainable)
    return RunOptimizer([SteppedGroup("all", [made])])
