"""Everything that has a name is found by it, from any package; a file names things and imports nothing."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pytest

from unistep import registry
from unistep.nets.config import NetworkConfig
from unistep.nets.unet import UNetConfig
from unistep.objectives.base import ObjectiveConfig
from unistep.objectives.ect import ECTConfig
from unistep.serialization import from_plain, to_plain

KINDS = get_args(registry.Kind)


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    monkeypatch.setattr(registry, "_added", {kind: dict(known) for kind, known in registry._added.items()})
    monkeypatch.setattr(registry, "_plugins_loaded", True)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Install a package of one module, whose entry points are given as ``name = value`` lines."""

    def install(module: str, source: str, points: str) -> None:
        (tmp_path / f"{module}.py").write_text(source)
        folder = tmp_path / f"{module}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{points}\n")
        monkeypatch.setattr(registry, "_plugins_loaded", False)

    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield install
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


@pytest.mark.parametrize("kind", KINDS)
def test_every_name_stands_for_something_that_has_this_name(kind: registry.Kind) -> None:
    for name, value in registry.entries(kind).items():
        assert registry.name_of(kind, value) == name
        assert registry.lookup(kind, name) is value
    for former, name in registry._FORMER.get(kind, {}).items():
        assert registry.lookup(kind, former) is registry.lookup(kind, name)


def test_names_cost_no_import() -> None:
    code = (
        "import sys\nfrom typing import get_args\nfrom unistep import registry\n"
        "registry._plugins_loaded = True  # what is installed beside the library may import what it likes\n"
        "for kind in get_args(registry.Kind): registry.names(kind)\n"
        "assert 'torch' not in sys.modules, 'a list of names imports torch'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_name_is_given_once() -> None:
    @registry.register("solver", "midpoint")
    def midpoint() -> None: ...

    assert registry.lookup("solver", "midpoint") is midpoint
    assert registry.register("solver", "midpoint", midpoint) is midpoint  # again is no mistake
    with pytest.raises(ValueError, match="the solver 'midpoint' exists already; choose another name"):
        registry.register("solver", "midpoint", print)
    with pytest.raises(ValueError, match="the network 'unet' exists already"):
        registry.register("network", "unet", UNetConfig)
    with pytest.raises(ValueError, match="unknown kind 'netwrok'; did you mean 'network'"):
        registry.register("netwrok", "x", UNetConfig)  # type: ignore[call-overload]


def test_a_wrong_name_gets_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown objective 'etc'; did you mean 'ect'"):
        registry.lookup("objective", "etc")
    with pytest.raises(ValueError, match=r"Nameless is not registered: .*register\('network', 'NAME'\)"):
        registry.name_of("network", type("Nameless", (), {}))


PLUGIN = """
from dataclasses import dataclass
from unistep.objectives.ect import ECTConfig
from unistep.registry import register

@dataclass(frozen=True, kw_only=True)
class SlowECTConfig(ECTConfig):
    patience: int = 3

def add():
    register("objective", "slow-ect", SlowECTConfig)
"""


def test_plugins_are_modules_or_functions_and_a_broken_one_stops_no_other(install) -> None:
    install("broken_plugin", "raise RuntimeError('no licence')", "broken = broken_plugin")
    install("slow_plugin", PLUGIN, "slow = slow_plugin:add")
    with pytest.warns(UserWarning, match=r"the plugin 'broken' \(broken_plugin\) cannot be used: no licence"):
        registry.load_plugins()
    assert "slow-ect" in registry.names("objective")
    found = from_plain(ObjectiveConfig, {"type": "slow-ect", "patience": 5})  # type: ignore[type-abstract]
    assert found.patience == 5  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="SlowECTConfig has no key 'patinece'; did you mean 'patience'"):
        from_plain(ObjectiveConfig, {"type": "slow-ect", "patinece": 5})  # type: ignore[type-abstract]


@pytest.mark.parametrize("tag", ["lonely:LonelyConfig", "lonely.LonelyConfig", "lonely", "os:system", "../lonely"])
def test_a_file_imports_nothing_that_is_no_plugin(tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lonely.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=r"unknown network .*; others come with plugins"):
        from_plain(NetworkConfig, {"type": tag})  # type: ignore[type-abstract]
    assert "lonely" not in sys.modules


@dataclass(frozen=True, kw_only=True)
class Holder:
    objective: ObjectiveConfig
    network: NetworkConfig | None = None


def test_unions_come_from_the_registry() -> None:
    holder = Holder(objective=ECTConfig(label_dropout=0.25), network=UNetConfig(widths=(8,), blocks=(1,)))
    plain = to_plain(holder)
    assert (plain["objective"]["type"], plain["network"]["type"]) == ("ect", "unet")
    assert from_plain(Holder, plain) == holder
    assert from_plain(Holder, to_plain(Holder(objective=ECTConfig()))) == Holder(objective=ECTConfig())
    assert from_plain(Holder, {"objective": {"type": "EasyConfig"}}) == Holder(objective=ECTConfig())
    with pytest.raises(ValueError, match="objective: needs a mapping with a 'type' key, one of denoising, ct"):
        from_plain(Holder, {"objective": "ect"})
    with pytest.raises(ValueError, match="objective: ECTConfig has no key 'taget'; did you mean 'target'"):
        from_plain(Holder, {"objective": {"type": "ect", "taget": "data"}})


def test_a_module_that_another_thread_imports_is_waited_for(tmp_path, monkeypatch):
    begun, gate = threading.Event(), threading.Event()
    monkeypatch.setattr(registry, "half_imported", (begun, gate), raising=False)
    (tmp_path / "half_imported.py").write_text(
        "from unistep.registry import half_imported\nhalf_imported[0].set()\nhalf_imported[1].wait(60)\nVALUE = 5\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(registry._resolved("half_imported:VALUE"))) for _ in range(2)
    ]
    threads[0].start()
    assert begun.wait(60)
    threads[1].start()
    threads[1].join(0.1)
    gate.set()
    for one in threads:
        one.join(60)
    del sys.modules["half_imported"]
    assert found == [5, 5]
