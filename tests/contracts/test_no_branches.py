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
OWN_ROOMS = ("nets", "modalities", "codecs", "core", "objectives")
"""Where the classes live, and the numerics."""
OFFENDERS: frozenset[str] = frozenset()
"""Files that still branch; none."""


def concrete_names() -> frozenset[str]:
    """Names of the classes that no room may ask for."""
    found = [made for kind in ("network", "codec", "modality", "source") for made in registry.entries(kind).values()]
    return frozenset(made.__name__ for made in found if isinstance(made, type)) | {"Picture", "Sound"}


def branches(tree: ast.AST, names: frozenset[str]) -> Iterator[tuple[int, str]]:
    """Line and text of each question after a concrete class, a sample rate or a number of axes."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("isinstance", "issubclass")
        ):
            asked = {n.id for n in ast.walk(node.args[1]) if isinstance(n, ast.Name)}
            asked |= {n.attr for n in ast.walk(node.args[1]) if isinstance(n, ast.Attribute)}
            if asked & names:
                yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.MatchClass) and getattr(node.cls, "id", getattr(node.cls, "attr", "")) in names:
            yield node.lineno, ast.unparse(node.cls)
        elif isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if any(_last_name(side) in ("ndim", "dims") or _is_count_of_shape(side) for side in sides):
                yield node.lineno, ast.unparse(node)
            if any(_last_name(side) == "sample_rate" for side in sides) and any(
                isinstance(side, ast.Constant) and side.value is None for side in sides
            ):
                yield node.lineno, ast.unparse(node)
            if any(_last_name(side) in names for side in sides):  # type(x) is UNetConfig
                yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr"):
            if len(node.args) > 1 and getattr(node.args[1], "value", None) in ("sample_rate", "dims", "n_fft"):
                yield node.lineno, ast.unparse(node)


def _last_name(node: ast.AST) -> str | None:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else None


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
    files = [path for path in SOURCE.rglob("*.py") if path.relative_to(SOURCE).parts[0] not in OWN_ROOMS]
    found = {str(path.relative_to(SOURCE)): offences(path, names) for path in files}
    assert not [line for name, lines in found.items() if name not in OFFENDERS for line in lines]
    assert {name for name in OFFENDERS if not found.get(name)} == set(), (
        "these no longer branch; take them off the list"
    )


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
    code = "isinstance(x, int)\nx.shape == y.shape\nlen(values) > 2\nrate = modality.sample_rate\nx.view(*[1] * x.ndim)"
    assert not list(branches(ast.parse(code), concrete_names()))
