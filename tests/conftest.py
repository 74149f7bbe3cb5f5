"""Shared set-up: the mathematical core is type-checked at run time (shapes included) while the tests run."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path as FilePath
from typing import Any

import hypothesis
import pytest
import torch

hypothesis.settings.register_profile("any speed", deadline=None)  # a busy computer is no mistake
hypothesis.settings.load_profile("any speed")
os.environ.setdefault("LOKY_MAX_CPU_COUNT", "1")  # else joblib looks for programs that a test may hide
# Some containers forbid it, and then each run compiles all tests, and each process that they start all of Unistep.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.path.insert(0, str(FilePath(__file__).parent))  # so that tests can say `from analytic import ...`

from checked import import_checked  # noqa: E402

# The networks are left out: a checked function would break torch.compile(fullgraph=True). objectives.base is left
# out, and objectives.shortcut, because beartype cannot check a method that returns Self without decorating the class.
CHECKED = [
    "unistep.core.path",
    "unistep.core.timesteps",
    "unistep.core.flowmap",
    "unistep.core.condition",
    "unistep.core.fields",
    "unistep.core.seeding",
    "unistep.core.solvers",
    "unistep.core.sampling",
    "unistep.core.sampling_inputs",
    "unistep.core.time_search",
    "unistep.objectives.denoising",
    "unistep.objectives.distance",
    "unistep.objectives.cd",
    "unistep.objectives.ect",
    "unistep.objectives.ct",
    "unistep.objectives.scm",
    "unistep.objectives.drifting",
    "unistep.objectives.ict",
    "unistep.objectives.imf",
    "unistep.objectives.meanflow",
    "unistep.objectives.imm",
    "unistep.objectives.pcm",
    "unistep.objectives.time_pairs",
    "unistep.objectives.ctm",
    "unistep.objectives.tcm",
]
gc.disable()  # until all is imported; see `pytest_collection_finish`
import_checked(CHECKED)

from analytic import PATHS  # noqa: E402
from unistep.core.path import Path  # noqa: E402


def pytest_configure(config: pytest.Config) -> None:
    """Warnings are errors, save those that PyTorch raises against itself."""
    torch.set_num_threads(1)  # that of the processes that tests start: more of them round otherwise
    # torch.func.jvp loads decomposition tables that are still TorchScript.
    config.addinivalue_line("filterwarnings", "ignore:.*torch.jit.script.*:DeprecationWarning")


FIRST = {"test_accelerator.py", "test_ray.py", "test_parallel.py", "test_every_method.py"}
"""Files with the longest tests: at the end, one process would wait for the other."""


def pytest_collection_finish() -> None:
    """What has been imported by now lasts: looking through all of it for garbage takes half a second each time."""
    gc.enable()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests go first."""
    items.sort(key=lambda item: item.path.name not in FIRST)


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest) -> Path:
    """Each of the four paths in turn."""
    return PATHS[request.param]


@pytest.fixture(scope="session", autouse=True)
def _cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests neither read what a person has cached nor add to it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNISTEP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _speeds_are_measured_once() -> Iterator[None]:
    """Speeds are never asserted: one step tells that of a training, and one call that of a backend."""
    from unistep.backends import trial
    from unistep.training import timing

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "TIMING_SECONDS", 1e-6)
        patch.setattr(trial, "SECONDS", 0.0)
        yield


@pytest.fixture(scope="session", autouse=True)
def event_writer() -> Iterator[Callable[..., Any]]:
    """Runs go without TensorBoard's files, which cost more than so few steps; what would write them."""
    from unistep.training import log

    written = log._event_writer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log, "_event_writer", lambda folder, start: None)
        yield written


@pytest.fixture(scope="session", autouse=True)
def _no_sync() -> Iterator[None]:
    """No test cuts the power: what is written need not reach the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _operators_are_parsed_once() -> Iterator[None]:
    """The exporter to ONNX parses the sources of all its operators each time, longer than a small network takes."""
    export, parsed = torch.onnx.export, dict[object, Any]()

    def parsing_once(*args: Any, **options: Any) -> Any:
        from onnxscript._internal import values

        # Not a public name: where another version has none such, exports take as long as they take.
        traced: Any = getattr(values, "TracedOnnxFunction", None)
        parse = getattr(getattr(traced, "function_ir", None), "fget", None)
        if parse is not None and parse.__module__ != __name__:

            def function_ir(self: object) -> Any:
                if self not in parsed:
                    parsed[self] = parse(self)
                return parsed[self]

            traced.function_ir = property(function_ir)
        return export(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.onnx, "export", parsing_once)
        yield


@pytest.fixture
def generator() -> torch.Generator:
    """A freshly seeded source of randomness."""
    return torch.Generator().manual_seed(20240607)


@pytest.fixture(autouse=True)
def _global_seed() -> None:
    """Weights of networks come from the global random state: the processor's alone, whose seed costs a microsecond."""
    torch.default_generator.manual_seed(0)
