"""Learned feature networks on disk: ``config.json``, ``model.safetensors`` in half precision or less, and a card."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

from torch import Tensor, nn

from unistep.evaluation import clip_features as clips
from unistep.evaluation import note_features as notes
from unistep.evaluation import vicreg
from unistep.evaluation.clip_features import ClipFeatures
from unistep.evaluation.conv_trunk import channels_last
from unistep.evaluation.feature_nets import ConvFeatures
from unistep.evaluation.features import FeatureNetwork
from unistep.evaluation.note_features import NoteFeatures
from unistep.evaluation.vicreg import ViewFeatures
from unistep.files import check_readable, replacing_folder
from unistep.quantized import BITS, quantize, restore

CONFIG_FORMAT = "unistep-features"
"""Mark of the ``config.json`` of a saved feature network."""

SavedNetwork = ConvFeatures | NoteFeatures | ClipFeatures | ViewFeatures
"""What can be saved: each knows its ``architecture`` and the ``shape`` of a signal."""

Network = TypeVar("Network", ConvFeatures, NoteFeatures, ClipFeatures, ViewFeatures)

_ARCHITECTURES: Mapping[str, tuple[Callable[..., SavedNetwork], set[str]]] = {
    "pictures": (ConvFeatures, {"in_channels", "size", "channels", "dim", "classes"}),
    notes.KIND: (NoteFeatures, {"sample_rate", "samples", "channels", "dim", "instruments", "lowest", "pitches"}),
    clips.KIND: (ClipFeatures, {"in_channels", "frames", "size", "channels", "dim", "items", "classes"}),
    vicreg.KIND: (ViewFeatures, {"modality", "channels", "dim"}),
}


def load_saved(directory: Path) -> FeatureNetwork:
    """A feature network from ``config.json`` and ``model.safetensors``.

    Raises:
        ValueError: If either file is missing, unreadable, or does not fit the other.
    """
    from safetensors import SafetensorError, safe_open

    config_file, weights = directory / "config.json", directory / "model.safetensors"
    for file in (config_file, weights):
        if not file.is_file():
            raise ValueError(f"{directory} is not a saved feature network: it has no {file.name}")
        check_readable(file)
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
        if config.get("format") != CONFIG_FORMAT:
            raise ValueError(f"its format is {config.get('format')!r}, expected {CONFIG_FORMAT!r}")
        architecture = dict(config["architecture"])
        kind = architecture.pop("kind", "pictures")
        if kind not in _ARCHITECTURES:
            raise ValueError(f"its kind is {kind!r}, expected {' or '.join(_ARCHITECTURES)}")
        build, known = _ARCHITECTURES[kind]
        unknown = sorted(set(architecture) ^ known)
        if unknown:
            raise ValueError(f"its architecture must have exactly {sorted(known)}; differs in {unknown}")
        network = build(**{k: tuple(v) if isinstance(v, list) else v for k, v in architecture.items()})
        with safe_open(weights, framework="pt") as file:
            state = restore({key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {})  # noqa: SIM118
        network.load_state_dict({key: value.float() for key, value in state.items()})
        name, version, note = str(config["name"]), str(config["version"]), str(config.get("note", ""))
    except (OSError, KeyError, TypeError, AttributeError, ValueError, RuntimeError, SafetensorError) as error:
        reason = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"cannot read the feature network in {directory}: {' '.join(reason.split())}") from error
    return FeatureNetwork(channels_last(network), name=name, version=version, shape=network.shape, note=note)


def rounded_to_half(network: Network) -> Network:
    """The network with weights rounded as :func:`save_features` rounds them: what is measured is what is saved."""
    state = {k: v.half().float() if v.is_floating_point() else v for k, v in network.state_dict().items()}
    network.load_state_dict(state)
    return network


class Packed(NamedTuple):
    """Weights in a few bits each, as they are stored."""

    entries: dict[str, Tensor]
    """Entries of the file."""
    metadata: dict[str, str]
    """What says how to read them."""


def pack(network: nn.Module, bits: int) -> Packed:
    """Weights in a few bits each, for :func:`save_features`; the network gets them, so that what is measured is saved.

    Args:
        network: The trained network.
        bits: Mean number of bits of a weight; one of :data:`unistep.quantized.BITS`.

    Raises:
        ValueError: If there are no such weights, or one is not finite.
    """
    if bits not in BITS:
        raise ValueError(f"bits must be one of {', '.join(map(str, BITS))}, got {bits}")
    packed = Packed(*quantize(network.state_dict(), bits))
    network.load_state_dict(restore(packed.entries, packed.metadata))
    return packed


def save_features(
    network: SavedNetwork,
    directory: Path,
    *,
    name: str,
    version: str,
    facts: Mapping[str, object],
    card: str,
    packed: Packed | None = None,
) -> None:
    """Write ``config.json``, ``model.safetensors`` in half precision or as it was packed, and the card ``README.md``.

    Args:
        network: The trained network.
        directory: Where to; made if need be.
        name: Name of the network.
        version: Its version.
        facts: What else to record: data, recipe, accuracy, hardware, time; ``note`` is printed with every figure.
        card: Text of the card.
        packed: Its weights by :func:`pack`; in half precision without.
    """
    from safetensors.torch import save

    weights = {
        key: (value.half() if value.is_floating_point() else value).contiguous()
        for key, value in network.state_dict().items()
    }
    config = {"format": CONFIG_FORMAT, "name": name, "version": version, "architecture": network.architecture, **facts}
    with replacing_folder(directory) as folder:
        stored = save(weights) if packed is None else save(packed.entries, packed.metadata)
        (folder / "model.safetensors").write_bytes(stored)
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        (folder / "README.md").write_text(card, encoding="utf-8")
