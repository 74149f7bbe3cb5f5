"""A folder of static pages that runs models in the browser: the Studio's own, with a worker in place of the server."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from unistep.backends.call import tensors_of
from unistep.files import replacing_folder, unwritable
from unistep.generation.saving import model_hash
from unistep.hub.onnx import Exported, export_onnx
from unistep.hub.onnx_texts import export_texts
from unistep.serving.described import described
from unistep.serving.offline.first_results import CHUNKS, SEED, example_condition, first_results
from unistep.serving.offline.runtime import fetch_runtime

if TYPE_CHECKING:
    from unistep.core.condition import AnyField
    from unistep.generation.generator import Generator

PagePrecision = Literal["fp32", "fp16"]
"""How weights are stored; browsers are slower with 8 bits."""
STUDIO = Path(__file__).parents[1] / "studio"
"""The pages of the server."""
STATIC = Path(__file__).parent / "static"
"""What takes the place of some of their files, and what is new."""
LISTED = Path("models/models.json")
"""By this a folder is known as such a page."""

_TYPES = {"tensor(float)": "float32", "tensor(int64)": "int64", "tensor(bool)": "bool"}


@dataclass(frozen=True, kw_only=True)
class Page:
    """A folder that was written."""

    folder: Path
    """The folder."""
    models: dict[str, Exported]
    """The file of each model, and what was found of it."""
    pages: tuple[str, ...]
    """Its pages, without their ending."""
    size: int
    """Bytes of all files."""


def check_page(folder: Path) -> None:
    """Find out whether a page may be written to a folder.

    Raises:
        ValueError: If something else is there.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / LISTED).is_file():
        raise ValueError(f"{folder} has other files; give a new folder, or one that a page was exported to before")


def export_page(
    generators: Mapping[str, Generator],
    folder: Path,
    *,
    precision: PagePrecision = "fp32",
    licenses: Mapping[str, str] | None = None,
    webgpu: bool = True,
    progress: Callable[[str], None] = lambda _: None,
) -> Page:
    """Write pages that run models without a server.

    Args:
        generators: One-step models on the CPU, by name.
        folder: Where to; a page that is there is replaced when the new one is complete.
        precision: How weights are stored.
        licenses: The licence of each model's weights, for the page to name.
        webgpu: Whether the page may use a graphics card, for which it has 28 MB more.
        progress: Called with what is done next, in words.

    Raises:
        ValueError: If the folder has other files, a model has no page or cannot be exported, or npm fails.
    """
    check_page(folder)
    found: dict[str, Exported] = {}
    try:
        with replacing_folder(folder) as temporary:
            progress("the pages")
            shutil.copytree(STUDIO, temporary, dirs_exist_ok=True)
            shutil.copytree(STATIC, temporary, dirs_exist_ok=True)
            listed = []
            for name, generator in generators.items():
                progress(name)
                place = temporary / "models" / str(len(listed))
                place.mkdir(parents=True)
                license = (licenses or {}).get(name, "")
                found[name], about = _export(name, generator, place, precision, license)
                listed.append(about)
                (place / "model.json").write_text(json.dumps(about, ensure_ascii=False), encoding="utf-8")
            numbers = [str(number) for number in range(len(listed))]
            (temporary / LISTED).write_text(json.dumps(numbers), encoding="utf-8")
            pages = tuple(_pages([about["unistep"] for about in listed]))
            _only(temporary, pages)
            progress("ONNX Runtime for browsers")
            fetch_runtime(temporary / "ort", webgpu=webgpu)
            size = sum(path.stat().st_size for path in temporary.rglob("*") if path.is_file())
    except OSError as error:
        raise unwritable(f"cannot write {folder}: {error.strerror or error}", error) from None
    return Page(folder=folder, models=found, pages=pages, size=size)


