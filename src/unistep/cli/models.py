"""``unistep models``: what ships with the package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unistep.cli.console import make_console
from unistep.cli.parse import parse

if TYPE_CHECKING:
    from unistep.generation.model_config import ModelConfig


@dataclass(frozen=True, kw_only=True)
class ModelsOptions:
    """List the models that ship with Unistep; each is a MODEL of sample, evaluate, info and train --teacher."""


def run(arguments: Sequence[str]) -> int:
    """Print a table of the zoo."""
    parse(ModelsOptions, "models", arguments)
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from unistep.hub.load import models

    shipped = models()
    if not shipped:
        print("no models ship with this installation; train one: unistep train fashion/denoising")
        return 0
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("name", "kind", "shape", "parameters", "conditions", "steps"):
        table.add_column(name, justify="right" if name in ("parameters", "steps") else "left", no_wrap=name == "name")
    for name, folder in shipped.items():
        table.add_row(name, *summary(folder).values())
    console = make_console()
    console.print(table)
    console.print(
        "try one: unistep sample NAME -n 64 -o out.png      more about one: unistep info NAME", highlight=False
    )
    return 0


def summary(folder: Path) -> dict[str, str]:
    """Kind, shape, parameters, conditions and default steps of the model in a folder.

    Raises:
        ValueError: If its files cannot be read.
    """
    from unistep.core.condition import asked
    from unistep.generation.model_config import ModelConfig
    from unistep.hub.save import CONFIG, WEIGHTS
    from unistep.serialization import read_json
    from unistep.weights import summarize_weights

    config = read_json(ModelConfig, folder / CONFIG)
    conditions = [f"{name} ({spec.extent})" for name, spec in asked(config.fields).items()]
    sampler = f" {config.solver}" if config.kind == "denoiser" else ""
    return {
        "kind": "many-step teacher" if config.kind == "denoiser" else "one-step",
        "shape": _shape(config),
        "parameters": f"{summarize_weights(folder / WEIGHTS).parameters:,}",
        "conditions": ", ".join(conditions) or "none",
        "steps": f"{config.steps}{sampler}",
    }


def _shape(config: ModelConfig) -> str:
    """What one sample is, or one chunk of a stream."""
    return config.modality.described if config.context is None else f"chunks of {config.chunk.described}"
