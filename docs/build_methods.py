"""Write one page for each method, `docs/methods/*.md`, from the docstrings of its objective and its recipe.

    python docs/build_methods.py

A test says when a page is not what this script writes.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import sys
import typing
from collections.abc import Iterator
from pathlib import Path

from unistep import registry
from unistep.objectives.base import Objective
from unistep.recipes import Recipe, facts, recipes
from unistep.recipes.cite import citation

FOLDER = Path(__file__).parent / "methods"
SECTIONS = ("Args", "Returns", "Raises", "References")


def to_markdown(text: str) -> str:
    """A docstring's formulas and code marks as Markdown."""

    def block(match: re.Match[str]) -> str:
        formula = " ".join(line.strip() for line in match[2].splitlines()).strip()
        if "&" in formula:
            formula = rf"\begin{{aligned}}{formula.rstrip(',')}\end{{aligned}}"
        return f"$${formula}$$\n"

    text = re.sub(r"^( *)\.\. math:: ?((?:.*\n)(?:\1 +\S.*\n)*)", block, text + "\n", flags=re.MULTILINE)
    text = re.sub(r":math:`([^`]+)`", r"$\1$", text)
    text = re.sub(r":(?:class|func|meth|mod):`~?([^`]+)`", lambda m: f"`{m[1].rpartition('.')[2]}`", text)
    return re.sub(r"``([^`]+)``", r"`\1`", text).strip()


def sections(text: str) -> dict[str, str]:
    """The body of a docstring under ``""``, and its sections by name."""
    found: dict[str, list[str]] = {"": []}
    current = ""
    for line in inspect.cleandoc(text).splitlines():
        name = line.rstrip(":")
        if line.endswith(":") and name in SECTIONS:
            current = name
            found[current] = []
        else:
            found[current].append(line)
    return {name: inspect.cleandoc("\n".join(lines)) for name, lines in found.items()}


def own_options(kind: type) -> Iterator[tuple[str, str, str]]:
    """Name, default and meaning of each field that a configuration's own body declares."""
    tree = ast.parse(inspect.cleandoc(inspect.getsource(kind))).body[0]
    assert isinstance(tree, ast.ClassDef)
    for node, after in zip(tree.body, [*tree.body[1:], None], strict=True):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        documented = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        meaning = to_markdown(inspect.cleandoc(str(after.value.value))) if documented else ""  # type: ignore[union-attr]
        default = ast.unparse(node.value) if node.value else ""
        yield node.target.id, default, " ".join(meaning.split())


def options(kind: type) -> list[tuple[str, str, str]]:
    """Name, default and meaning of each field of a configuration, those of its own class first."""
    found: dict[str, tuple[str, str, str]] = {}
    for base in kind.__mro__:
        if dataclasses.is_dataclass(base):
            found |= {option[0]: option for option in own_options(base) if option[0] not in found}
    given = {field.name for field in dataclasses.fields(kind) if field.init}
    return [option for name, option in found.items() if name in given]


def objectives_of(kind: type) -> list[type[Objective]]:
    """The objective that a configuration builds, after those of the same file that it is derived from."""
    made = typing.get_type_hints(kind.build)["return"]
    assert issubclass(made, Objective)
    return [base for base in reversed(made.__mro__) if base.__module__ == made.__module__]


def page(kinds: list[type], users: dict[str, Recipe]) -> str:
    """The page of one file: its objectives, their options, recipes and papers."""
    module = sys.modules[kinds[0].__module__]
    source = Path(inspect.getfile(kinds[0])).name
    title = (inspect.getdoc(module) or "").partition(":")[0].partition(".")[0].strip()
    lines = [f"# {title}", "", f"In [`{source}`](../../src/unistep/objectives/{source})."]
    references: list[str] = []
    for made in dict.fromkeys(base for kind in kinds for base in objectives_of(kind)):
        parts = sections(inspect.getdoc(made) or "")
        lines += ["", f"## `{made.__name__}`", "", to_markdown(parts[""])]
        references += [to_markdown(parts["References"])] if "References" in parts else []
    for kind in kinds:
        lines += ["", f"## Options of `{kind.__name__}`", "", (inspect.getdoc(kind) or "").splitlines()[0], ""]
        lines += ["| option | default | meaning |", "|---|---|---|"]
        for cells in options(kind):
            name, default, meaning = (cell.replace("|", "\\|") for cell in cells)
            lines.append(f"| `{name}` | `{default}` | {meaning} |")
    for name, recipe in users.items():
        what, stated = facts(name)
        lines += ["", f"## Recipe `{name}`", "", what, ""]
        lines += [f"- **{fact}.** {value}" for fact, value in {**stated, "Budget": recipe().budget}.items()]
        data = "" if "/" in name else " --data folder:my_pictures"
        lines += ["", "```bash", f"unistep train {name}{data}", "```"]
    lines += ["", "## Papers", "", *(f"- {' '.join(text.split())}" for text in dict.fromkeys(references))]
    if users:
        lines += ["", "```bibtex", citation(next(iter(users))).strip(), "```"]
    return "\n".join(lines) + "\n"


def pages() -> dict[str, str]:
    """Every page by its file's name."""
    written, rows = {}, []
    files: dict[str, list[type]] = {}
    for kind in registry.entries("objective").values():
        files.setdefault(kind.__module__.rpartition(".")[2], []).append(kind)
    for file, kinds in files.items():
        users = {name: recipe for name, recipe in recipes().items() if type(recipe().objective) in kinds}
        written[f"{file}.md"] = page(kinds, users)
        title = written[f"{file}.md"].partition("\n")[0].removeprefix("# ")
        summary = " ".join(to_markdown((inspect.getdoc(kind) or "").splitlines()[0]) for kind in kinds)
        rows.append(f"| [{title}]({file}.md) | {', '.join(f'`{name}`' for name in users)} | {summary} |")
    head = ["# Methods", "", "One page for each method, written from the docstrings by `docs/build_methods.py`.", ""]
    table = ["| method | recipes | what it does |", "|---|---|---|", *rows]
    tree = ["", "```{toctree}", ":hidden:", "", *(Path(file).stem for file in written), "```"]
    written["index.md"] = "\n".join([*head, *table, *tree]) + "\n"
    return written


def main() -> None:
    """Write the pages and remove those of methods that are gone."""
    FOLDER.mkdir(exist_ok=True)
    found = pages()
    for old in FOLDER.glob("*.md"):
        if old.name not in found:
            old.unlink()
    for name, text in found.items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
