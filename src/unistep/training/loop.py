"""The training loop: every objective, one process or many, interrupted or not, from a recipe or from live objects."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unistep.core.seeding import derived_seed
from unistep.objectives.base import Objective
from unistep.precision import autocast
from unistep.training import pace as pace_module
from unistep.training.checkpoint import Snapshot, TrainingState
from unistep.training.display import Display
from unistep.training.health import Health, TrainingStoppedError, count_broken, refuse_broken
from unistep.training.interval import Interval
from unistep.training.log import MetricsLog
from unistep.training.loop_options import LoopOptions
from unistep.training.optim import set_rates
from unistep.training.pace import Clock, Deadline, Pace, write_plans
from unistep.training.parallel import gathered, like_shard, whole
from unistep.training.run_files import Previews, RunFiles
from unistep.training.selection import Selection
from unistep.training.step import Gradient, TrainStep
from unistep.training.stop import Stop

LOG_EVERY = 10
"""Optimizer steps between lines of the log."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a training is: what a callback gets after every step."""

    stage: str
    """What is being trained, such as ``teacher`` or ``student``."""
    step: int
    """Optimizer steps taken."""
    total: int
    """Optimizer steps of the whole run, as planned now."""
    share: float
    """Share of the training that is done, in [0, 1]."""
    loss: float
    """Mean loss of the step."""
    seconds: float
    """Time that the run has taken."""


Callback = Callable[[Progress], object]
"""What is called after every step; what it returns is not looked at."""


