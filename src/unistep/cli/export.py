"""``unistep export``: a model as a file for programs without Python."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from unistep.cli.extras import require
from unistep.cli.outputs import check_file, check_folder
from unistep.cli.parse import parse

if TYPE_CHECKING:
    from unistep.data import Dataset
    from unistep.generation.generator import Generator
    from unistep.hub.onnx import Exported


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Write a one-step model for programs without Python: an ONNX file, or a page that a browser runs by itself."""

    model: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="MODEL [MODEL ...]")]
    """Names from `unistep models`, folders (of a model, a LoRA or a run), or owner/name on the Hugging Face hub: one
    for a file, one or more for a page."""
    to: Literal["onnx", "web"] = "onnx"
    """onnx, a file: noise and condition in, samples out; of a stream, its step. Or web, a folder of static pages."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """File to write, .onnx, or the page's folder."""
    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    """How weights are stored: as they are; fp16, half the size, computed with in fp32; or, in files, int8, a quarter of
    the size, computed with in 8 bits except at the edges of the network."""
    num: int = 200
    """Samples on which fp16 and int8 files are compared with the model, by the feature networks that report; 0 for
    none."""
    threads: int = 1
    """Threads of the times that are printed."""
    webgpu: bool = True
    """Whether a page may use graphics cards, for which it is 28 MB larger."""


def run(arguments: Sequence[str]) -> int:
    """Export, check, and say what was found."""
    options = parse(ExportOptions, "export", arguments)
    if not options.model:
        raise ValueError("give a model, such as unistep export fashion -o fashion.onnx")
    if options.num < 0 or 0 < options.num < 10:
        raise ValueError(f"--num must be 0 or at least 10, got {options.num}")
    if options.threads < 1:
        raise ValueError(f"--threads must be at least 1, got {options.threads}")
    return _to_page(options) if options.to == "web" else _to_file(options)


def _to_file(options: ExportOptions) -> int:
    if len(options.model) > 1:
        raise ValueError(f"a file holds one model, got {', '.join(options.model)}; export them one by one")
    path = check_file(options.out, (".onnx",))
    require("onnx", "unistep export --to onnx")
    import torch

    from unistep.hub.load import find, load
    from unistep.hub.onnx import export_onnx
    from unistep.hub.onnx_texts import export_texts
    from unistep.hub.save import CARD

    torch.set_num_threads(options.threads)
    name = next(iter(options.model))
    generator = load(name)
    reference = None
    if options.precision != "fp32" and options.num:
        reference = _reference(generator)  # before a file is written, as it may be missing
    found = export_onnx(generator, path, options.precision, license_in(find(name) / CARD))
    try:
        extras = export_texts(generator, path, options.precision)
    except BaseException:
        path.unlink(missing_ok=True)  # nobody could give it a text
        raise
    for what, shapes in (("input", found.inputs), ("output", found.outputs)):
        for part, shape in shapes.items():
            print(f"{what:<7} {part:<14} [{', '.join(map(str, shape))}]")
    print(f"largest difference from PyTorch in fp32: {found.difference:.1e} of the largest value")
    print(f"one item: {_times(found, options.threads)}")
    if reference is not None:
        _compare(generator, path, options.num, reference)
    elif options.precision != "fp32" and options.num:
        print("what rounding does to a stream shows in long ones only: listen to it or play it")
    for extra in extras:
        print(f"written to {extra} ({_mib(extra)}): texts go in through it")
    print(f"written to {options.out} ({_mib(path)})")
    return 0


def _to_page(options: ExportOptions) -> int:
    folder = check_folder(options.out)
    if options.precision == "int8":
        raise ValueError("browsers are slower with int8 than with fp32; give --precision fp16 for a smaller page")
    require("onnx", "unistep export --to web")
    from unistep.serving.offline.page import check_page, export_page
    from unistep.serving.offline.runtime import check_npm

    check_page(folder)
    check_npm()
    import torch

    from unistep.cli.console import make_console
    from unistep.hub.load import find, load
    from unistep.hub.save import CARD

    torch.set_num_threads(options.threads)
    generators, licenses = {}, {}
    for name in options.model:
        generator = load(name)
        if generator.name in generators:
            raise ValueError(f"two models are called {generator.name}; a page needs names of their own")
        generators[generator.name], licenses[generator.name] = generator, license_in(find(name) / CARD)
    console = make_console()
    with console.status("exporting") as status:
        page = export_page(
            generators,
            folder,
            precision=options.precision,
            licenses=licenses,
            webgpu=options.webgpu,
            progress=lambda what: status.update(f"exporting {what}"),
        )
    for name, found in page.models.items():
        print(f"{name}: {found.difference:.1e} from PyTorch in fp32; {_times(found, options.threads)}")
    print(f"written to {options.out} ({page.size / 2**20:.0f} MiB, pages {', '.join(page.pages)})")
    print(f"look at it: python -m http.server --directory {shlex.quote(str(folder))}, then http://localhost:8000")
    return 0


def _times(found: Exported, threads: int) -> str:
    """How long one item takes."""
    plural = "" if threads == 1 else "s"
    return (
        f"{found.milliseconds:.1f} ms in ONNX Runtime, {found.eager_milliseconds:.1f} ms in PyTorch ({threads} "
        f"thread{plural})"
    )


def _mib(path: Path) -> str:
    return f"{path.stat().st_size / 2**20:.1f} MiB"


def license_in(card: Path) -> str:
    """The licence that a card names at its head; empty where it names none."""
    if not card.is_file():
        return ""
    found = re.search(r"^license: *(\S.*)$", card.read_text(encoding="utf-8").partition("\n---")[0], re.MULTILINE)
    return found[1].strip() if found else ""


def _reference(generator: Generator) -> Dataset | None:
    """The data that samples are compared with; ``None`` for a stream, which is not compared.

    Raises:
        ValueError: If it is not there, or what compares is not installed.
    """
    from unistep.cli.evaluation_data import data_for, trained_on
    from unistep.data import prepare
    from unistep.data.remembered import DATA

    if generator.config.context is not None:
        return None
    require("eval", "the comparison of --precision", ("torchmetrics", "sklearn", "scipy"))
    known = generator.config.provenance.get(DATA)
    if trained_on(generator) is None and (known or generator.modality.default_source is None):
        raise ValueError(f"the data of {generator.name} is not here to compare with: give --num 0")
    return prepare(data_for(generator, None))


def _compare(generator: Generator, path: Path, num: int, reference: Dataset) -> None:
    """Print the quality of the file's samples beside that of the model's own."""
    from unistep.cli.console import make_console
    from unistep.evaluation import evaluate
    from unistep.evaluation.roles import feature_roles
    from unistep.hub.onnx import OnnxSampler

    models: list[Any] = [OnnxSampler(generator, path), OnnxSampler(generator)]
    report = evaluate(models, reference, features=feature_roles(reference).reporting, num=num, noise=False)
    console = make_console(unfolded=True)
    for table in report.tables(console.width):
        console.print(table)