def _export(
    name: str, generator: Generator, folder: Path, precision: PagePrecision, license: str
) -> tuple[Exported, dict[str, Any]]:
    """Write the files of one model, and say what the page has to know of it."""
    path = folder / "model.onnx"
    about = described(generator.config, max_steps=1, game=False)
    if not list(_pages([about])):
        raise ValueError(f"there is no page for {name}, {generator.modality.described}")
    exported = export_onnx(generator, path, precision, license)
    inputs = _inputs(path)
    results = first_results(generator, path, {part: spec["shape"] for part, spec in inputs.items()})
    results.tofile(folder / "check.bin")
    found: dict[str, Any] = {
        "id": name,
        "unistep": about,
        "bytes": path.stat().st_size,
        "hash": model_hash(generator),
        "license": license,
        "inputs": inputs,
        "fields": {field: _field(field, spec, inputs) for field, spec in generator.config.fields.items()},
        "check": {"seed": SEED, "condition": example_condition(generator), "chunks": CHUNKS},
    }
    if generator.config.context is not None:
        found["stream"] = {"changing": list(generator.config.context.changing)}
    texts = export_texts(generator, path, precision)
    if texts:
        found["text"] = {"network": texts[0].name, "tokenizer": texts[1].name, "bytes": texts[0].stat().st_size}
    return exported, found


def _inputs(path: Path) -> dict[str, dict[str, Any]]:
    """Type, and shape without the batch, of each input of a file; varying axes have the length that inputs have."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    found = {}
    for value in session.get_inputs():
        found[value.name] = {"type": _TYPES[value.type], "shape": list(value.shape[1:])}
    return found


def _field(name: str, spec: AnyField, inputs: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """What the page has to know to write the values of a field; lengths of varying inputs are filled in.

    Raises:
        ValueError: If the null value of the field is not the same everywhere, so that the page cannot make it.
    """
    nulls = tensors_of({name: spec.null(1)})
    for part, tensor in nulls.items():
        inputs[part]["shape"] = list(tensor.shape[1:])
        values = tensor.unique() if tensor.numel() else torch.zeros(1)
        if len(values) != 1 and not bool(tensor.isnan().all()):
            raise ValueError(f"a page cannot make values of the field {name}")
        inputs[part]["fill"] = None if bool(values.isnan().any()) else float(values[0])
    return {**spec.schema, "tensors": list(nulls)}


def _pages(models: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The pages that have something to show."""
    pictures = any(model["modality"] == "image" and not model["streams"] for model in models)
    if pictures:
        yield from ("wall", "walk")
    if any(model["modality"] == "audio" and not model["streams"] for model in models):
        yield "piano"
    if any(model["modality"] == "video" and model["streams"] for model in models):
        yield "world"
    if any(model["modality"] == "audio" and model["streams"] for model in models):
        yield "stream"


def _only(folder: Path, pages: Sequence[str]) -> None:
    """Take out the pages that have nothing to show, and add to the others what isolates them."""
    listed = folder / "lib" / "pages.js"
    lines = listed.read_text(encoding="utf-8").splitlines(keepends=True)
    entries = {line: found[1] for line in lines if (found := re.match(r'\s*\["(\w+)", "\w+"\],', line))}
    listed.write_text("".join(line for line in lines if entries.get(line, pages[0]) in pages), encoding="utf-8")
    for name in entries.values():
        if name not in pages:
            (folder / f"{name}.html").unlink()
            (folder / "pages" / f"{name}.js").unlink()
    for path in folder.glob("*.html"):
        text = path.read_text(encoding="utf-8")
        text = text.replace("<script src=", '<script src="isolate.js"></script>\n<script src=', 1)
        path.write_text(text, encoding="utf-8")
    if len(pages) == 1:
        index = folder / "index.html"
        text = index.read_text(encoding="utf-8")
        refresh = f'<meta http-equiv="refresh" content="0; url={pages[0]}.html">\n<title>'
        index.write_text(text.replace("<title>", refresh, 1), encoding="utf-8")


__all__ = ["Page", "check_page", "export_page"]
