"""``unistep export``: a model as a file for programs without Python."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from unistep.cli.extras import require
from unistep.cli.outputs import check_file
from unistep.cli.parse import parse

if TYPE_CHECKING:
    from unistep.generation.generator import Generator


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Write a one-step model as an ONNX file: noise and condition in, samples out; of a stream, its step."""

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """A name from `unistep models`, a folder (of a model, a LoRA or a run), or owner/name on the Hugging Face hub."""
    to: Literal["onnx"] = "onnx"
    """The format."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """File to write, .onnx."""
    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    """How weights are stored: as they are; fp16, half the size, computed with in fp32; or int8, a quarter of the size,
    computed with in 8 bits except at the edges of the network."""
    num: int = 200
    """Samples on which fp16 and int8 are compared with the model, by the feature networks that report; 0 for none."""
    threads: int = 1
    """Threads of the times that are printed."""


def run(arguments: Sequence[str]) -> int:
    """Export, check, and say what was found."""
    options = parse(ExportOptions, "export", arguments)
    path = check_file(options.out, (".onnx",))
    require("onnx", "unistep export --to onnx")
    if options.num < 0 or 0 < options.num < 10:
        raise ValueError(f"--num must be 0 or at least 10, got {options.num}")
    if options.threads < 1:
        raise ValueError(f"--threads must be at least 1, got {options.threads}")
    import torch

    from unistep.hub.load import find, load
    from unistep.hub.onnx import export_onnx
    from unistep.hub.save import CARD

    torch.set_num_threads(options.threads)
    generator = load(options.model)
    license = license_in(find(options.model) / CARD)
    found = export_onnx(generator, path, options.precision, license)
    for what, shapes in (("input", found.inputs), ("output", found.outputs)):
        for name, shape in shapes.items():
            print(f"{what:<7} {name:<14} [{', '.join(map(str, shape))}]")
    print(f"largest difference from PyTorch in fp32: {found.difference:.1e} of the largest value")
    plural = "" if options.threads == 1 else "s"
    print(
        f"one item: {found.milliseconds:.1f} ms in ONNX Runtime, {found.eager_milliseconds:.1f} ms in PyTorch "
        f"({options.threads} thread{plural})"
    )
    if options.precision != "fp32" and options.num:
        _compare(generator, path, options.num)
    print(f"written to {options.out} ({path.stat().st_size / 2**20:.1f} MiB)")
    return 0


def license_in(card: Path) -> str:
    """The licence that a card names at its head; empty where it names none."""
    if not card.is_file():
        return ""
    found = re.search(r"^license: *(\S.*)$", card.read_text(encoding="utf-8").partition("\n---")[0], re.MULTILINE)
    return found[1].strip() if found else ""


def _compare(generator: Generator, path: Path, num: int) -> None:
    """Print the quality of the file's samples beside that of the model's own."""
    from unistep.cli.console import make_console
    from unistep.cli.evaluation_data import data_for
    from unistep.data import prepare
    from unistep.evaluation import evaluate
    from unistep.evaluation.roles import feature_roles
    from unistep.hub.onnx import OnnxSampler

    if generator.config.context is not None:
        print("what rounding does to a stream shows in long ones only: listen to it or play it")
        return
    require("eval", "the comparison of --precision", ("torchmetrics", "sklearn", "scipy"))
    reference = prepare(data_for(generator, None))
    models: list[Any] = [OnnxSampler(generator, path), OnnxSampler(generator)]
    report = evaluate(models, reference, features=feature_roles(reference).reporting, num=num, noise=False)
    console = make_console(unfolded=True)
    for table in report.tables(console.width):
        console.print(table)
