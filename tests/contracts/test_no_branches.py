"""No room asks which modality, network or source it has: what it needs to know is a method of the contract.

Rooms of the classes themselves are exempt, and so are the numerics, where the number of axes is what broadcasting is
about.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import unistep
from unistep import registry

SOURCE = Path(unistep.__file__).parent
OWN_ROOMS = ("nets", "modalities", "codecs", "core", "objectives", "data/sources")
"""Where the classes live, and the numerics."""
WEIGHTS = ("p", "parameter")
"""Variables whose number of axes may be asked: weights are no signals."""


def concrete_names() -> frozenset[str]:
    """Names of the classes that no room may ask for."""
    found = [made for kind in ("network", "codec", "modality", "source") for made in registry.entries(kind).values()]
    return frozenset(made.__name__ for made in found if isinstance(made, type)) | {"Picture", "Sound"}


def branches(tree: ast.AST, names: frozenset[str]) -> Iterator[tuple[int, str]]:
    """Line and text of each question after a concrete class, a sample rate or a number of axes."""
    for node in ast.walk(tree):
        called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else None
        guilty = False
        if isinstance(node, ast.Call) and called in ("isinstance", "issubclass"):
            guilty = any(_last_name(part) in names for part in ast.walk(node.args[1]))
        elif isinstance(node, ast.Call) and called in ("getattr", "hasattr"):
            guilty = getattr(node.args[1], "value", None) in ("sample_rate", "dims", "n_fft")
        elif isinstance(node, ast.match_case):
            guilty = any(isinstance(p, ast.MatchClass) and _last_name(p.cls) in names for p in ast.walk(node.pattern))
        elif isinstance(node, ast.Compare):
            sides = {_last_name(side) for side in (node.left, *node.comparators) if not _of_weights(side)}
            without = any(isinstance(side, ast.Constant) and side.value is None for side in node.comparators)
            guilty = bool(sides & (names | {"ndim", "dims"})) or ("sample_rate" in sides and without)
            guilty = guilty or any(_is_count_of_shape(side) for side in (node.left, *node.comparators))
        if guilty:
            yield getattr(node, "lineno", 0), ast.unparse(node).partition("\n")[0]


def _last_name(node: ast.AST) -> str | None:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else None


def _of_weights(node: ast.AST) -> bool:
    """``p.ndim``."""
    return isinstance(node, ast.Attribute) and _last_name(node.value) in WEIGHTS


def _is_count_of_shape(node: ast.AST) -> bool:
    """``len(x.shape)``."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "len"
        and len(node.args) == 1
        and _last_name(node.args[0]) in ("shape", "signal_shape")
    )


def offences(path: Path, names: frozenset[str]) -> list[str]:
    """``file:line text`` of every branch in a file."""
    found = branches(ast.parse(path.read_text(encoding="utf-8")), names)
    return sorted({f"{path.relative_to(SOURCE)}:{line} {text}" for line, text in found})


def test_no_file_branches_on_a_concrete_class() -> None:
    names = concrete_names()
    assert {"UNetConfig", "ImageModality", "AudioModality"} <= names
    files = [path for path in SOURCE.rglob("*.py") if not path.relative_to(SOURCE).as_posix().startswith(OWN_ROOMS)]
    found = {str(path.relative_to(SOURCE)): offences(path, names) for path in files}
    guilty = [line for lines in found.values() for line in lines]
    assert not guilty, "\n".join(["branches on a concrete class; use or add a method of its contract:", *guilty])


@pytest.mark.parametrize(
    "code",
    [
        "isinstance(model.network, UNetConfig)",
        "isinstance(x, (int, modalities.AudioModality))",
        "type(network) is UNetConfig",
        "1 if dataset.sample_rate is None else 2",
        "x.ndim == 4",
        "len(values.shape) > 2",
        "getattr(modality, 'sample_rate', None)",
        "match x:\n    case ImageModality(): pass",
    ],
)
def test_the_check_finds_what_it_looks_for(code: str) -> None:
    assert list(branches(ast.parse(code), concrete_names()))


def test_the_check_leaves_other_code_alone() -> None:
    code = "isinstance(x, int)\nx.shape == y.shape\nlen(values) > 2\nrate = x.sample_rate\nx.ndim\np.ndim > 1"
    assert not list(branches(ast.parse(code), concrete_names()))
