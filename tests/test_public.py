"""Public names: `import unistep` offers them lazily, and each has documentation and a place in the reference."""

from __future__ import annotations

import importlib
import inspect
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import unistep

ROOT = Path(__file__).parent.parent
REFERENCE = runpy.run_path(str(ROOT / "docs" / "build_reference.py"))


def test_the_list_of_names_is_that_of_their_homes() -> None:
    assert sorted(unistep.__all__) == sorted([*unistep._HOMES, "__version__"])
    assert set(unistep.__all__) | set(unistep._ROOMS) <= set(dir(unistep))


@pytest.mark.parametrize("name", unistep.__all__)
def test_every_name_resolves(name: str) -> None:
    assert getattr(unistep, name) is not None


@pytest.mark.parametrize("room", unistep._ROOMS)
def test_every_room_resolves(room: str) -> None:
    assert getattr(unistep, room).__name__ == f"unistep.{room}"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        _ = unistep.laod


def test_importing_and_listing_names_imports_nothing_heavy() -> None:
    heavy = ("torch", "numpy", "PIL", "rich")
    code = f"import sys, unistep; dir(unistep); print([n for n in {heavy} if n in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_the_names_of_a_notebook_are_there() -> None:
    """What a person who knows the papers looks for first."""
    wanted = {
        *("VarianceExploding", "TrigFlow", "LinearFlow", "VariancePreserving"),
        *("Denoiser", "ConsistencyModel", "FlowMap"),
        *("sample_one_step", "sample_multistep", "sample_ode"),
        *("Dataset", "Generator", "load", "save", "train", "evaluate", "models", "recipe", "register", "prepare"),
        *("nets", "objectives", "recipes", "registry", "modalities", "codecs"),
    }
    assert wanted <= set(dir(unistep))


def test_every_public_module_is_in_the_reference() -> None:
    pages = REFERENCE["pages"]()
    for module in REFERENCE["modules"]():
        assert any(f".. automodule:: {module}\n" in page for page in pages.values()), module
    index = (ROOT / "docs" / "reference" / "index.md").read_text()
    for page in pages:
        assert f"api/{Path(page).stem}\n" in index, f"docs/reference/index.md does not list {page}"


def test_every_public_name_has_documentation() -> None:
    names = REFERENCE["public_names"]()
    assert len(names) > 500
    missing = [name for name, value in names.items() if not _documented(name, value)]
    assert not missing, f"{len(missing)} public names without a docstring: {', '.join(missing[:10])}"


def _documented(name: str, value: object) -> bool:
    """Whether an object, or what it overrides, has a docstring of its own."""
    if inspect.isclass(value):
        return bool(value.__dict__.get("__doc__"))
    if inspect.getdoc(value):
        return True
    owner, _, attribute = name.rpartition(".")
    module, _, kind = owner.rpartition(".")
    bases = getattr(importlib.import_module(module), kind).__mro__
    return any(inspect.getdoc(base.__dict__[attribute]) for base in bases if attribute in base.__dict__)
