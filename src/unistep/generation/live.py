"""A model's description from objects that were made by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from unistep.codecs.base import Codec, CodecConfig
from unistep.core.condition import AnyField
from unistep.core.flowmap import Map
from unistep.generation.model_config import KINDS, ModelConfig
from unistep.modalities.base import Modality
from unistep.modalities.tensor import TensorModality
from unistep.nets.config import NetworkConfig


@dataclass(frozen=True, kw_only=True, eq=False)
class LiveNetwork(NetworkConfig):
    """A network that exists already; it has no name under which a file could build it again."""

    UNNAMED: ClassVar[str] = (
        "a network that was handed over as a module cannot be written to a file: give it, as its attribute `config`, a "
        "NetworkConfig with a name (unistep.registry.register)"
    )
    """Why no file can hold it."""

    net: nn.Module
    """The network."""

    def build(self) -> nn.Module:
        """The network itself."""
        return self.net

    def fitted(self, shape: tuple[int, ...], fields: Mapping[str, Any]) -> LiveNetwork:
        """Itself: it is what it is."""
        del shape, fields
        return self

    @property
    def described(self) -> str:
        """Its class."""
        return type(self.net).__name__


def configuration_of(net: nn.Module) -> NetworkConfig:
    """What a network was built from, where its attribute ``config`` says so."""
    config = getattr(net, "config", None)
    return config if isinstance(config, NetworkConfig) else LiveNetwork(net=net)


def describe(
    flow: Map,
    modality: Modality | None = None,
    codec: Codec | CodecConfig | None = None,
    fields: Mapping[str, AnyField] | None = None,
    shape: Sequence[int] | None = None,
    **settings: Any,
) -> ModelConfig:
    """The description of a map, as a file would hold it.

    Args:
        flow: The map.
        modality: What a sample is; tensors of ``shape`` by default.
        codec: What the network sees of a sample; by default the modality's own.
        fields: Conditions that the network takes, by name.
        shape: Shape of a sample, channels first, where there is no modality.
        **settings: Other fields of :class:`ModelConfig`, such as ``steps``.

    Raises:
        ValueError: If the shape of a sample is not said, ``flow`` is no map, or its network takes no such condition.
    """
    kind: Any = next((kind for kind, made in KINDS.items() if isinstance(flow, made)), None)
    if kind is None:
        raise ValueError(
            f"a generator needs a ConsistencyModel, FlowMap or Denoiser around the network, got {type(flow).__name__}"
        )
    if modality is None:
        shape = codec.signal_shape if shape is None and isinstance(codec, Codec) else shape
        if shape is None:
            raise ValueError("say what a sample is: modality=ImageModality(size=32, channels=3), or shape=(3, 32, 32)")
        modality = TensorModality(shape=tuple(shape))
    network = configuration_of(flow.net)
    for name, field in (fields or {}).items():
        if not network.takes(name, field):
            raise ValueError(
                f"the network takes no condition {name!r} of {field.kind} values ({field.extent}); build it with one, "
                "or leave the field out"
            )
    path: Any = flow.path  # the union of paths that a file can name does not bind a live one
    if codec is None:
        codec = modality.default_codec()
    return ModelConfig(
        kind=kind,
        network=network,
        modality=modality,
        codec=codec.config if isinstance(codec, Codec) else codec,
        path=path,
        sigma_data=flow.sigma_data,
        boundary=getattr(flow, "boundary", 0.0),
        fields=dict(fields or {}),
        **settings,
    )
