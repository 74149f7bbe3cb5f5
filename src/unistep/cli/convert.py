"""``unistep convert``: a model as a folder of its own, a LoRA merged into its base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from unistep.cli.parse import parse


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """Write a model as a folder with all of its weights: a LoRA is merged into its base."""

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """A name from `unistep models`, a folder (of a model, a LoRA or a run), or owner/name on the Hugging Face hub."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder to write; a model that lies there is replaced."""
    lora: str | None = None
    """A LoRA of MODEL, to be merged into it."""
    lora_scale: float = 1.0
    """How much of the LoRA there is to be: 0 is its base, 1 what was trained."""
    half: bool = False
    """Whether to write the weights in half precision, in half of the space."""


def run(arguments: Sequence[str]) -> int:
    """Load, write, and say where."""
    options = parse(ConvertOptions, "convert", arguments)
    from unistep.files import checked_path
    from unistep.hub.load import load
    from unistep.hub.save import CARD, WEIGHTS, save
    from unistep.weights import in_half

    out = checked_path(options.out)
    generator = load(options.model, lora=options.lora, lora_scale=options.lora_scale)
    state = generator.map.net.state_dict()
    weights = {name: in_half(value) for name, value in state.items()} if options.half else state
    title = options.lora or options.model
    lines = "".join(f"- {name}: {value}\n" for name, value in generator.config.provenance.items())
    card = f"---\nlibrary_name: unistep\n---\n# {Path(title).name}\n\nConverted with Unistep.\n\n{lines}"
    save(generator.config, weights, out, card, codec=generator.codec)
    size = (out / WEIGHTS).stat().st_size / 2**20
    print(f"{title} written to {out} ({size:.1f} MiB; {CARD} lists where its weights come from)")
    return 0
