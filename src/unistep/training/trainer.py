"""The training loop: every objective, one process or many, interrupted or not."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from unistep.generation.generator import Generator
from unistep.generation.model_config import ModelConfig
from unistep.hub.save import save
from unistep.objectives.base import Objective
from unistep.training.budget import Amount, parse_amount
from unistep.training.checkpoint import Snapshot, TrainingState, prune, save_checkpoint
from unistep.training.display import Display
from unistep.training.health import Health, TrainingStoppedError, count_broken, refuse_broken
from unistep.training.log import MetricsLog
from unistep.training.optim import set_rates
from unistep.training.parallel import gathered
from unistep.training.run_config import RunConfig
from unistep.training.step import Gradient, TrainStep

LOG_EVERY = 10
"""Optimizer steps between lines of the log."""


class Interval:
    """Tells when an interval, in seconds or in steps, has passed."""

    def __init__(self, text: str, name: str, batch_size: int) -> None:
        self.amount: Amount = parse_amount(text, name)
        self._steps = self.amount.steps(batch_size, 1.0)
        self._last = time.monotonic()

    def due(self, step: int) -> bool:
        """Whether it is time, after ``step`` steps; starts the next interval if so."""
        if self.amount.unit != "seconds":
            return step % self._steps == 0
        if time.monotonic() - self._last < self.amount.value:
            return False
        self._last = time.monotonic()
        return True


class Trainer:
    """Runs a configuration to its last step, or to an interruption.

    Args:
        config: The resolved configuration (``max_steps`` is settled).
        model: The model, fitted to the data.
        objective: The bare objective.
        train_step: Computes gradients.
        state: What is trained.
        out: The run's folder.
        progress: That of the checkpoint which was restored, if any, with the hashes of what the run depends on: its
            ``data`` and its ``teacher``.
    """

    def __init__(
        self,
        config: RunConfig,
        model: ModelConfig,
        objective: Objective,
        train_step: TrainStep,
        state: TrainingState,
        out: Path,
        progress: dict[str, Any],
    ) -> None:
        assert config.max_steps is not None
        self.config, self.model, self.objective, self.train_step, self.state = (
            config,
            model,
            objective,
            train_step,
            state,
        )
        self.world, self.out, self.total = train_step.world, out, config.max_steps
        self.step: int = progress.get("step", 0)
        self.seconds: float = progress.get("seconds", 0.0)
        self.health = Health(config.max_bad_steps, skipped=progress.get("skipped", 0))
        self.saved: int | None = progress.get("step")
        self._identity = {name: progress[name] for name in ("data", "teacher")}
        self._stop = False

    def run(self, display: Display, log: MetricsLog | None) -> bool:
        """Train; returns whether the last step was reached.

        Args:
            display: Shows progress.
            log: Where numbers go; only on the main process.

        Raises:
            TrainingStoppedError: When too many steps in a row, or the averaged weights, are not finite, or the final
                state cannot be written.
        """
        checkpoint = Interval(self.config.checkpoint_every, "checkpoint_every", self.config.batch_size)
        sample = Interval(self.config.sample_every, "sample_every", self.config.batch_size)
        window_time, window_images = time.perf_counter(), 0
        began, before = time.perf_counter(), self.seconds
        self.objective.train()
        with self._signals(), display:
            while self.step < self.total:
                gradient = self._one_step()
                window_images += self.config.batch_size
                self.seconds = before + time.perf_counter() - began
                if self.step % LOG_EVERY == 0 or self.step == self.total:
                    now = time.perf_counter()
                    speed = window_images / (now - window_time)
                    window_time, window_images = now, 0
                    self._log(log, gradient, speed, display)
                    display.update(self.step, gradient.loss, speed, self.health.skipped)
                if self.world.any_rank(self.world.is_rank_zero and sample.due(self.step)) and self.step < self.total:
                    self._sample(display)
                if gradient.stop:
                    break
                # While steps are being skipped the weights may be what is broken: the last good ones are kept.
                due = self.health.streak == 0 and self.world.is_rank_zero and checkpoint.due(self.step)
                if self.world.any_rank(due) and self.step < self.total:
                    problem = self.save()
                    if problem:
                        display.warn(f"{problem}; training goes on")
            # Also when a finished run is taken up again: it may have been killed before its model was written.
            problem = self.save()
            if problem:
                raise TrainingStoppedError(f"{problem}. Make room, and go on with --resume")
            self._sample(display)
        return self.step == self.total

    def _one_step(self) -> Gradient:
        progress = self.step / self.total
        gradient = self.train_step.gradient(self.step, progress, stop=self._stop)
        set_rates(self.state.optimizer, self.config.schedule.factor(self.step, progress))
        if self.health.accept(self.step, gradient.loss, gradient.norm, self.saved):
            self.state.optimizer.step(self.step)
            self._follow(progress)
        self.step += 1
        for ema in self.state.emas:
            ema.update(self.step, self.config.batch_size)
        return gradient

    def _follow(self, progress: float) -> None:
        if type(self.objective).after_step is not Objective.after_step:
            with gathered(self.objective.student.net):
                self.objective.after_step(progress)

    def _log(self, log: MetricsLog | None, gradient: Gradient, speed: float, display: Display) -> None:
        if log is None:
            return
        try:
            log.write(
                self.step,
                {
                    "images": self.step * self.config.batch_size,
                    "seconds": self.seconds,
                    "loss": gradient.loss,
                    "gradient_norm": gradient.norm,
                    "learning_rate": self.state.optimizer.param_groups[0]["lr"],
                    "images_per_second": speed,
                    "skipped": self.health.skipped,
                    **gradient.logs,
                },
            )
        except OSError as error:
            display.warn(f"the numbers of step {self.step} are not on disk yet: {error}; training goes on")

    def save(self) -> str:
        """Write a checkpoint, unless this step has one, and the model that samples are drawn from.

        Returns:
            What could not be written and why, on every process; empty if all is well.

        Raises:
            TrainingStoppedError: If the weights of the model are not finite; what was written before stays.
        """
        snapshot = self.state.gather()
        # Before the checkpoint, too: it would take the place of one that is whole.
        average = snapshot.files[self.config.emas[0].name].values()
        broken, count = self.world.broadcast(count_broken(average) if self.world.is_rank_zero else None)
        refuse_broken(broken, count, self.step, self.saved)
        if self.saved is None or self.step > self.saved:
            problem = self._on_main(lambda: self._write_checkpoint(snapshot))
            if problem:
                kept = "there is none yet" if self.saved is None else f"that of step {self.saved} is whole"
                return f"checkpoint of step {self.step} not written: {problem}; {kept}"
            self.saved = self.step
        problem = self._on_main(lambda: self._write_model(snapshot))
        return f"the checkpoint of step {self.step} is whole, its model is not written: {problem}" if problem else ""

    def _on_main(self, write: Callable[[], None]) -> str:
        """Let the main process write; the reason why it could not, on every process, so that all go on alike."""
        problem = ""
        if self.world.is_rank_zero:
            try:
                write()
            except (OSError, ValueError) as error:
                problem = str(error)
        return self.world.broadcast(problem)

    def _write_checkpoint(self, snapshot: Snapshot) -> None:
        progress = {
            "step": self.step,
            "seconds": self.seconds,
            "skipped": self.health.skipped,
            **self._identity,
        }
        save_checkpoint(snapshot, self.out / "checkpoints", progress)
        prune(self.out / "checkpoints", self.config.keep)

    def _write_model(self, snapshot: Snapshot) -> None:
        net, average = self.objective.student.net, snapshot.files[self.config.emas[0].name]
        weights = net.state_dict() | {name: average[str(i)] for i, (name, _) in enumerate(net.named_parameters())}
        save(self._described(), weights, self.out / "model", self._card(), codec=self.train_step.codec)

    def _described(self) -> ModelConfig:
        provenance = {
            "recipe": self.config.recipe,
            "data": self.config.data.source,
            **({"data licence": self._licence} if self._licence else {}),
            "steps": str(self.step),
            "images": str(self.step * self.config.batch_size),
            "seconds": f"{self.seconds:.0f}",
            "weights": self.state.emas[0].config.name,
        }
        return replace(self.model, provenance=provenance)

    @property
    def _licence(self) -> str:
        return self.train_step.loader.dataset.licence

    def _card(self) -> str:
        described = "\n".join(f"- {name}: {value}" for name, value in self._described().provenance.items())
        return f"---\nlibrary_name: unistep\n---\n# {self.config.recipe}\n\nTrained with Unistep.\n\n{described}\n"

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The first average of the weights in place of the weights, for the block."""
        ema = self.state.emas[0]
        ema.swap()
        try:
            with gathered(self.objective.student.net):
                yield
        finally:
            ema.swap()

    def _sample(self, display: Display) -> None:
        """Write a grid of samples of the averaged weights, always of the same seeds."""
        if self.config.parallel == "ddp" and not self.world.is_rank_zero:
            return
        with self._averaged():
            generator = Generator(self.objective.student, self.model, codec=self.train_step.codec)
            steps = 8 if self.model.kind == "denoiser" else 1
            solver = "dpmpp2m" if self.model.kind == "denoiser" else None
            x = generator.sample(self.model.modality.previews, steps=steps, solver=solver)
        self.objective.train()
        if self.world.is_rank_zero:
            try:
                (self.out / "samples").mkdir(exist_ok=True)
                self.model.modality.save_preview(x, self.out / "samples", f"{self.step:08d}")
            except (OSError, ValueError) as error:
                display.warn(f"samples of step {self.step} not written: {error}; training goes on")

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Ctrl-C and a polite kill finish the step at hand, save and leave; a second one interrupts at once."""

        def ask(number: int, frame: FrameType | None) -> None:
            del frame
            self._stop = True
            signal.signal(number, signal.default_int_handler)

        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread is told of signals
            return
        held = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in held.items():
                signal.signal(number, handler)
