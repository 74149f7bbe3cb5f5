"""``unistep convert``: a model as a folder of its own, with a LoRA merged, mixed with another, in fewer bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from unistep.cli.parse import parse

FILES = frozenset({".onnx", ".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".pkl", ".gguf", ".zip", ".json"})
"""Endings of files that models come in elsewhere."""
WRITTEN = "config.json, model.safetensors and README.md; other formats are not exported"
"""What such a folder holds."""


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """Write a model as a folder with all of its weights: a LoRA is merged, another model mixed in, bits are fewer."""

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """A name from `unistep models`, a folder (of a model, a LoRA or a run), or owner/name on the Hugging Face hub."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder to write; a model that lies there is replaced."""
    lora: str | None = None
    """A LoRA of MODEL, to be merged into it."""
    lora_scale: float = 1.0
    """How much of the LoRA there is to be: 0 is its base, 1 what was trained."""
    mix: str | None = None
    """Another model of the same network, such as what MODEL was trained from: weights are between the two."""
    share: float | None = None
    """How much of the model that --mix names there is to be: 0 is MODEL alone, 1 the other; 0.5 without."""
    bits: int | None = None
    """Bits a value of the weights: 32 (exact, as without), 16 (half precision), or 8 to 4, rounded; samples of 7 bits
    look the same."""
    half: bool = False
    """Whether to write the weights in half precision: --bits 16."""


def run(arguments: Sequence[str]) -> int:
    """Load, write, and say where."""
    options = parse(ConvertOptions, "convert", arguments)
    from unistep.files import checked_path
    from unistep.hub.load import load
    from unistep.hub.mixing import mixed
    from unistep.hub.save import CARD, WEIGHTS, save
    from unistep.weights import check_bits

    out = checked_path(options.out)
    _check_folder(out)
    if options.half and options.bits not in (None, 16):
        raise ValueError(f"--half is --bits 16, got --bits {options.bits} beside it; give one of them")
    if options.share is not None and options.mix is None:
        raise ValueError(f"--share {options.share:g} is that of another model; name it with --mix")
    bits = 16 if options.half else 32 if options.bits is None else options.bits
    check_bits(bits)
    generator = load(options.model, lora=options.lora, lora_scale=options.lora_scale)
    title = options.lora or options.model
    config, weights = generator.config, generator.map.net.state_dict()
    if options.mix is not None:
        config, weights = mixed(generator, load(options.mix), 0.5 if options.share is None else options.share)
    facts = {**config.provenance, **({} if bits == 32 else {"weights": f"{bits} bits a value"})}
    lines = "".join(f"- {name}: {value}\n" for name, value in facts.items())
    card = f"---\nlibrary_name: unistep\n---\n# {Path(title).name}\n\nConverted with Unistep.\n\n{lines}"
    save(config, weights, out, card, codec=generator.codec, bits=bits)
    size = (out / WEIGHTS).stat().st_size / 2**20
    print(f"{title} written to {out} ({size:.1f} MiB; {CARD} lists where its weights come from)")
    return 0


def _check_folder(out: Path) -> None:
    """Refuse the name of a file: what is written is a folder, whatever it is called.

    Raises:
        ValueError: If it names a file of a kind that models come in; says what there is instead.
    """
    suffix = out.suffix.lower()
    if suffix in FILES:
        raise ValueError(f"{out} names a {suffix} file, and convert writes a folder, such as {out.stem}: {WRITTEN}")
