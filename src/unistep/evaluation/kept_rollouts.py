"""Rollouts that were measured, kept on disk: a long evaluation of a world that was broken off goes on from there."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from unistep.data.cache import cache_root
from unistep.evaluation.world_report import ActionFigures, RolloutFigures
from unistep.files import write_text
from unistep.serialization import to_plain
from unistep.weights import weights_hash

if TYPE_CHECKING:
    from unistep.evaluation.world_metrics import FrameFeatures
    from unistep.generation.generator import Generator

_VERSION = 1  # of what a rollout is and how it is measured
_log = logging.getLogger(__name__)


def rollout_path(model: Generator, networks: Sequence[FrameFeatures], **known: object) -> Path:
    """Where the figures of a rollout are kept.

    Args:
        model: The world.
        networks: Feature networks of single frames.
        **known: What else they depend on, such as the recordings.
    """
    key = {
        "version": _VERSION,
        "model": [type(model).__qualname__, model.name],
        "weights": weights_hash(model.map.state_dict()),
        "config": to_plain(model.config),
        "precision": model.precision,
        "device": model.device.type,
        "torch": torch.__version__,
        "networks": [each.network.hash for each in networks],
        **known,
    }
    name = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()[:32]
    return cache_root(None) / "rollouts" / f"{name}.json"


def read_rollout(path: Path) -> RolloutFigures | None:
    """The figures that are kept there; ``None`` for none, or damaged ones."""
    try:
        plain: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        actions = plain["actions"]
        return RolloutFigures(
            **{
                **plain,
                "psnr": tuple(plain["psnr"]),
                "ssim": tuple(plain["ssim"]),
                "distance": _curves(plain["distance"]),
                "frechet": _curves(plain["frechet"]),
                "actions": ActionFigures(**{**actions, "blocks": tuple(actions["blocks"])}),
            }
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning("cannot read %s: %s", path, error)
        return None


def keep_rollout(path: Path, figures: RolloutFigures) -> None:
    """Keep the figures of a rollout; where that fails they are measured again another time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(asdict(figures)) + "\n")
    except (OSError, ValueError) as error:
        _log.warning("a rollout was not kept: %s", error)


def _curves(plain: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, ...]]:
    return {name: tuple(curve) for name, curve in plain.items()}