class Loop:
    """Trains an objective to its last step, or to an interruption.

    Args:
        options: Options of the loop.
        objective: The bare objective.
        train_step: Computes gradients.
        state: What is trained.
        pace: How far along the run is after each step.
        progress: That of the checkpoint which was restored, if any.
        clock: Seconds of the run.
        deadline: Plans the number of steps anew where the run has a deadline.
        files: Where the run is written; without, it stays in memory.
        draw: Draws samples of the student for :attr:`modality`; without, there are none.
        modality: Shows them.
        stop: Says when to stop early.
        callback: Called after every step, on the main process.
        stage: What is trained, for the callback.
        resume: How to go on after a stop, for messages.
        selection: Keeps the best weights and stops training when it has turned; that of the state.
    """

    def __init__(
        self,
        options: LoopOptions,
        objective: Objective,
        train_step: TrainStep,
        state: TrainingState,
        pace: Pace,
        *,
        progress: Mapping[str, Any] | None = None,
        clock: Clock | None = None,
        deadline: Deadline | None = None,
        files: RunFiles | None = None,
        draw: Callable[[], Tensor] | None = None,
        modality: Previews | None = None,
        stop: Stop | None = None,
        callback: Callback | None = None,
        stage: str = "student",
        resume: str = "--resume",
        selection: Selection | None = None,
    ) -> None:
        self.options, self.objective, self.train_step, self.state = options, objective, train_step, state
        self.pace, self.world, self.clock, self.deadline = pace, train_step.world, clock or Clock(), deadline
        self.files, self.draw, self.modality = files, draw, modality
        self.stop, self.callback, self.stage, self.resume = stop or Stop(), callback, stage, resume
        self.selection = selection
        self._reserve = 0.0
        self.go_on(progress or {})

    def go_on(self, progress: Mapping[str, Any]) -> None:
        """Begin where a checkpoint was written, whose state is in place.

        Args:
            progress: The checkpoint's counters; empty for the beginning.
        """
        self.step: int = progress.get("step", 0)
        self.seconds: float = progress.get("seconds", 0.0)
        self.clock.before = self.seconds
        self.health = Health(self.options.max_bad_steps, skipped=progress.get("skipped", 0))
        self.saved: int | None = progress.get("step")

    @property
    def total(self) -> int:
        """Number of optimizer steps of the whole run, as planned now."""
        return self.pace.total(self.step)

    def run(self, display: Display, log: MetricsLog | None = None) -> bool:
        """Train; returns whether the last step was reached.

        Args:
            display: Shows progress.
            log: Where numbers go; only on the main process.

        Raises:
            TrainingStoppedError: When too many steps in a row, or the averaged weights, are not finite, or the final
                state cannot be written.
        """
        batch_size = self.options.batch_size
        checkpoint = Interval(self.options.checkpoint_every, "checkpoint_every", batch_size)
        sample = Interval(self.options.sample_every, "sample_every", batch_size)
        window_time, window_items = time.perf_counter(), 0
        if self.deadline is not None:
            self.deadline.begin(self.step, self.clock.elapsed())
        self.objective.train()
        with self.stop.on_signals(), display, closing(self.train_step.loader):
            self._begin(display)
            self._look(display)
            while not self.over:
                gradient = self._one_step()
                window_items += batch_size
                self.seconds = self.clock.elapsed()
                self._replan()
                if self.step % LOG_EVERY == 0 or self.step == self.total:
                    moment = time.perf_counter()
                    speed = window_items / max(moment - window_time, 1e-9)
                    window_time, window_items = moment, 0
                    self._log(log, gradient, speed, display)
                    display.update(self.step, gradient.loss, speed, self.health.skipped, self.total)
                self._call_back(gradient)
                self._look(display)
                # While steps are being skipped the weights may be what is broken: the last good ones are kept.
                wanted = [sample.due(self.step), self.health.streak == 0 and checkpoint.due(self.step)]
                sampling, saving = self.world.from_rank_zero([float(flag) for flag in wanted])
                if sampling and not self.over:
                    sample.took(self._sample(display))
                # Several processes stop together, as the next step's exchange says; one need not wait for it.
                if gradient.stop or (self.world.size == 1 and self.stop.asked()):
                    break
                if saving and not self.over:
                    problem = self.save()
                    if problem:
                        display.warn(f"{problem}; training goes on")
            # Also when a finished run is taken up again: it may have been killed before its model was written.
            problem = self.save()
            if problem:
                raise TrainingStoppedError(f"{problem}. Make room, and go on with {self.resume}")
            self._sample(display)
        self.seconds = self.clock.elapsed()
        return self.over

    @property
    def over(self) -> bool:
        """Whether the last step was reached, or the selection has turned."""
        return self.step >= self.total or (self.selection is not None and self.selection.turned)

    def _begin(self, display: Display) -> None:
        """Let the objective prepare itself, once in a run."""
        if self.step > 0 or type(self.objective).begin is Objective.begin:
            return
        display.say(self.objective.preparing)
        device = self.world.device
        generator = torch.Generator(device).manual_seed(derived_seed(self.options.seed, "begin"))
        with gathered(self.objective.student.net), autocast(self.train_step.precision, device):
            self.objective.begin(generator)
        self.objective.train()

    def _look(self, display: Display) -> None:
        """Measure the samples of the averaged weights where it is time, and keep the weights if they are the best."""
        selection = self.selection
        if selection is None or not selection.due(self.step, end=self.step >= self.total):
            return
        began, alone = pace_module.now(), self.options.parallel == "ddp"
        distance = 0.0
        if self.world.is_rank_zero or not alone:
            with self._first_average():
                distance = selection.distance()
            self.objective.train()
        (distance,) = self.world.from_rank_zero([distance])
        selection.look(self.step, distance, [whole(tensor) for tensor in self.state.emas[0].average])
        best = selection.best
        assert best is not None
        said = "the smallest so far" if best[0] == self.step else f"step {best[0]} had {best[1]:.4g}"
        display.say(f"step {self.step}: Fréchet distance {distance:.4g} on {selection.label}, {said}")
        if selection.turned:
            display.say(f"stopping early: no smaller distance since step {best[0]}, whose weights are kept")
        self._reserve = max(self._reserve, pace_module.now() - began)

    def _one_step(self) -> Gradient:
        progress = self.pace.progress(self.step)
        gradient = self.train_step.gradient(self.step, progress, stop=self.stop.asked())
        factor = self.options.schedule.factor(self.step, progress, self.pace.share(self.step))
        set_rates(self.state.optimizer, factor)
        if self.health.accept(self.step, gradient.loss, gradient.norm, self.saved):
            self.state.optimizer.step(self.step)
            self._after_step(progress)
        self.step += 1
        for ema in self.state.emas:
            ema.update(self.step, self.options.batch_size)
        return gradient

    def _after_step(self, progress: float) -> None:
        if type(self.objective).after_step is not Objective.after_step:
            with gathered(self.objective.student.net):
                self.objective.after_step(progress)

    def _replan(self) -> None:
        """Compare the plan with the clock; the main process decides, and the decision goes on record."""
        if self.deadline is None:
            return
        leg = self.deadline.replan(self.step, self.seconds, self.pace, self._reserve)
        decided, total = self.world.from_rank_zero([float(leg is not None), float(leg.total if leg else 0)])
        if not decided:
            return
        self.pace.add(pace_module.Leg(self.step, self.pace.progress(self.step), int(total)))
        if self.files is not None and self.world.is_rank_zero:
            # Not on a full disk: the checkpoint has the plan, too.
            self._try(lambda: write_plans(self.files.out, self.pace.legs) if self.files else None)

    def _call_back(self, gradient: Gradient) -> None:
        if self.callback is not None and self.world.is_rank_zero:
            self.callback(
                Progress(
                    stage=self.stage,
                    step=self.step,
                    total=self.total,
                    share=self.pace.progress(self.step),
                    loss=gradient.loss,
                    seconds=self.seconds,
                )
            )

    def _log(self, log: MetricsLog | None, gradient: Gradient, speed: float, display: Display) -> None:
        if log is None:
            return
        numbers = {
            "images": self.step * self.options.batch_size,
            "seconds": self.seconds,
            "progress": self.pace.progress(self.step),
            "loss": gradient.loss,
            "gradient_norm": gradient.norm,
            "learning_rate": self.state.optimizer.param_groups[0]["lr"],
            "images_per_second": speed,
            "skipped": self.health.skipped,
        }
        try:
            log.write(self.step, numbers | gradient.logs | self._looked())
        except OSError as error:
            display.warn(f"the numbers of step {self.step} are not on disk yet: {error}; training goes on")

    def _looked(self) -> dict[str, float]:
        looks = [] if self.selection is None else self.selection.looks
        return {"selection/frechet": looks[-1][1]} if looks else {}

    def save(self) -> str:
        """Write a checkpoint, unless this step has one, and the model that samples are drawn from.

        Returns:
            What could not be written and why, on every process; empty if all is well.

        Raises:
            TrainingStoppedError: If the weights of the model are not finite; what was written before stays.
        """
        began = pace_module.now()
        snapshot = self.state.gather()
        # Before the checkpoint, too: it would take the place of one that is whole.
        average = snapshot.files[self.options.emas[0].name]
        broken, count = self.world.broadcast(count_broken(average.values()) if self.world.is_rank_zero else None)
        refuse_broken(broken, count, self.step, self.saved)
        if self.files is None:
            return ""
        if self.saved is None or self.step > self.saved:
            problem = self._on_main(lambda: self._write_checkpoint(snapshot))
            if problem:
                kept = "there is none yet" if self.saved is None else f"that of step {self.saved} is whole"
                return f"checkpoint of step {self.step} not written: {problem}; {kept}"
            self.saved = self.step
        problem = self._on_main(lambda: self._write_model(average))
        self._reserve = max(self._reserve, pace_module.now() - began)
        return f"the checkpoint of step {self.step} is whole, its model is not written: {problem}" if problem else ""

    def _on_main(self, write: Callable[[], None]) -> str:
        """Let the main process write; the reason why it could not, on every process, so that all go on alike."""
        return self.world.broadcast(self._try(write) if self.world.is_rank_zero else "")

    @staticmethod
    def _try(write: Callable[[], None]) -> str:
        try:
            write()
        except (OSError, ValueError) as error:
            return str(error)
        return ""

    def _write_checkpoint(self, snapshot: Snapshot) -> None:
        assert self.files is not None
        progress = {
            "step": self.step,
            "seconds": self.clock.elapsed(),
            "skipped": self.health.skipped,
            "plans": self.pace.up_to(self.step),
            "over": self.over,
        }
        self.files.checkpoint(snapshot, progress)

    def _write_model(self, average: Mapping[str, Tensor]) -> None:
        assert self.files is not None
        step, weights = self.step, self.options.emas[0].name
        if self.selection is not None and self.selection.best is not None:
            (step, distance), average = self.selection.best, self.selection.weights
            weights += f", selected at a Fréchet distance of {distance:.4g} on {self.selection.label}"
        described = {
            "steps": str(step),
            "items": str(step * self.options.batch_size),
            "seconds": f"{self.seconds:.0f}",
            "weights": weights,
        }
        self.files.weights(self.objective.student.net, average, described)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The first average of the weights in place of the weights, for the block; the selected one, once it is."""
        selected = {} if self.selection is None else self.selection.weights
        with self._first_average():
            if not selected:
                yield
                return
            parameters = list(self.objective.student.net.parameters())
            held = [p.detach().clone() for p in parameters]
            with torch.no_grad():
                for i, p in enumerate(parameters):
                    p.copy_(like_shard(selected[str(i)], p))
                yield
                for p, value in zip(parameters, held, strict=True):
                    p.copy_(value)

    @contextmanager
    def _first_average(self) -> Iterator[None]:
        ema = self.state.emas[0]
        ema.swap()
        try:
            with gathered(self.objective.student.net):
                yield
        finally:
            ema.swap()

    def _sample(self, display: Display) -> float:
        """Write samples of the averaged weights, always of the same seeds; returns the seconds that took."""
        if self.draw is None or self.files is None or self.modality is None:
            return 0.0
        if self.options.parallel == "ddp" and not self.world.is_rank_zero:
            return 0.0
        began = pace_module.now()
        with self.averaged():
            x = self.draw()
        self.objective.train()
        files, modality = self.files, self.modality
        problem = self._try(lambda: files.samples(x, modality, self.step)) if self.world.is_rank_zero else ""
        if problem:
            display.warn(f"samples of step {self.step} not written: {problem}; training goes on")
        seconds = pace_module.now() - began
        self._reserve = max(self._reserve, seconds)
        return seconds
