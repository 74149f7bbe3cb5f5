"""Feature networks by name: those that ship, those on disk, and those of other packages."""

from __future__ import annotations

import importlib
import inspect
import json
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from unistep import registry
from unistep.evaluation.feature_nets import ConvFeatures, InceptionFeatures, PixelFeatures
from unistep.evaluation.features import FeatureNetwork
from unistep.evaluation.fixed_features import RandomConvolutions, ScaleFeatures
from unistep.evaluation.note_features import KIND, NoteFeatures, SpectrumFeatures
from unistep.files import check_readable
from unistep.modalities.audio import AudioModality
from unistep.modalities.image import ImageModality
from unistep.spelling import closest

if TYPE_CHECKING:
    from unistep.modalities.base import Modality

FeatureLoader = Callable[[str, "Modality"], FeatureNetwork]
"""``loader(rest, modality)``: the network for signals of a modality; ``rest`` is what follows the name and a colon."""

CONFIG_FORMAT = "unistep-features"
"""Mark of the ``config.json`` of a saved feature network."""
_SHIPPED = Path(__file__).parent.parent / "zoo" / "features"


def load_features(spec: str | FeatureNetwork = "fashion", modality: Modality | None = None) -> FeatureNetwork:
    """A feature network by name.

    Args:
        spec: A network, which is returned as it is, or one of

            - ``fashion``: the shipped network for 28x28 grey images;
            - ``notes``: the shipped network for notes of one second at 16 kHz;
            - ``pixels``: the values of a signal on 64 fixed random directions;
            - ``scales``: its means over grids of several scales on such directions;
            - ``random-convolutions`` or ``random-convolutions:SEED``: three layers of random filters, with places;
            - ``spectrum``: levels of the frequency bands of a sound on 64 fixed random directions;
            - ``inception:FILE``: InceptionV3 with weights that you supply, either StyleGAN's TorchScript file or the
              weights of torch-fidelity (which must then be installed);
            - ``torchscript:FILE``: a scripted network from signals in [-1, 1] to features;
            - ``module:PACKAGE.MODULE:CALLABLE``: a callable without arguments that returns such a network or function;
            - a directory with ``config.json`` and ``model.safetensors``, as ``benchmarks/train_image_features.py``
              writes it;
            - a name that a plugin registered as ``features``.
        modality: What the signals are; 28x28 grey images without.

    Raises:
        ValueError: If there is no such network or it cannot be read; says what there is.
    """
    if isinstance(spec, FeatureNetwork):
        return spec
    modality = ImageModality(size=28, channels=1) if modality is None else modality
    name, _, rest = spec.partition(":")
    known = registry.names("features")
    if name in known:
        return registry.lookup("features", name)(rest, modality)
    try:
        is_folder = bool(spec) and Path(spec).expanduser().is_dir()
    except (OSError, ValueError):  # no name that a folder could have
        is_folder = False
    if is_folder:
        return load_saved(Path(spec).expanduser())
    near = closest(name, known)
    hint = f"; did you mean {near!r}?" if near else ""
    raise ValueError(f"no feature network {spec[:200]!r}; give one of {', '.join(known)}, or a directory{hint}")


def shipped_fashion(rest: str, modality: Modality) -> FeatureNetwork:
    """The shipped network for 28x28 grey images."""
    del rest, modality
    return load_saved(_SHIPPED / "fashion-v1")


def shipped_notes(rest: str, modality: Modality) -> FeatureNetwork:
    """The shipped network for notes of one second at 16 kHz."""
    del rest, modality
    return load_saved(_SHIPPED / "notes-v1")


def pixels(rest: str, modality: Modality) -> FeatureNetwork:
    """The values of a signal on fixed random directions."""
    del rest
    return FeatureNetwork(PixelFeatures(modality.shape), name="pixels", version="1", shape=modality.shape)


def scales(rest: str, modality: Modality) -> FeatureNetwork:
    """Means of a signal over grids of several scales, on fixed random directions."""
    del rest
    network = ScaleFeatures(modality.shape)
    return FeatureNetwork(network, name="scales", version="1", shape=modality.shape)


def random_convolutions(rest: str, modality: Modality) -> FeatureNetwork:
    """Random convolutions of a signal; what follows the colon is the seed of the filters.

    Raises:
        ValueError: If that is no seed.
    """
    if rest and not rest.isdecimal():
        raise ValueError(f"random-convolutions:SEED takes a whole number, got {rest!r}")
    name = f"random-convolutions:{int(rest)}" if rest else "random-convolutions"
    network = RandomConvolutions(modality.shape, seed=int(rest or 0))
    return FeatureNetwork(network, name=name, version="1", shape=modality.shape)


def spectrum(rest: str, modality: Modality) -> FeatureNetwork:
    """Levels of frequency bands on fixed random directions.

    Raises:
        ValueError: If the signals are not audio.
    """
    del rest
    rate = AudioModality.expect(modality, "features 'spectrum'").sample_rate
    shape = modality.shape
    return FeatureNetwork(SpectrumFeatures(shape, rate), name="spectrum", version="1", shape=shape)


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
    path = Path(file).expanduser()
    if not path.is_file():
        raise ValueError(f"{what}: there is no file {file!r}")
    return path


def torchscript(file: str, modality: Modality) -> FeatureNetwork:
    """A scripted network from a file."""
    path = _existing(file, "torchscript:FILE")
    network = _scripted(path)
    code = str(getattr(network, "code", ""))
    return FeatureNetwork(network, name=path.stem, version="torchscript", shape=modality.shape, strict=False, code=code)


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


def inception(file: str, modality: Modality) -> FeatureNetwork:
    """InceptionV3 with weights from a file."""
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
    return FeatureNetwork(network, name="inception-v3", version="2015-12-05", shape=modality.shape, strict=False)


def module(target: str, modality: Modality) -> FeatureNetwork:
    """A network or a function from an installed package."""
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
    return FeatureNetwork(made, name=name, version=version, shape=modality.shape, strict=False, code=_source(made))


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


def _source(network: object) -> str:
    """The source code of a network of someone else's, so that editing it makes a new hash."""
    code = network if inspect.isroutine(network) else type(network)
    try:
        return inspect.getsource(code)
    except (OSError, TypeError):  # built in, or typed into an interpreter: its name must do
        return getattr(code, "__qualname__", repr(code))
