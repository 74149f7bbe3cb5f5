"""``unistep info``: this installation, or one model."""

from __future__ import annotations

import itertools
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from unistep.cli.console import make_console
from unistep.cli.parse import parse


@dataclass(frozen=True, kw_only=True)
class InfoOptions:
    """Show versions, devices, the cache and optional packages; or, of a MODEL, its configuration and card."""

    model: Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="[MODEL]")] = None
    """A name from `unistep models`, a folder of a model or of a run, or owner/name on the Hugging Face hub."""


def run(arguments: Sequence[str]) -> int:
    """Print the facts."""
    options = parse(InfoOptions, "info", arguments)
    if options.model is None:
        _print_rows("Unistep", installation())
        return 0
    from unistep.hub.load import find
    from unistep.hub.save import CARD

    folder = find(options.model)
    _print_rows(options.model, model_facts(folder))
    card = folder / CARD
    if card.is_file():
        print_card(_without_front_matter(card.read_text(encoding="utf-8", errors="replace")))
    return 0


def print_card(text: str) -> None:
    """A card for the terminal; a table that is wider is printed as it is written, as its cells would be cut."""
    from rich.markdown import Markdown

    console = make_console()
    for is_table, lines in itertools.groupby(text.splitlines(), key=lambda line: line.startswith("|")):
        part = list(lines)
        if is_table and max(map(len, part)) > console.width:
            print("\n".join(part), end="\n\n")
        else:
            console.print(Markdown("\n".join(part)))


def _print_rows(title: str, rows: dict[str, str]) -> None:
    from unistep.training.display import show_table

    show_table(make_console(), title, dict(rows))


def installation() -> dict[str, str]:
    """Versions, devices, cache and extras of this computer."""
    import torch

    from unistep import __version__
    from unistep.cli.extras import EXTRAS, installed
    from unistep.data.cache import cache_root
    from unistep.evaluation.hardware import hardware
    from unistep.hub.load import models
    from unistep.precision import has_fast_bf16

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    root = cache_root(None)
    rows = {
        "version": __version__,
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "torch": torch.__version__,
        "device": f"{device.type}: {hardware(device)}",
        "bf16": "fast here: training uses it" if has_fast_bf16(device) else "not faster here: training uses fp32",
        "cache": f"{root} ({human_size(folder_size(root))})",
        "models": ", ".join(models()) or "none",
    }
    for extra in EXTRAS:
        here, missing = installed(extra)
        if not missing:
            rows[f"extra {extra}"] = "installed"
        else:
            some = f"has {', '.join(here)}; " if here else ""
            rows[f"extra {extra}"] = f"{some}missing {', '.join(missing)}: pip install 'unistep[{extra}]'"
    return rows


def model_facts(folder: Path) -> dict[str, str]:
    """What a model's files say of it.

    Raises:
        ValueError: If they cannot be read.
    """
    from unistep.cli.models import summary
    from unistep.core.condition import asked
    from unistep.generation.model_config import ModelConfig
    from unistep.hub.save import CONFIG, WEIGHTS
    from unistep.serialization import read_json
    from unistep.weights import summarize_weights

    config = read_json(ModelConfig, folder / CONFIG)
    rows = {**summary(folder), "path": type(config.path).__name__, "network": config.network.described}
    for name, spec in asked(config.fields).items():
        rows[name] = spec.table
        if spec.default_text is not None:
            rows[name] += f"; {spec.default_text} where none is given"
    for steps, times in config.times.items():
        rows[f"times, {steps} steps"] = " ".join(f"{time:g}" for time in times)
    if config.adapter is not None:
        rows["adapter"] = config.adapter.described
    rows |= {name: value for name, value in config.provenance.items() if name not in rows}
    rows["weights"] = summarize_weights(folder / WEIGHTS).precision
    rows["folder"] = f"{folder} ({human_size((folder / WEIGHTS).stat().st_size)})"
    return rows


def folder_size(folder: Path) -> int:
    """Bytes of all files below a folder; 0 where there is none."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except OSError:  # a file of another process that has just gone
                continue
    return total


def human_size(size: float) -> str:
    """Bytes as people read them."""
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def _without_front_matter(text: str) -> str:
    """A card without the block of metadata that hubs read."""
    if text.startswith("---\n"):
        _, _, rest = text[4:].partition("\n---\n")
        return rest
    return text
