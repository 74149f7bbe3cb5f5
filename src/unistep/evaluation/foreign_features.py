"""Feature networks that Unistep does not ship: weights in a file of the user's, and code of other packages."""

from __future__ import annotations

import importlib
import inspect
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from unistep.evaluation.feature_nets import InceptionFeatures
from unistep.evaluation.features import FeatureNetwork
from unistep.evaluation.vision_transformer import VisionTransformerFeatures
from unistep.modalities.image import ImageModality

if TYPE_CHECKING:
    from unistep.modalities.base import Modality


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


def dinov2(file: str, modality: Modality) -> FeatureNetwork:
    """DINOv2 with weights from a file of safetensors, as ``timm`` or ``transformers`` name them.

    Raises:
        ValueError: If there is no such file, it cannot be read, or the signals are not images.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = _existing(file, "dinov2:FILE needs the weights of DINOv2, which are not shipped")
    ImageModality.expect(modality, "features 'dinov2'")
    try:
        network = VisionTransformerFeatures(load_file(path))
    except SafetensorError as error:
        raise ValueError(
            f"cannot read {file!r} as safetensors ({error}); give model.safetensors of facebook/dinov2-small, "
            "or torchscript:FILE for a scripted network"
        ) from None
    return FeatureNetwork(
        network,
        name="dinov2",
        version=f"{len(network.blocks)}x{network.cls_token.shape[-1]}",
        shape=modality.shape,
        strict=False,
    )


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
