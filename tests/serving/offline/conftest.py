"""A page of small models with random weights, once with and once without ONNX Runtime for browsers."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from contracts.test_sessions import world
from exports import exported_once, pictures
from unistep.generation.generator import Generator

CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="package")
def models() -> dict[str, Generator]:
    """Small models of all kinds of pages."""
    found = world()
    found.name = "world"
    fields = found.config.fields
    fields["action"] = replace(fields["action"], presets={"up": (1.0,)})  # type: ignore[index]
    return {"pictures": pictures(), "world": found}


@pytest.fixture(scope="package")
def page(models: dict[str, Generator], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """What the export of these says; its folder has no ONNX Runtime."""
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    from unistep.serving.offline import page as module

    folder = tmp_path_factory.mktemp("offline") / "page"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unistep.hub.onnx.export", exported_once(tmp_path_factory))
        patch.setattr(module, "fetch_runtime", lambda folder, webgpu: folder.mkdir())
        yield module.export_page(models, folder, licenses={"pictures": "mit"})


@pytest.fixture(scope="package")
def runnable(page: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of that page with ONNX Runtime, for a browser."""
    from unistep.serving.offline.runtime import fetch_runtime

    if not CHROMIUM.exists() or importlib.util.find_spec("playwright") is None:
        pytest.skip(f"needs playwright and {CHROMIUM}")
    if shutil.which("npm") is None:
        pytest.skip("needs npm, which brings ONNX Runtime for browsers")
    folder = tmp_path_factory.mktemp("runnable") / "page"
    shutil.copytree(page.folder, folder)
    try:
        fetch_runtime(folder / "ort", webgpu=False)
    except ValueError as error:
        pytest.skip(str(error))
    return folder
