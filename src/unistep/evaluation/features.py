"""Feature networks: the named, versioned eyes that generated samples are judged with.

A figure of quality means nothing without the network whose features it was taken on, so each one carries a name, a
version and a hash of its weights, and every figure and every cached statistic is labelled with them.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import math
import os
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unistep.evaluation.feature_nets import ConvFeatures, InceptionFeatures, PixelFeatures
from unistep.evaluation.note_features import KIND, NoteFeatures, SpectrumFeatures
from unistep.files import check_readable, checked_path
from unistep.spelling import nearest_hint

CONFIG_FORMAT = "unistep-features"
_SHIPPED = Path(__file__).parent.parent / "zoo" / "features"
_SHIPPED_NAMES = {"fashion": "fashion-v1", "notes": "notes-v1"}
_PREFIXES = ("inception", "module", "torchscript")


class FeatureLabel(NamedTuple):
    """What a figure is labelled with."""

    name: str
    """Name of the network."""
    version: str
    """Its version."""
    hash: str
    """SHA-256 of weights and code, 64 hexadecimal digits."""
    dim: int
    """Number of features."""

    def __str__(self) -> str:
        return f"{self.name} v{self.version} ({self.dim} features, {self.hash[:8]})"


@final
class FeatureNetwork(nn.Module):
    """A network from images to feature vectors, with a name, a version and a hash, frozen in evaluation mode.

    Args:
        network: Maps float images in [-1, 1] of shape ``[b, c, h, w]`` to features ``[b, dim]``.
        name: Name of the network.
        version: Version; raise it whenever weights or preprocessing change.
        shape: Image shape ``(c, h, w)``; other shapes are refused where ``strict``.
        strict: Whether the network understands images of ``shape`` only.
        code: What stands for the network's code in its hash, where name and version do not vouch for it.

    Raises:
        ValueError: If the network does not answer with one finite vector per image.
    """

    def __init__(
        self,
        network: nn.Module | Callable[[Tensor], Tensor],
        *,
        name: str,
        version: str,
        shape: tuple[int, ...],
        strict: bool = True,
        code: str = "",
    ) -> None:
        super().__init__()
        self.network = network
        self.name, self.version, self.shape, self.strict = name, version, tuple(shape), strict
        self.eval().requires_grad_(False)
        self.hash = _hash(network, name, version, code)
        # Two unequal images, neither constant, are enough to learn the width and to notice a network that fails.
        probe = torch.linspace(-1, 1, 2 * math.prod(shape)).view(2, *shape)
        try:
            answer = self.network(probe)
        except Exception as error:
            raise ValueError(
                f"feature network {name!r} failed on float images of shape {list(probe.shape)} in [-1, 1]: {error}"
            ) from error
        if not isinstance(answer, Tensor) or answer.ndim < 2 or len(answer) != 2 or not answer.isfinite().all():
            got = list(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
            raise ValueError(f"feature network {name!r} must give finite features [b, dim] for images, gave {got}")
        self.dim = answer.flatten(1).shape[1]

    @property
    def label(self) -> FeatureLabel:
        """Name, version, hash and width, as printed beside every figure."""
        return FeatureLabel(self.name, self.version, self.hash, self.dim)

    @torch.no_grad()
    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b dim"]:
        """Features of float images in [-1, 1], as float32 ``[b, dim]``.

        Raises:
            ValueError: If the images do not have the shape that the network was made for.
        """
        self.check_shape(tuple(images.shape[1:]))
        return self.network(images).flatten(1).float()

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Say whether the network can judge images, or sounds, of that shape.

        Raises:
            ValueError: If not; says what can.
        """
        if self.strict and shape != self.shape:
            what = "images" if len(self.shape) == 3 else "sounds"
            free = "'pixels'" if len(shape) == 3 else "'spectrum'"
            raise ValueError(
                f"features {self.name!r} judge {what} of shape {_by(self.shape)}, got {_by(shape)}; "
                f"choose another network (inception:FILE, module:PACKAGE:CALLABLE, torchscript:FILE) or {free}"
            )


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _hash(network: object, name: str, version: str, code: str) -> str:
    """SHA-256 over name, version, code and every weight."""
    digest = hashlib.sha256(f"{name}\n{version}\n{code}\n".encode())
    if isinstance(network, nn.Module):
        for key, value in sorted(network.state_dict().items()):
            digest.update(f"{key} {value.dtype} {list(value.shape)}\n".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _source(network: object) -> str:
    """The source code of a network of someone else's, so that editing it makes a new hash."""
    code = network if inspect.isroutine(network) else type(network)
    try:
        return inspect.getsource(code)
    except (OSError, TypeError):  # built in, or typed into an interpreter: its name must do
        return getattr(code, "__qualname__", repr(code))


def load_features(
    spec: str = "fashion", *, shape: tuple[int, ...] = (1, 28, 28), sample_rate: int | None = None
) -> FeatureNetwork:
    """A feature network by name.

    Args:
        spec: One of

            - ``fashion``: the shipped network for 28x28 grey images;
            - ``notes``: the shipped network for notes of one second at 16 kHz;
            - a directory with ``config.json`` and ``model.safetensors``, as :mod:`~unistep.evaluation.train_features`
              saves;
            - ``inception:FILE``: InceptionV3 with weights that you supply, either StyleGAN's TorchScript file or the
              weights of torch-fidelity (which must then be installed);
            - ``torchscript:FILE``: a scripted network from images in [-1, 1] to features;
            - ``module:PACKAGE.MODULE:CALLABLE``: a callable without arguments that returns such a network or function;
            - ``pixels``: raw pixels on 64 fixed random directions;
            - ``spectrum``: levels of a sound's bands on 64 fixed random directions.
        shape: Shape ``(c, h, w)`` of the images that will be judged, or ``(c, samples)`` of the sounds.
        sample_rate: Samples per second of the sounds.

    Raises:
        ValueError: If there is no such network or it cannot be read; says what there is.
    """
    if spec == "pixels":
        return FeatureNetwork(PixelFeatures(shape), name="pixels", version="1", shape=shape)
    if spec == "spectrum":
        if sample_rate is None:
            raise ValueError("features 'spectrum' judge sounds; give fashion, pixels or a network of your own")
        return FeatureNetwork(SpectrumFeatures(shape, sample_rate), name="spectrum", version="1", shape=shape)
    if spec in _SHIPPED_NAMES:
        return load_saved(_SHIPPED / _SHIPPED_NAMES[spec])
    prefix, colon, rest = spec.partition(":")
    if colon and prefix in _PREFIXES:
        loaders: Mapping[str, Callable[[str, tuple[int, ...]], FeatureNetwork]] = {
            "inception": _load_inception,
            "module": _load_module,
            "torchscript": _load_torchscript,
        }
        return loaders[prefix](rest, shape)
    if os.path.isdir(spec):  # False too for a name that no file can have
        return load_saved(Path(spec))
    names = [*_SHIPPED_NAMES, "pixels", "spectrum"]
    raise ValueError(
        f"no feature network {spec!r}; give {', '.join(names)}, a directory, inception:FILE, torchscript:FILE "
        f"or module:PACKAGE:CALLABLE{nearest_hint(spec, names)}"
    )


_ARCHITECTURES: Mapping[str, tuple[Callable[..., ConvFeatures | NoteFeatures], set[str]]] = {
    "pictures": (ConvFeatures, {"in_channels", "size", "channels", "dim", "classes"}),
    KIND: (NoteFeatures, {"sample_rate", "samples", "channels", "dim", "instruments", "lowest", "pitches"}),
}


def load_saved(directory: Path) -> FeatureNetwork:
    """A feature network from ``config.json`` and ``model.safetensors``.

    Raises:
        ValueError: If either file is missing, unreadable, or does not fit the other.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

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
        network.load_state_dict({key: value.float() for key, value in load_file(weights).items()})
        name, version = str(config["name"]), str(config["version"])
    except (OSError, KeyError, TypeError, AttributeError, ValueError, RuntimeError, SafetensorError) as error:
        reason = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"cannot read the feature network in {directory}: {' '.join(reason.split())}") from error
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # half as fast again on a CPU
    if isinstance(network, NoteFeatures):
        shape: tuple[int, ...] = (1, architecture["samples"])
    else:
        shape = (architecture["in_channels"], architecture["size"], architecture["size"])
    return FeatureNetwork(network, name=name, version=version, shape=shape)


def _existing(file: str, what: str) -> Path:
    path = checked_path(file)
    if not path.is_file():
        raise ValueError(f"{what}: there is no file {file!r}")
    return path


def _load_torchscript(file: str, shape: tuple[int, ...]) -> FeatureNetwork:
    path = _existing(file, "torchscript:FILE")
    network = _scripted(path)
    code = str(getattr(network, "code", ""))
    return FeatureNetwork(network, name=path.stem, version="torchscript", shape=shape, strict=False, code=code)


def _scripted(path: Path) -> nn.Module:
    with warnings.catch_warnings():
        # PyTorch would rather have torch.export, but the published Inception is a scripted file.
        warnings.filterwarnings("ignore", message=".*torch.jit.load.*", category=DeprecationWarning)
        try:
            return torch.jit.load(path, map_location="cpu")
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"cannot read {str(path)!r} as TorchScript: {str(error).splitlines()[0]}") from error


def _is_torchscript(path: Path) -> bool:
    return zipfile.is_zipfile(path) and any("/code/" in name for name in zipfile.ZipFile(path).namelist())


def _load_inception(file: str, shape: tuple[int, ...]) -> FeatureNetwork:
    path = _existing(file, "inception:FILE needs the InceptionV3 weights, which are not shipped")
    if _is_torchscript(path):
        inner, scripted = _scripted(path), True
    else:
        try:
            extractor = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
        except ImportError as error:
            raise ValueError(
                f"{file!r} is no TorchScript file, and reading torch-fidelity's weights needs torch-fidelity "
                f"({error}); install it, or give StyleGAN's inception-2015-12-05.pt"
            ) from error
        try:
            inner = extractor.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(path))
        except Exception as error:
            raise ValueError(f"torch-fidelity cannot read {file!r}: {str(error).splitlines()[0]}") from error
        scripted = False
    network = InceptionFeatures(cast(nn.Module, inner), scripted=scripted)
    return FeatureNetwork(network, name="inception-v3", version="2015-12-05", shape=shape, strict=False)


def _load_module(target: str, shape: tuple[int, ...]) -> FeatureNetwork:
    module_name, colon, attribute = target.partition(":")
    if not colon or not module_name or not attribute:
        raise ValueError(f"module:{target} must be module:PACKAGE.MODULE:CALLABLE")
    try:
        found = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"module:{target} cannot be found: {error}") from error
    made = found if isinstance(found, nn.Module) else _call(found, target)
    version = str(getattr(made, "version", "unversioned"))
    name = str(getattr(made, "name", target))
    return FeatureNetwork(made, name=name, version=version, shape=shape, strict=False, code=_source(made))


def _call(factory: object, target: str) -> Any:
    if not callable(factory):
        raise ValueError(f"module:{target} is a {type(factory).__name__}, expected a callable that returns a network")
    try:
        made = factory()
    except TypeError as error:
        raise ValueError(f"module:{target} must be callable without arguments and return a network: {error}") from error
    if not callable(made):
        raise ValueError(f"module:{target} returned a {type(made).__name__}, expected a network")
    return made
