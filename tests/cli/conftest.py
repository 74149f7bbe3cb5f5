"""A zoo of stand-ins, an empty folder to work in, and a way to run the command line."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli.standins import save_standin
from unistep.cli.main import main
from unistep.evaluation.learned_features import VICREG
from unistep.evaluation.vicreg import ViewRecipe


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zoo")
    save_standin(folder / "fashion", "consistency")
    save_standin(folder / "fashion-teacher", "denoiser")
    return folder


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def place(zoo, shared_cache, tmp_path, monkeypatch) -> Path:
    """Every test works in an empty folder, with the stand-ins for the shipped models."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    # The module is fetched by its full name: in the package, `load` is the function.
    monkeypatch.setattr(importlib.import_module("unistep.hub.load"), "ZOO", zoo)
    monkeypatch.setenv("UNISTEP_CACHE", str(shared_cache))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(VICREG, "recipe", ViewRecipe(channels=(4, 4), dim=8, fewest=4, most=4))  # a few steps
    monkeypatch.delenv("UNISTEP_DEBUG", raising=False)
    return work


@pytest.fixture
def run(capsys) -> Run:
    def call(*words: str | Sequence[str]) -> Outcome:
        arguments = [part for word in words for part in (word.split() if isinstance(word, str) else word)]
        capsys.readouterr()
        code = main(arguments)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call
