"""A trained model, ready to sample: the object that ``unistep.load`` returns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path as FilePath
from typing import IO, Any

import torch
from torch import Tensor

from unistep.backends.trial import Acceleration
from unistep.codecs.base import Codec, CodecConfig
from unistep.core.condition import (
    GUIDANCE,
    AnyField,
    Condition,
    ConditionValue,
    ScalarField,
    Value,
    asked,
    encoded,
    parse_condition,
    to_device,
)
from unistep.core.flowmap import Map
from unistep.core.seeding import ItemGenerators, normal
from unistep.core.solvers import Solver, network_calls
from unistep.devices import device_of
from unistep.generation import acceleration, editing, streaming
from unistep.generation.grids import KeptTimes
from unistep.generation.live import describe
from unistep.generation.memory import check_fits
from unistep.generation.model_config import ModelConfig
from unistep.generation.requests import (
    Cancel,
    Plan,
    Progress,
    Request,
    Watch,
    check_number,
    completed,
    plan_of,
    sample_requests,
    sample_seeds,
    seeds_of,
)
from unistep.generation.saving import Marking, encode_samples, provenance_of, save_samples
from unistep.generation.session import ConditionSchedule, StreamSession
from unistep.generation.tracing import trace
from unistep.modalities.base import Modality
from unistep.precision import Precision, WantedPrecision, autocast, resolve_precision, set_memory_layout
from unistep.provenance import Provenance

Guidance = float | Sequence[float]
"""A guidance weight for all samples, or one for each."""


class Generator:
    """A model with its modality, its codec, its sampling defaults and its name.

    From a file ``unistep.load`` makes it; by hand, ``Generator(ConsistencyModel(net, path), modality=...)`` does.
    Sampling changes nothing in it, so that several threads may sample from one generator at once.

    Args:
        model: The map; put in evaluation mode.
        config: What it was built from; without, it is described by the arguments below.
        name: How it was asked for.
        codec: The codec, with its weights, or its options; built from the configuration, or the modality's own, by
            default.
        modality: What a sample is; tensors of ``shape`` by default.
        fields: Conditions that the network takes, by name.
        shape: Shape of a sample, channels first, where there is no modality.
        **settings: Other fields of :class:`ModelConfig` for a model made by hand, such as ``steps`` or ``times``.

    Raises:
        ValueError: If there is both a configuration and a description, or neither says what a sample is.
    """

    def __init__(
        self,
        model: Map,
        config: ModelConfig | None = None,
        name: str = "model",
        codec: Codec | CodecConfig | None = None,
        *,
        modality: Modality | None = None,
        fields: Mapping[str, AnyField] | None = None,
        shape: Sequence[int] | None = None,
        **settings: Any,
    ) -> None:
        if config is None:
            config = describe(model, modality, codec, fields, shape, **settings)
        elif modality is not None or fields is not None or shape is not None or settings:
            raise ValueError("a generator takes a configuration, or modality, fields and settings, not both")
        self.map = model.eval()
        self.config = config
        self.codec = (codec if isinstance(codec, Codec) else config.build_codec()).frozen()
        self.name = name
        self.precision: Precision = "fp32"
        self.acceleration: Acceleration | None = None
        self._times = KeptTimes(config)
        self.codec.to(self.device)

    def __repr__(self) -> str:
        """What it is, in one line."""
        conditions = ", ".join(f"{name} ({spec.extent})" for name, spec in asked(self.config.fields).items())
        count = sum(parameter.numel() for parameter in self.map.parameters())
        return (
            f"<Generator {self.name!r}: {self.kind.replace('_', ' ')} model of {self.modality.noun}s, "
            f"{self.modality.described}; conditions: {conditions or 'none'}; {self.config.steps} "
            f"step{'s' if self.config.steps > 1 else ''}; {count:,} parameters on {self.device}, {self.arithmetic}>"
        )

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
        return device_of(self.map)

    def to(self, device: str | torch.device, precision: WantedPrecision | None = None) -> Generator:
        """Move the weights, and choose the arithmetic of the network, which PyTorch runs; returns itself.

        Args:
            device: Where to.
            precision: ``fp32``; ``bf16``, faster where the hardware has units for it, with samples that differ a little
                between devices; ``auto``, the faster of the two. As it was without.

        Raises:
            ValueError: If there is no such arithmetic.
        """
        if self.acceleration is not None:
            acceleration.reset(self)
        self.map.to(device)
        self.codec.to(device)
        if precision is not None:
            self.precision = resolve_precision(precision, self.device)
            set_memory_layout(self.map, self.precision, self.device)
        return self

    def accelerate(
        self,
        backend: str = "auto",
        precision: str = "auto",
        *,
        tolerance: float | None = None,
        batch_size: int = 1,
    ) -> Acceleration:
        """Let a faster program run the network from now on, in whatever is done with this generator.

        Each is prepared, compared with PyTorch in float32 on the network calls of samples, and timed; of those that
        agree the fastest is chosen. What is exported for that is kept for later, so that the first time takes longest.

        Args:
            backend: ``onnxruntime``, ``openvino``, ``compiled``, ``eager`` or another registered one; ``auto`` tries
                those that are installed, except ``compiled``, which takes a minute.
            precision: ``fp32``, ``bf16`` or ``int8``; ``auto`` is ``fp32``, or with a ``tolerance`` any of them.
            tolerance: Largest relative error of a call; without, 0.001, and more where a rounded precision is named.
            batch_size: Items of the calls that are timed.

        Returns:
            What was tried and chosen; ``print`` shows it as a table.

        Raises:
            ValueError: If there is no such backend or precision, it is not installed (says how to), cannot run the
                network, or does not agree.
        """
        return acceleration.accelerate(self, backend, precision, tolerance, batch_size)

    @property
    def arithmetic(self) -> str:
        """What the network is computed in and, where it is not PyTorch step by step, what by."""
        return self.precision if self.acceleration is None else self.acceleration.described

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

        With guidance a denoiser's call is of two items; a model that takes the weight as a condition needs one. A
        sample of a streaming model is several chunks.
        """
        steps = self.config.steps if steps is None else steps
        if self.kind != "denoiser":
            return self.chunks * steps
        plain = guidance is None or guidance == 1 or GUIDANCE in self.config.fields
        return self.chunks * network_calls(solver or self.config.solver, steps) * (1 if plain else 2)

    def times(self, steps: int) -> Tensor:
        """Sampling times for a number of steps, shape ``[steps]``: those found by search, else a Karras grid."""
        return self._times(steps)

    @property
    def chunks(self) -> int:
        """Passes through the sampler for one sample: as many as a streaming model's sample has chunks."""
        return self.config.codec.chunks(self.config.modality.shape)

    def sample(
        self,
        num: int | None = None,
        *,
        steps: int | None = None,
        seed: int | Iterable[int] = 0,
        solver: Solver | None = None,
        guidance: Guidance | None = None,
        times: Sequence[float] | Tensor | None = None,
        batch_size: int = 64,
        callback: Progress = None,
        cancel: Cancel = None,
        **condition: ConditionValue | Sequence[ConditionValue] | None,
    ) -> Tensor:
        """Draw samples; each belongs to its seed and is the same in any batch.

        Fields that are not given have their default, or are drawn for each item from its seed. An item of a streaming
        model is the first chunks of :meth:`stream`.

        Args:
            num: Number of samples; 1, or one for each seed, by default.
            steps: Sampling steps; the model's default without.
            seed: Seed of the first item, of which the others have those that follow; or a seed for each item.
            solver: ``heun``, ``euler``, ``dpmpp2m`` or another registered one; denoisers only.
            guidance: Classifier-free guidance weight of a denoiser, 1 (none) without; or the weight, one for all or a
                sequence, of a model that declares the field ``guidance``, the field's default without.
            times: Decreasing times on the model's path, one for each step, in place of those of :meth:`times`.
            batch_size: Items that go through the network together.
            callback: Called with the share of the work that is done, in (0, 1], after each step of each batch.
            cancel: A function that returns whether to stop, or a :class:`threading.Event`; looked at after each step.
            **condition: The model's fields by name, one value for all items or a sequence.

        Returns:
            Float32 tensor ``[num, *signal_shape]`` on the CPU; images and audio are in [-1, 1].

        Raises:
            ValueError: For a bad number, more samples than memory holds, an unknown field or solver, or a value out of
                range.
            CancelledError: If sampling was cancelled.
        """
        check_number("batch_size", batch_size, 1)
        plan, given = plan_of(self, steps, times, solver, guidance, condition)
        if num is not None:
            check_number("num", num, 1)
            check_fits(int(num), math.prod(self.signal_shape))
        seeds = seeds_of(num, seed)
        parsed = parse_condition(self.config.fields, given, len(seeds), self.modality.load)
        return sample_seeds(self, seeds, plan, parsed, batch_size=int(batch_size), callback=callback, cancel=cancel)

    def edit(self, task: str | editing.Task, x: Tensor | Sequence[Tensor] | None = None, **options: Any) -> Tensor:
        """Edit or restore signals without training; see :func:`unistep.generation.editing.edit` for the options.

        Args:
            task: Such as ``inpaint``, ``colorize`` or ``vary``; ``unistep edit --help`` lists them.
            x: Signals ``[n, *signal_shape]``, smaller where the task enlarges them; a pair where it takes two.
            **options: Of the task, such as ``mask="center"``; ``steps``, ``seed``, ``solver``; conditions.

        Returns:
            Float32 tensor ``[n, *signal_shape]`` on the CPU, in which each item belongs to its seed.
        """
        return editing.edit(self, task, x, **options)

    def sample_requests(
        self, requests: Sequence[Request], *, batch_size: int = 64, callback: Progress = None, cancel: Cancel = None
    ) -> Tensor:
        """Draw what several clients ask for; see :func:`unistep.generation.requests.sample_requests`."""
        return sample_requests(self, requests, batch_size=batch_size, callback=callback, cancel=cancel)

    def session(
        self, *, steps: int | None = None, solver: Solver | None = None, guidance: Guidance | None = None
    ) -> StreamSession:
        """What makes the next chunk of streams from their states: for servers, whose clients join and leave a batch.

        Args:
            steps: Sampling steps for each chunk; the model's default without.
            solver: As in :meth:`sample`.
            guidance: As in :meth:`sample`, of a denoiser; where it is a field of the model, each step is given it.

        Raises:
            ValueError: For a model that does not stream, a weight that belongs to each step, or as in :meth:`sample`.
        """
        return streaming.open_session(self, steps, solver, guidance)

    def stream(
        self,
        *,
        seed: int = 0,
        steps: int | None = None,
        solver: Solver | None = None,
        guidance: Guidance | None = None,
        past: Tensor | None = None,
        **condition: ConditionSchedule,
    ) -> Iterator[Tensor]:
        """Generate without end: chunk after chunk, each conditioned on those before it, in constant memory.

        Args:
            seed: Seed of the stream, of which :meth:`sample` with that seed gives the first chunks.
            steps: Sampling steps for each chunk; the model's default without.
            solver: As in :meth:`sample`.
            guidance: As in :meth:`sample`.
            past: A signal to go on from, such as a clip ``[c, frames, h, w]`` of any length, where the model can.
            **condition: The model's fields by name: a value for all chunks; an iterable with one for each, with which
                the stream ends; or a function of the chunk's number, from 0. Those that are not given are drawn from
                the seed: once, or for each chunk where they are among the context's ``changing``.

        Returns:
            Iterator of float32 tensors on the CPU, such as ``[channels, samples]`` of audio, half a sample each, or
            ``[channels, 1, height, width]`` of a video.

        Raises:
            ValueError: At once for a model that does not stream, or a mistake as in :meth:`sample`; at its chunk for a
                value of an iterable or a function.
        """
        return streaming.stream(self, seed, steps, solver, guidance, past, condition)

    @torch.inference_mode()
    def batch(
        self, seeds: Sequence[int], plan: Plan, condition: Condition, watch: Watch, noise: Tensor | None = None
    ) -> Tensor:
        """One batch of samples, shape ``[len(seeds), *signal_shape]``.

        Args:
            seeds: One for each item.
            plan: How they are sampled.
            condition: All conditions of the items; of a streaming model those that are given.
            watch: Looks at each step.
            noise: What they begin with, ``[len(seeds), *shape]``, in place of the seeds' own; not of streaming models.
        """
        if self.config.context is not None:
            chunks = streaming.session_of(self, plan, watch).chunks(seeds, condition)
            return self.codec.join(list(islice(chunks, self.chunks)))
        items = ItemGenerators(list(seeds))
        device = self.device
        own = normal((len(seeds), *self.shape), items)  # in any case: what is drawn later follows it
        noise = (own if noise is None else noise).to(device)
        seen = encoded(to_device(condition, device), self.codec.encode_reference)
        with autocast(self.precision, device):
            x = watch.last_of(trace(self, noise, plan, seen, items))
        return self.codec.decode(x.float()).cpu()

    def completed(self, given: Mapping[str, Value], seeds: Sequence[int]) -> dict[str, Value]:
        """The condition with the fields drawn that are not given, each from random numbers of its own.

        A streaming model draws its own for each chunk.

        Args:
            given: Values of ``len(seeds)`` items.
            seeds: One for each item.
        """
        return dict(given) if self.config.context is not None else completed(self.config.fields, given, seeds)

    def provenance(self, num: int | None = None, *, seed: Any = None, **condition: Any) -> Provenance:
        """Where samples come from that :meth:`sample` draws with these arguments, for :meth:`save`."""
        return provenance_of(self, num, seed=seed, condition=condition)

    def encode(self, x: Tensor, format: str, *, provenance: Marking = True) -> bytes:
        """Samples as the bytes of one file of a ``format`` such as ``png``, for a web handler; see :meth:`save`."""
        return encode_samples(self, x, format, provenance)

    def save(
        self, x: Tensor, path: str | FilePath | IO[bytes], *, format: str | None = None, provenance: Marking = True
    ) -> None:
        """Write samples to a file, a folder or an open binary file.

        Args:
            x: Samples.
            path: Where to; what is written depends on how it ends. Or a binary file that is open for writing.
            format: Such as ``png``; needed for an open file.
            provenance: The origin that the file names: the model; what :meth:`provenance` gives; ``False`` for none.

        Raises:
            ValueError: If it cannot be written, or the format is missing or unknown.
        """
        save_samples(self, x, path, format=format, provenance=provenance)
