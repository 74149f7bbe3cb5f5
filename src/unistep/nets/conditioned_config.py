"""The shape that networks with conditions share: their signal, times and conditions, and what can start them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from unistep.nets.config import NetworkConfig, TimeProblem
from unistep.nets.embedding import MIN_FREQUENCY


@dataclass(frozen=True, kw_only=True)
class ConditionedConfig(NetworkConfig):
    """Shape of a :class:`~unistep.nets.conditioned.ConditionedNetwork`, without its body."""

    channels: int = 1
    """Channels of the signal."""
    dims: int = 2  # pyright: ignore[reportIncompatibleMethodOverride]
    """Spatial dimensions of the signal: 1 (audio), 2 (images) or 3 (video)."""
    patch: int = 2
    """Space-to-depth factor of the input: 1 works at full resolution, 2 at half of it for a quarter of the cost."""
    head_dim: int = 64
    """Channels per attention head."""
    embedding_dim: int = 256
    """Features of the embedding of time and condition."""
    gated_skip: bool = False
    """Whether the input is added to the output, times a gate that the network computes for each position and channel:
    for signals with more channels than its widths, whose noise could not pass through it."""
    num_classes: int = 0
    """Classes of the ``label`` condition; 0 for a network without one."""
    vocabularies: dict[str, int] = field(default_factory=dict)
    """Number of values of each other condition that is a class, such as ``{"pitch": 128}``."""
    scalars: dict[str, float] = field(default_factory=dict)
    """Conditions that are numbers, each with the unit that makes it of order one, such as ``{"velocity": 127}``."""
    vectors: dict[str, int] = field(default_factory=dict)
    """Conditions that are vectors which say how an item was made, each with its size, such as ``{"augmentation": 9}``;
    zeros have no effect."""
    tokens: dict[str, int] = field(default_factory=dict)
    """Conditions that are sequences of vectors, each with the features of a vector. Where the network has
    self-attention, all positions attend to them as well."""
    signals: dict[str, int] = field(default_factory=dict)
    """Conditions that are signals of the same spatial size, each with its channels, such as ``{"source": 3}``."""
    second_time: bool = False
    """Whether the network also takes the time ``s`` that a flow map jumps to."""
    dropout: float = 0.0
    """Dropout probability inside the blocks."""
    max_frequency: float = 16.0
    """Largest angular frequency of the embeddings of time, in radians per unit of ``c_noise``. Methods that
    differentiate the network in time need it low."""
    context: int = 0
    """Frames of the previous chunk, along the last axis, which stand before the signal: the condition ``context``; 0
    for none."""
    double_norm: bool = False
    """Whether the blocks normalise the scale and the shift that the embedding gives them, which keeps the derivative
    in time bounded: for continuous-time consistency models."""

    def __post_init__(self) -> None:
        if self.dims not in (1, 2, 3):
            raise ValueError(f"dims must be 1, 2 or 3, got {self.dims}")
        names = [*self.vocabularies, *self.scalars, *self.vectors, *self.tokens, *self.signals]
        if "label" in names or len(set(names)) < len(names) or not all(name.isidentifier() for name in names):
            raise ValueError(f"conditions need names of their own, single words other than label, got {names}")
        if any(size < 1 for size in self.vocabularies.values()) or any(unit <= 0 for unit in self.scalars.values()):
            raise ValueError(f"sizes of vocabularies and units of scalars must be positive, got {self}")
        if min([*self.vectors.values(), *self.tokens.values(), *self.signals.values()], default=1) < 1:
            raise ValueError(
                f"vectors need a size, tokens features and signals channels, got {self.vectors}, {self.tokens} and "
                f"{self.signals}"
            )
        if not MIN_FREQUENCY < self.max_frequency < math.inf:
            raise ValueError(f"max_frequency must be finite and above {MIN_FREQUENCY}, got {self.max_frequency}")
        if self.context < 0 or self.context % self.multiple:
            raise ValueError(f"context must be 0 or a multiple of {self.multiple}, got {self.context}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")

    @property
    def multiples(self) -> tuple[int, ...]:
        """What each spatial size of a call must be a multiple of."""
        return (self.multiple,) * self.dims

    @property
    def previous_frames(self) -> int:
        """Number of frames of the past that it is shown along the last axis."""
        return self.context

    @property
    def takes_second_time(self) -> bool:
        """Whether the network uses the time ``s`` that a flow map jumps to."""
        return self.second_time

    def with_second_time(self, second_time: bool) -> Self:
        """The same network with or without the second time."""
        return replace(self, second_time=second_time)

    def advice(self, problem: TimeProblem) -> str | None:
        """What to change against a problem, as options; ``None`` if the network does not have the problem."""
        if problem == "steep time embedding":
            return "take --model.network.max-frequency 16"
        return None if self.double_norm else "train teacher and student with --model.network.double-norm"

    def fitted(self, shape: tuple[int, ...], fields: Mapping[str, Any]) -> Self:
        """The same network for signals of ``shape`` and the conditions ``fields``.

        A label becomes a table of classes, a scalar an embedding in the unit that makes it of order one, and a vector a
        linear layer; tokens are attended to, and a signal is a second input. The field ``context`` is the last frames:
        where they lie before the signal, it has the size of ``shape`` in all but the last axis; where they do not, it
        is a second input as any signal is.

        Raises:
            ValueError: If a signal has another spatial size than ``shape``.
        """
        known = fields.get("context")
        context = known if known is not None and known.before else None
        inputs = fields if context is None else _others(fields, ["context"])
        kinds = ("label", "scalar", "vector", "tokens", "signal")
        of_kind = {kind: {n: f for n, f in inputs.items() if f.kind == kind} for kind in kinds}
        for name, reference in of_kind["signal"].items():
            if tuple(reference.shape[1:]) != tuple(shape[1:]):
                got = list(reference.shape[1:])
                raise ValueError(f"{name} must have the spatial size {list(shape[1:])}, got {got}")
        classes = {name: field.size for name, field in of_kind["label"].items()}
        return replace(
            self,
            channels=shape[0],
            num_classes=classes.pop("label", 0),
            vocabularies=classes,
            scalars={name: max(abs(field.low), abs(field.high)) for name, field in of_kind["scalar"].items()},
            vectors={name: field.size for name, field in of_kind["vector"].items()},
            tokens={name: field.dim for name, field in of_kind["tokens"].items()},
            signals={name: field.shape[0] for name, field in of_kind["signal"].items()},
            context=0 if context is None else context.shape[-1],
        )

    def takes(self, name: str, field: Any) -> bool:
        """Whether the network has an input of that name, for as many classes, numbers or features."""
        if field.kind == "label":
            return {"label": self.num_classes, **self.vocabularies}.get(name) == field.size
        if field.kind == "vector":
            return self.vectors.get(name) == field.size
        if field.kind == "tokens":
            return self.tokens.get(name) == field.dim
        return name in {"scalar": self.scalars, "signal": self.signals}.get(field.kind, ())

    def bridged(self, theirs: Any) -> Any:
        """``theirs``, a network of the same class, with what it may lack or have otherwise taken from this one."""
        return replace(
            theirs,
            dropout=self.dropout,
            second_time=self.second_time,
            num_classes=theirs.num_classes or self.num_classes,
            vocabularies={**_others(self.vocabularies, theirs.scalars), **theirs.vocabularies},
            scalars={**_others(self.scalars, theirs.vocabularies), **theirs.scalars},
            vectors={**self.vectors, **theirs.vectors},
            tokens={**self.tokens, **theirs.tokens},
            signals={**self.signals, **theirs.signals},
        )

    def differences(self, theirs: NetworkConfig) -> list[str]:
        """What keeps weights of a network ``theirs`` from starting this one.

        ``theirs`` may lack the second time and conditions, may have another dropout, and whatever else
        :meth:`bridged` names.
        """
        return super().differences(self.bridged(theirs) if isinstance(theirs, type(self)) else theirs)

    def keeping(self, theirs: NetworkConfig, besides: Collection[str] = ()) -> Self:
        """This network with the conditions that ``theirs`` has beside its own and those named.

        Vectors are kept in any case: where items are as they are, they have no effect.
        """
        if not isinstance(theirs, type(self)):
            return self
        named = {*self.vocabularies, *self.scalars, *self.vectors, *self.tokens, *self.signals, *besides}
        return replace(
            self,
            num_classes=self.num_classes or (0 if "label" in besides else theirs.num_classes),
            vocabularies={**_others(theirs.vocabularies, named), **self.vocabularies},
            scalars={**_others(theirs.scalars, named), **self.scalars},
            vectors={**theirs.vectors, **self.vectors},
            tokens={**_others(theirs.tokens, named), **self.tokens},
            signals={**_others(theirs.signals, named), **self.signals},
        )

    def renumbered(self, theirs: NetworkConfig) -> NetworkConfig:
        """``theirs`` with as many classes of each kind as this one, and vectors as long, where both have some."""
        if not isinstance(theirs, type(self)):
            return theirs
        return replace(
            theirs,
            num_classes=theirs.num_classes and (self.num_classes or theirs.num_classes),
            vocabularies={name: self.vocabularies.get(name, size) for name, size in theirs.vocabularies.items()},
            vectors={name: self.vectors.get(name, size) for name, size in theirs.vectors.items()},
        )

    def start_from(self, net: nn.Module, weights: Mapping[str, Tensor], theirs: NetworkConfig) -> None:
        """Load weights of a network ``theirs``; what it does not have begins without effect.

        New embeddings of labels and of the second time are zero, as those of scalars are from the start. Where there
        are other classes than ``theirs``, each begins at the embedding of no class; a vector of another length begins
        without effect.
        """
        from unistep.nets.conditioned import ConditionedNetwork  # which imports this module for its types

        if not isinstance(net, ConditionedNetwork) or not isinstance(theirs, ConditionedConfig):
            return super().start_from(net, weights, theirs)
        fresh = net.state_dict()
        known = {name: value for name, value in weights.items() if name in fresh}
        for name, value in known.items():
            if value.shape != fresh[name].shape and name.endswith("table.weight"):  # other classes
                known[name] = value[-1:].expand_as(fresh[name]).clone()
            elif value.shape != fresh[name].shape and name.startswith("vectors."):  # other controls
                known[name] = torch.zeros_like(fresh[name])
        net.load_state_dict(fresh | known)
        silent: list[nn.Module] = []
        if net.label is not None and not theirs.num_classes:
            silent.append(net.label.table)
        silent += [table.table for name, table in net.classes.items() if name not in theirs.vocabularies]  # type: ignore[misc]
        if net.second_time is not None and not theirs.second_time:
            silent.append(net.second_time[-1])
        for parameter in (p for module in silent for p in module.parameters()):
            nn.init.zeros_(parameter)
        return None


def _others(ours: Mapping[str, Any], taken: Collection[str]) -> dict[str, Any]:
    """What is not in ``taken``."""
    return {name: value for name, value in ours.items() if name not in taken}
