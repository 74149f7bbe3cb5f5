"""The package as a stranger gets it: metadata, what an import costs, what the wheel holds, the size of its files."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "unistep"
MODULES = sorted(SOURCE.rglob("*.py"))
HEAVY = (
    "Box2D",
    "av",
    "datasets",
    "diffusers",
    "fastapi",
    "gymnasium",
    "huggingface_hub",
    "matplotlib",
    "mido",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "openvino",
    "prometheus_client",
    "pygame",
    "scipy",
    "sklearn",
    "soundfile",
    "soxr",
    "tensorboard",
    "torchmetrics",
    "uvicorn",
    "vizdoom",
    "wandb",
    "webdataset",
)
"""What an ``import unistep`` must not pull in."""


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def shipped() -> set[str]:
    """Every file below ``src`` that belongs to the package."""
    return {
        str(path.relative_to(ROOT / "src"))
        for path in SOURCE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    }


def test_one_version_everywhere(project: dict) -> None:
    import unistep

    version = project["version"]
    citation = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), flags=re.MULTILINE)
    released = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert unistep.__version__ == version
    assert importlib.metadata.version("unistep") == version
    assert citation is not None
    assert citation[1] == version
    assert released[0] == version


def test_metadata(project: dict) -> None:
    metadata = importlib.metadata.metadata("unistep")
    assert metadata["License-Expression"] == project["license"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    extras = {"audio", "data", "eval", "text", "video", "racing", "doom", "track", "speech", "c2pa", "ray"}
    extras |= {"serve", "onnx", "openvino", "loadtest", "docs", "dev"}
    assert set(project["optional-dependencies"]) == extras
    assert extras <= set(metadata.get_all("Provides-Extra", []))
    scripts = importlib.metadata.entry_points(group="console_scripts", name="unistep")
    assert [script.value for script in scripts] == ["unistep.cli.main:main"]
    assert callable(next(iter(scripts)).load())
    assert "TERMS AND CONDITIONS" in (ROOT / "LICENSE").read_text()


def test_constraints_pin_every_base_and_development_dependency(project: dict) -> None:
    def name(requirement: str) -> str:
        return re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0].lower().replace("_", "-")

    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines), (
        "pins only: no hosts, hashes or local versions"
    )
    assert "torch==2.13.0" in lines
    assert not [line for line in lines if line.startswith(("nvidia", "triton", "cuda"))]
    extras = project["optional-dependencies"]
    needed = project["dependencies"] + extras["dev"] + extras["eval"]
    assert {name(r) for r in needed} - {name(line) for line in lines} == {"unistep"}


def test_import_is_light() -> None:
    code = "import json, sys, unistep; print(json.dumps(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    loaded = set(json.loads(out))
    assert "unistep" in loaded
    assert not loaded.intersection(HEAVY)


def test_heavy_packages_are_never_imported_at_the_top_of_a_module() -> None:
    found = []
    for path in MODULES:
        if path.is_relative_to(SOURCE / "serving" / "api"):  # imported by a server alone
            continue
        for node in ast.parse(path.read_text()).body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [f"{path.relative_to(ROOT)}: {n}" for n in names if n.split(".")[0] in HEAVY]
    assert not found


def test_only_a_server_imports_the_routes() -> None:
    found = set()
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if any(name.startswith("unistep.serving.api") for name in names):
                found.add(str(path.relative_to(SOURCE)))
    assert {name for name in found if not name.startswith("serving/")} == {"cli/serve.py"}


def test_networks_import_only_torch_and_the_standard_library() -> None:
    allowed = {"torch", *sys.stdlib_module_names}
    for path in (SOURCE / "nets").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.split(".")[0] in allowed or name.startswith("unistep.nets"), f"{path.name} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_file_is_short_and_named_after_its_concern(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400
    assert path.stem not in {"utils", "util", "helpers", "misc", "common"}


def test_wheel_holds_the_whole_package(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    assert shipped() <= names
    assert "unistep/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests", "docs", "benchmarks"))]


@pytest.mark.parametrize(
    "pattern", [r"unistep/zoo/.+\.safetensors", r"unistep/zoo/.+/config\.json", r"unistep/data/sources/bundled/.+"]
)
def test_wheel_holds_models_and_data(wheel: zipfile.ZipFile, pattern: str) -> None:
    entries = [wheel.getinfo(name) for name in wheel.namelist() if re.fullmatch(pattern, name)]
    assert entries
    assert all(entry.file_size > 0 for entry in entries)
