"""A trained model, ready to sample: the object that ``unistep.load`` returns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path as FilePath

import torch
from torch import Tensor

from unistep.codecs.base import Codec
from unistep.core.condition import (
    GUIDANCE,
    Condition,
    ConditionValue,
    ScalarField,
    Value,
    parse_condition,
    select,
    to_device,
)
from unistep.core.flowmap import ConsistencyModel, Denoiser, FlowMap, GuidedDenoiser, Map
from unistep.core.sampling import sample_gamma, sample_multistep
from unistep.core.sampling_inputs import given_times
from unistep.core.seeding import ItemGenerators, derived_seed, normal
from unistep.core.solvers import Solver, network_calls, sample_ode
from unistep.core.timesteps import karras_grid
from unistep.generation.model_config import MAX_STEPS, ModelConfig
from unistep.generation.session import ConditionSchedule, StreamSession, resolve_schedule
from unistep.modalities.base import Modality
from unistep.precision import Precision, WantedPrecision, autocast, resolve_precision, set_memory_layout
from unistep.registry import lookup

Guidance = float | Sequence[float]
"""A guidance weight for all samples, or one for each."""


class Generator:
    """A model with its modality, its sampling defaults and its name.

    Args:
        model: The map; put in evaluation mode.
        config: What it was built from.
        name: How it was asked for.
        codec: The codec with its weights; built from the configuration by default.
    """

    def __init__(self, model: Map, config: ModelConfig, name: str = "model", codec: Codec | None = None) -> None:
        self.map = model.eval()
        self.config = config
        self.codec = config.build_codec().eval() if codec is None else codec.eval()
        self.name = name
        self.precision: Precision = "fp32"

    @property
    def kind(self) -> str:
        """``consistency``, ``flow_map`` or ``denoiser``."""
        return self.config.kind

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of what the network sees of one sample, ``(channels, *spatial)``."""
        return self.codec.shape

    @property
    def signal_shape(self) -> tuple[int, ...]:
        """Shape of one sample, channels first."""
        return self.config.modality.shape

    @property
    def modality(self) -> Modality:
        """What the samples are; it reads and writes files of them."""
        return self.config.modality

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.map.parameters(), torch.empty(0)).device

    def to(self, device: str | torch.device, precision: WantedPrecision | None = None) -> Generator:
        """Move the weights, and choose the arithmetic of the network; returns itself.

        Args:
            device: Where to.
            precision: ``fp32``; ``bf16``, faster where the hardware has units for it, with samples that differ a little
                between devices; ``auto``, the faster of the two. As it was without.

        Raises:
            ValueError: If there is no such arithmetic.
        """
        self.map.to(device)
        self.codec.to(device)
        if precision is not None:
            self.precision = resolve_precision(precision, self.device)
            set_memory_layout(self.map, self.precision, self.device)
        return self

    @property
    def guidance(self) -> float | None:
        """Guidance weight of samples that are given none; ``None`` for a model that takes no guidance."""
        field = self.config.fields.get(GUIDANCE)
        if isinstance(field, ScalarField):
            return field.low if field.default is None else field.default
        return 1.0 if self.kind == "denoiser" else None

    def network_calls(
        self, steps: int | None = None, solver: Solver | None = None, guidance: Guidance | None = None
    ) -> int:
        """Network calls that :meth:`sample` makes for each sample.

        With guidance a denoiser's call is of two items; a model that is told the weight answers in one. A sample of
        an endless sound is two chunks.
        """
        steps = self.config.steps if steps is None else steps
        chunks = 1 if self.config.context is None else 2
        if self.kind != "denoiser":
            return chunks * steps
        plain = guidance is None or guidance == 1 or GUIDANCE in self.config.fields
        return chunks * network_calls(solver or self.config.solver, steps) * (1 if plain else 2)

    def times(self, steps: int) -> Tensor:
        """Sampling times for a number of steps, shape ``[steps]``: those found by search, else a Karras grid."""
        path = self.config.path
        found = self.config.times.get(str(steps))
        if self.kind != "denoiser" and found is not None:
            return torch.tensor(found)
        low, high = (float(path.ratio(torch.tensor(t, dtype=torch.float64))) for t in (path.t_min, path.t_max))
        high = min(high, 1e4)  # linear flow ends at an infinite ratio
        if self.kind == "denoiser":
            ratios = karras_grid(steps, low, high)
        else:
            # A one-step model gains nothing near the data: spread the steps above a tenth of the data's scale.
            low = max(min(0.1 * self.config.sigma_data, high / 2), self.config.sigma_min_trained)
            ratios = karras_grid(steps + 1, low, high)[:-1]
        times = path.time_at(ratios)
        times[0] = path.t_max
        return times

    def sample(
        self,
        num: int = 1,
        *,
        steps: int | None = None,
        seed: int = 0,
        solver: Solver | None = None,
        guidance: Guidance | None = None,
        times: Sequence[float] | Tensor | None = None,
        batch_size: int = 64,
        **condition: ConditionValue | Sequence[ConditionValue] | None,
    ) -> Tensor:
        """Draw samples; item ``i`` belongs to ``seed + i`` and is the same in any batch.

        Fields that are not given have their default, or are drawn for each item from its seed. An item of a model of an
        endless sound is the first two chunks of :meth:`stream`.

        Args:
            num: Number of samples.
            steps: Sampling steps; the model's default without.
            seed: Seed of the first item.
            solver: ``heun``, ``euler`` or ``dpmpp2m``; denoisers only.
            guidance: Classifier-free guidance weight of a denoiser, 1 (none) without; or the weight, one for all or a
                sequence, of a model that declares the field ``guidance``, the field's default without.
            times: Decreasing times on the model's path, one for each step, in place of those of :meth:`times`.
            batch_size: Items that go through the network together.
            **condition: The model's fields by name, one value for all items or a sequence.

        Returns:
            Float32 tensor in [-1, 1], on the CPU: pictures ``[num, channels, height, width]``, or waveforms
            ``[num, channels, samples]`` at ``modality.sample_rate``.

        Raises:
            ValueError: For a bad number, an unknown field or solver, or a value out of range.
        """
        grid = None if times is None else given_times(times, steps, self.config.path, self.config.sigma_min_trained)
        steps = (self.config.steps if steps is None else steps) if grid is None else len(grid)
        self._check(num, steps, seed, solver, guidance, batch_size)
        grid = self.times(steps) if grid is None else grid
        if GUIDANCE in self.config.fields:
            condition = {**condition, GUIDANCE: guidance}
        scale = 1.0 if GUIDANCE in self.config.fields or not isinstance(guidance, int | float) else guidance
        told = parse_condition(self.config.fields, condition, num, self._read)
        pieces = []
        for start in range(0, num, batch_size):
            stop = min(start + batch_size, num)
            part = select(told, slice(start, stop))
            pieces.append(self._batch(range(seed + start, seed + stop), grid, solver, scale, part))
        return torch.cat(pieces)

    def _check(
        self, num: int, steps: int, seed: int, solver: str | None, guidance: Guidance | None, batch_size: int
    ) -> None:
        for name, value in (("num", num), ("batch_size", batch_size), ("steps", steps), ("seed", seed)):
            if not isinstance(value, int) or isinstance(value, bool):
                raise ValueError(f"{name} must be a whole number, got {value!r}")
            if value < 1 and name != "seed":
                raise ValueError(f"{name} must be at least 1, got {value}")
        if steps > MAX_STEPS:
            raise ValueError(f"steps must be at most {MAX_STEPS}, got {steps}")
        if not 0 <= seed <= 2**63 - 1 - num:
            raise ValueError(f"seed must be from 0 to 2**63 - 1 - num, got {seed}")
        if solver is not None:
            lookup("solver", solver)
        if GUIDANCE in self.config.fields:  # which is checked with the other conditions
            if self.kind != "denoiser" and solver is not None:
                raise ValueError(f"{self.name} is a one-step model: it takes no solver, only steps and guidance")
            return
        guidance = 1.0 if guidance is None else guidance
        if isinstance(guidance, str) or not isinstance(guidance, int | float) or not math.isfinite(guidance):
            raise ValueError(f"guidance must be a finite number, got {guidance}")
        if self.kind != "denoiser" and (solver is not None or guidance != 1):
            raise ValueError(f"{self.name} is a one-step model: it takes neither a solver nor guidance, only steps")
        if guidance != 1 and not self.config.fields:
            raise ValueError(f"{self.name} takes no condition that guidance could strengthen; leave it at 1")

    def stream(
        self,
        *,
        seed: int = 0,
        steps: int | None = None,
        solver: Solver | None = None,
        guidance: Guidance | None = None,
        **condition: ConditionSchedule,
    ) -> Iterator[Tensor]:
        """Play without end: chunk after chunk, each given the last, in constant memory.

        Args:
            seed: Seed of the stream, of which :meth:`sample` with that seed gives the first two chunks.
            steps: Sampling steps for each chunk; the model's default without.
            solver: As in :meth:`sample`.
            guidance: As in :meth:`sample`.
            **condition: The model's fields by name: a value for all chunks; an iterable with one for each, with which
                the stream ends; or a function of the chunk's number, from 0. Those that are not told are drawn from the
                seed: once, or for each chunk where they are among the context's ``changing``.

        Returns:
            Iterator of float32 tensors ``[channels, samples]`` in [-1, 1], on the CPU.

        Raises:
            ValueError: At once for a model that makes no endless sound, or a mistake as in :meth:`sample`; at its chunk
                for a value of an iterable or a function.
        """
        if self.config.context is None:
            raise ValueError(f"{self.name} makes samples by themselves, no stream; phrases does")
        steps = self.config.steps if steps is None else steps
        self._check(1, steps, seed, solver, guidance, 1)
        if GUIDANCE in self.config.fields:
            condition = {**condition, GUIDANCE: guidance}  # type: ignore[dict-item]
        scale = 1.0 if GUIDANCE in self.config.fields or not isinstance(guidance, int | float) else guidance
        wishes = {name: values for name, wish in condition.items() if (values := resolve_schedule(wish)) is not None}
        parse_condition(self.config.fields, dict.fromkeys(wishes, ()), 0)  # are there such fields?
        constant = {name: wish for name, wish in condition.items() if name not in wishes}
        told = parse_condition(self.config.fields, constant, 1, self._read)  # type: ignore[arg-type]
        sounds = self._session(self.times(steps), solver, scale).chunks([seed], told, wishes)
        return (sound[0] for sound in sounds)

    def _session(self, grid: Tensor, solver: Solver | None, guidance: float) -> StreamSession:
        def draw(noise: Tensor, condition: Condition, items: ItemGenerators) -> Tensor:
            with autocast(self.precision, self.device):
                return self._run(noise, grid, solver, guidance, condition, items)

        context = self.config.context
        assert context is not None
        return StreamSession(
            codec=self.codec,
            context=context,
            sigma_data=self.config.sigma_data,
            fields=self.config.fields,
            draw=draw,
            device=self.device,
        )

    @torch.inference_mode()
    def _batch(
        self, seeds: range, grid: Tensor, solver: Solver | None, guidance: float, told: dict[str, Value]
    ) -> Tensor:
        if self.config.context is not None:
            chunks = self._session(grid, solver, guidance).chunks(list(seeds), told)
            return torch.cat(list(islice(chunks, 2)), dim=-1)
        items = ItemGenerators(list(seeds))
        noise = normal((len(seeds), *self.shape), items).to(self.device)
        condition = to_device(self._complete(told, seeds), self.device)
        with autocast(self.precision, self.device):
            x = self._run(noise, grid, solver, guidance, condition, items)
        return self.codec.decode(x.float()).cpu()

    def _run(
        self,
        noise: Tensor,
        grid: Tensor,
        solver: Solver | None,
        guidance: float,
        condition: Condition,
        items: ItemGenerators,
    ) -> Tensor:
        """The sampler of this kind of model."""
        if isinstance(self.map, ConsistencyModel):
            return sample_multistep(self.map, noise, grid, condition, generator=items)
        if isinstance(self.map, FlowMap):
            return sample_gamma(self.map, noise, grid, condition, gamma=self.config.gamma, generator=items)
        assert isinstance(self.map, Denoiser)
        teacher = self.map if guidance == 1 else GuidedDenoiser(self.map, guidance)
        return sample_ode(teacher, noise, grid, condition, solver=solver or self.config.solver)

    def _complete(self, told: dict[str, Value], seeds: range) -> dict[str, Value]:
        """Draw the fields that were not given, each from a stream of its own so that the noise does not move."""
        full = dict(told)
        for name, spec in self.config.fields.items():
            if name not in full:
                full[name] = spec.draw(len(seeds), ItemGenerators([derived_seed(name, s) for s in seeds]))
        return full

    def _read(self, path: FilePath) -> Tensor:
        """A file as one reference signal."""
        return self.config.modality.load(path)

    def save(self, x: Tensor, path: str | FilePath) -> None:
        """Write samples where the modality knows how: a picture, a grid, a sound, an ``.npz`` or a folder."""
        self.config.modality.save(x, FilePath(path))
