"""Models by name: the zoo that ships with the package, a folder, or a repository on the Hugging Face hub."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from unistep.core.flowmap import Map
from unistep.devices import find_device
from unistep.generation.generator import Generator
from unistep.generation.model_config import ModelConfig
from unistep.hub.adapters import adapted_model, check_strength
from unistep.hub.save import CODEC_WEIGHTS, CONFIG, WEIGHTS
from unistep.precision import WantedPrecision
from unistep.serialization import read_json
from unistep.spelling import nearest
from unistep.weights import read_weights

ZOO = Path(__file__).parent.parent / "zoo"
"""Where the models that ship with the package lie."""
FILES = (".safetensors", ".json", ".onnx", ".bin", ".ckpt", ".pkl", ".pt", ".pth", ".npz", ".zip")
"""How files end that are taken for models; the name of a repository may have a point, too, such as ``me/cats-1.5``."""


def models() -> dict[str, Path]:
    """Names and folders of the models that ship with the package."""
    return {path.parent.name: path.parent for path in sorted(ZOO.glob(f"*/{WEIGHTS}"))}


def find(name: str | Path) -> Path:
    """The folder of a model: a name of the zoo, a folder (of a model, or of a run with checkpoints), or a hub id.

    Raises:
        ValueError: If there is no such model; names the nearest one.
    """
    text = str(name)
    shipped = models()
    if text in shipped:
        return shipped[text]
    try:
        folder = Path(text).expanduser()
        is_folder = bool(text) and folder.is_dir()
    except (OSError, RuntimeError, ValueError):  # no name that a file could have
        folder, is_folder = Path(), False
    if is_folder:
        try:
            if (folder / WEIGHTS).is_file() and (folder / CONFIG).is_file():
                return folder
            if (folder / "model" / WEIGHTS).is_file():
                return folder / "model"  # a run: its newest exported weights
        except PermissionError as error:
            raise ValueError(f"{folder} cannot be read: {error.strerror}") from None
        raise ValueError(f"{folder} is no model folder: it needs {CONFIG} and {WEIGHTS}, or model/ with both")
    is_file = folder.suffix.lower() in FILES or os.path.lexists(folder)
    if text.count("/") == 1 and not text.startswith((".", "/", "~")) and not text.endswith("/") and not is_file:
        return _download(text)
    raise ValueError(
        f"there is no model {text[:60]!r}; {nearest(text, list(shipped))}, a folder, or owner/name on the hub"
    )


def _download(repository: str) -> Path:
    """Fetch a repository from the hub into its cache: configuration, weights and card, nothing that runs."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repository, allow_patterns=[CONFIG, WEIGHTS, CODEC_WEIGHTS, "README.md"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"there is no model {repository!r} here, and the hub did not give it ({reason}); "
            f"{nearest(repository, list(models()))}, or a folder"
        ) from None


def load(
    name: str | Path,
    *,
    device: str | torch.device = "cpu",
    precision: WantedPrecision = "fp32",
    lora: str | Path | None = None,
    lora_scale: float = 1.0,
) -> Generator:
    """Load a model, ready to sample; an adapter (LoRA) is loaded with its base, and merged into it.

    Args:
        name: A name of the zoo, a folder, or ``owner/name`` on the Hugging Face hub.
        device: Where to put the weights.
        precision: Arithmetic of the network when it samples: ``fp32``, ``bf16``, or ``auto`` for the faster.
        lora: An adapter of the model of that ``name``; without, an adapter's own name is enough.
        lora_scale: How much of the adapter there is to be: 0 is its base, 1 what was trained.

    Returns:
        The generator.

    Raises:
        ValueError: If there is no such model or device, the model's files are corrupt or do not fit together, or an
            adapter was made for another model.
    """
    place, folder = find_device(device), find(name if lora is None else lora)
    check_strength(lora_scale)
    config = read_json(ModelConfig, folder / CONFIG)
    if config.adapter is None and (lora is not None or lora_scale != 1):
        unused = "lora_scale has nothing to scale" if lora is None else f"it is no LoRA of {name}"
        raise ValueError(f"{folder if lora is None else lora} is a whole model: {unused}; load it without")
    codec = config.build_codec(folder)
    if config.adapter is None:
        model = _whole(folder, config)
    else:
        base = None if lora is None else str(name)
        model, config = adapted_model(folder, folder / WEIGHTS, config, base, lora_scale, _loaded_base)
    return Generator(model, config, str(name if lora is None else lora), codec).to(place, precision)


def load_config(name: str | Path) -> ModelConfig:
    """The configuration of a model, for which only an adapter (LoRA) needs weights: those of its base.

    Args:
        name: A name of the zoo, a folder, or ``owner/name`` on the Hugging Face hub.

    Raises:
        ValueError: If there is no such model, or its configuration is corrupt.
    """
    config = read_json(ModelConfig, find(name) / CONFIG)
    return config if config.adapter is None else load(name).config


def _whole(folder: Path, config: ModelConfig) -> Map:
    """The map of a model whose folder holds all of its weights."""
    weights = read_weights(folder / WEIGHTS)
    try:
        model = config.build()
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{folder / CONFIG} describes no network that can be built: {error}") from None
    try:
        model.net.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise ValueError(f"{folder / WEIGHTS} does not fit {folder / CONFIG}: {first}") from None
    return model


def _loaded_base(name: str) -> Generator:
    """The base of an adapter.

    Raises:
        ValueError: If it is an adapter itself: its sum with its own base depends on the processor's last bit.
    """
    if read_json(ModelConfig, find(name) / CONFIG).adapter is not None:
        raise ValueError(f"{name} is a LoRA itself; merge it first: unistep convert {name} -o FOLDER")
    return load(name)
