"""Exports to ONNX that several tests look at: each takes as long as a hundred other tests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from training.shared import shared
from unistep.backends.onnx_files import export
from unistep.core.condition import LabelField, ScalarField
from unistep.core.flowmap import ConsistencyModel
from unistep.core.path import VarianceExploding
from unistep.generation.generator import Generator
from unistep.modalities.image import ImageModality
from unistep.nets.unet import UNetConfig
from unistep.weights import weights_hash


def pictures() -> Generator:
    """A model of pictures with classes and sizes, of random weights, of which some are stored in half precision."""
    torch.manual_seed(0)
    net = UNetConfig(
        channels=3, widths=(16,), blocks=(1,), middle_blocks=1, head_dim=8, embedding_dim=32, num_classes=3,
        scalars={"size": 64.0},
    ).build()  # fmt: skip
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    fields = {"label": LabelField(size=3, names=("a", "b", "c")), "size": ScalarField(low=1, high=127)}
    flow = ConsistencyModel(net, VarianceExploding())
    return Generator(flow, name="pictures", modality=ImageModality(size=8, channels=3), fields=fields)


def exported_once(factory: pytest.TempPathFactory) -> Callable[..., None]:
    """In place of :func:`unistep.hub.onnx.export`: what has the same weights and inputs is exported once in a test run.

    For models whose function follows from these, as it does for those that one function of the tests makes.
    """

    def exported(module: nn.Module, inputs: dict[str, Tensor], axes: list[Any], path: Path, outputs: Any) -> None:
        shapes = {name: tensor.shape[1:] for name, tensor in inputs.items()}
        made_from = repr((weights_hash(module.state_dict()), shapes, axes, outputs))

        def make(folder: Path) -> None:
            export(module, inputs, axes, folder / "made.onnx", outputs)

        name = f"onnx-{hashlib.sha256(made_from.encode()).hexdigest()[:16]}"
        path.write_bytes((shared(factory, name, make)[0] / "made.onnx").read_bytes())

    return exported
