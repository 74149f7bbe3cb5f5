"""What a model is built from: the configuration that lies beside the weights as ``config.json``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal

from unistep.codecs.base import Codec, CodecConfig
from unistep.codecs.identity import IdentityConfig
from unistep.codecs.weights import build_codec
from unistep.core.condition import CONTEXT, AnyField
from unistep.core.flowmap import ConsistencyModel, Denoiser, FlowMap, Map
from unistep.core.path import LinearFlow, TrigFlow, VarianceExploding, VariancePreserving
from unistep.core.solvers import Solver
from unistep.editing.solvers import Settings
from unistep.generation.adapter import Adapter
from unistep.generation.history import Context
from unistep.modalities.base import Modality
from unistep.nets.config import NetworkConfig
from unistep.registry import lookup
from unistep.spelling import nearest

AnyPath = VarianceExploding | TrigFlow | LinearFlow | VariancePreserving
"""The paths that a configuration can name."""

Kind = Literal["consistency", "flow_map", "denoiser"]
"""One-time map to the data, two-time map, or many-step teacher."""
KINDS: dict[Kind, type[Map]] = {"consistency": ConsistencyModel, "flow_map": FlowMap, "denoiser": Denoiser}
"""The map of each kind."""

_SPECTRUM = ("n_fft", "hop", "exponent", "scale", "dims", "multiple", "chunk")

MAX_STEPS = 1000
"""More sampling steps than this are taken for a mistake."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """All that is needed to rebuild a model around its weights; lies beside them as ``config.json``."""

    FORMER_KEYS: ClassVar[Mapping[str, str]] = {"lowest": "sigma_min_trained"}
    """Keys that earlier versions wrote, with what they are called now."""

    kind: Kind
    """Which map the network is read as."""
    network: NetworkConfig
    """The raw network."""
    modality: Modality
    """What a signal is: its kind and shape."""
    codec: CodecConfig = IdentityConfig()
    """What the network sees of a signal."""
    path: AnyPath = VarianceExploding()
    """Path from data to noise."""
    sigma_data: float = 0.5
    """Standard deviation of the data."""
    boundary: float = 0.0
    """Time at which a one-step model's jump ends; 0 is the data itself."""
    fields: dict[str, AnyField] = field(default_factory=dict)
    """The conditions that the model takes."""
    context: Context | None = None
    """How a streaming model is conditioned on the past; ``None`` for a model of whole signals."""
    times: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """Sampling times of a one-step model by number of steps, where a search has found them."""
    editing: dict[str, Settings] = field(default_factory=dict)
    """Parameters of editing by task and number of steps, such as ``inpaint/4``, where a search has found them."""
    sigma_min_trained: float = 0.0
    """Noise level below which a one-step model was not trained; no sampling time lies there."""
    trained_steps: tuple[int, ...] = ()
    """Numbers of steps whose jumps a one-step model was trained on, where it was on some alone; empty for any."""
    gamma: float = 0.0
    """Share of noise that a flow map draws afresh between its jumps, in [0, 1]."""
    solver: Solver = "heun"
    """Default sampler of a denoiser."""
    steps: int = 1
    """Default number of sampling steps."""
    adapter: Adapter | None = None
    """What the weights are differences of, where they are not whole."""
    provenance: dict[str, str] = field(default_factory=dict)
    """Where the weights come from: recipe, data, hardware, time."""

    def __post_init__(self) -> None:
        """Check what every reader of the file relies on.

        Raises:
            ValueError: Naming the field, its value and what was expected.
        """
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind {self.kind!r}; {nearest(self.kind, tuple(KINDS))}")
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma must be in [0, 1], got {self.gamma}")
        if not 0 <= self.sigma_min_trained < math.inf:
            raise ValueError(f"sigma_min_trained must be a noise level, 0 for none, got {self.sigma_min_trained}")
        if not 1 <= self.steps <= MAX_STEPS:
            raise ValueError(f"steps must be from 1 to {MAX_STEPS}, got {self.steps}")
        lookup("solver", self.solver)
        for key, times in self.times.items():
            decreasing = all(a > b for a, b in pairwise(times))
            if key != str(len(times)) or not decreasing or not times or min(times) <= 0:
                raise ValueError(f"times must hold N decreasing positive times under the key 'N', got {key!r}: {times}")
        for key in self.editing:
            if not key.rpartition("/")[2].isdigit() or int(key.rpartition("/")[2]) < 1:
                raise ValueError(f"editing must hold parameters under a task and its steps, as inpaint/4, got {key!r}")
        self._check_context()

    def _check_context(self) -> None:
        """Network, codec and context must agree on the past; the codec must fit the signal."""
        self.codec.shape(self.modality.shape)
        frames, most = 0 if self.context is None else self.context.frames, self.codec.past
        ahead = frames if frames and most and self.codec.context_field(self.modality.shape, frames).before else 0
        known = self.network.previous_frames
        if known not in (None, ahead):
            raise ValueError(f"the network must be shown the {ahead} frames of context, not {known}")
        if bool(most) != bool(frames):
            raise ValueError(
                f"a model has both a codec of chunks and a context, or neither; got {most} frames of the past and "
                f"{frames} of context"
            )
        if frames > most:
            raise ValueError(f"the past has {most} whole frames for a context, got {frames}")

    def untrained(self, steps: int) -> str:
        """What is wrong with so many sampling steps, at times that nobody chose for them; nothing for most models."""
        if not self.trained_steps or steps in self.trained_steps or str(steps) in self.times:
            return ""
        known = ", ".join(map(str, self.trained_steps))
        return f"was trained for samples of {known} step{'s' if known != '1' else ''}, and those of {steps} are poor"

    @property
    def is_world(self) -> bool:
        """Whether it goes on frame by frame under what a player does."""
        return self.context is not None and any(spec.played for spec in self.fields.values())

    @property
    def chunk(self) -> Modality:
        """What one chunk of a stream is.

        Raises:
            ValueError: If the model generates whole signals, or there are no streams of such.
        """
        return self.modality.part(self.codec.chunk_shape(self.modality.shape))

    @classmethod
    def migrated(cls, plain: Mapping[str, Any]) -> Mapping[str, Any]:
        """Plain data of a file of an earlier version in today's form; any other as it is.

        Earlier versions had no codec: the options of the spectrum were those of the modality. They called the items
        that a model was trained on images, whatever they were.
        """
        provenance = plain.get("provenance")
        if isinstance(provenance, Mapping) and "images" in provenance:
            named = {"items" if key == "images" else key: value for key, value in provenance.items()}
            plain = {**plain, "provenance": named}
        modality = plain.get("modality")
        if "codec" in plain or not isinstance(modality, Mapping) or modality.get("type") != "AudioModality":
            return plain
        spectrum = {key: modality[key] for key in _SPECTRUM if key in modality}
        rest = {key: value for key, value in modality.items() if key not in spectrum}
        return {**plain, "modality": rest, "codec": {"type": "spectrum", **spectrum}}

    def fitted(self) -> ModelConfig:
        """The model with its network fitted to its signals and all its conditions, the previous frames among them.

        Raises:
            ValueError: If the network cannot take them.
        """
        shape, fields = self.codec.shape(self.modality.shape), dict[str, Any](self.fields)
        for name, spec in fields.items():
            if spec.kind == "signal":
                fields[name] = replace(spec, shape=self.codec.shape(spec.shape))
        if self.context is not None:
            fields[CONTEXT] = self.codec.context_field(self.modality.shape, self.context.frames)
        return replace(self, network=self.network.fitted(shape, fields))

    def build_codec(self, folder: Path | None = None) -> Codec:
        """The codec, frozen, with the weights that its options name where it has any.

        Args:
            folder: The model's, which the name of the weights is relative to.

        Raises:
            ValueError: If they are missing, damaged or others.
        """
        return build_codec(self.codec, self.modality.shape, folder)

    def build(self) -> Map:
        """The map with fresh weights."""
        net = self.network.build()
        if self.kind == "denoiser":
            return Denoiser(net, self.path, self.sigma_data)
        if self.kind == "flow_map":
            return FlowMap(net, self.path, self.sigma_data, self.boundary)
        return ConsistencyModel(net, self.path, self.sigma_data, self.boundary)
