"""Write one page for each method, `docs/methods/*.md`, from the docstrings of its objective and its recipe.

    python docs/build_methods.py

A test says when a page is not what this script writes.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import typing
from collections.abc import Iterator
from pathlib import Path

from unistep.commands.recipes import read_docstring
from unistep.objectives import AnyObjectiveConfig
from unistep.objectives.base import Objective
from unistep.recipes import Recipe, recipes
from unistep.recipes.cite import citation

FOLDER = Path(__file__).parent / "methods"
SECTIONS = ("Args", "Returns", "Raises", "References")


def to_markdown(text: str) -> str:
    """A docstring's formulas and code marks as Markdown."""

    def block(match: re.Match[str]) -> str:
        formula = " ".join(line.strip() for line in match[2].splitlines())
        return f"$${formula.strip()}$$\n"

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


def options(kind: type) -> Iterator[tuple[str, str, str]]:
    """Name, default and meaning of each field of a configuration."""
    tree = ast.parse(inspect.cleandoc(inspect.getsource(kind))).body[0]
    assert isinstance(tree, ast.ClassDef)
    for node, after in zip(tree.body, [*tree.body[1:], None], strict=True):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        told = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        meaning = to_markdown(inspect.cleandoc(str(after.value.value))) if told else ""  # type: ignore[union-attr]
        default = ast.unparse(node.value) if node.value else ""
        yield node.target.id, default, " ".join(meaning.split())


def objective_of(kind: type) -> type[Objective]:
    """The objective that a configuration builds."""
    made = typing.get_type_hints(kind.build)["return"]
    assert issubclass(made, Objective)
    return made


def page(kind: type, users: dict[str, Recipe]) -> str:
    """The page of one objective."""
    made = objective_of(kind)
    source = Path(inspect.getfile(kind))
    told = sections(inspect.getdoc(made) or "")
    title = (inspect.getdoc(sys.modules[kind.__module__]) or "").partition(":")[0].partition(".")[0].strip()
    lines = [
        f"# {title}",
        "",
        f"`{made.__name__}` in [`{source.name}`](../../src/unistep/objectives/{source.name}).",
        "",
        to_markdown(told[""]),
        "",
        "## Options",
        "",
        (inspect.getdoc(kind) or "").splitlines()[0],
        "",
        "| option | default | meaning |",
        "|---|---|---|",
    ]
    for name, default, meaning in options(kind):
        escaped = meaning.replace("|", "\\|")
        lines.append(f"| `{name}` | `{default.replace('|', chr(92) + '|')}` | {escaped} |")
    for name, recipe in users.items():
        what, facts = read_docstring(inspect.getdoc(recipe) or "")
        lines += ["", f"## Recipe `{name}`", "", what, ""]
        lines += [f"- **{fact}.** {value}" for fact, value in {**facts, "Budget": recipe().budget}.items()]
        lines += ["", "```bash", f"unistep train {name}", "```"]
    if "References" in told:
        lines += ["", "## Papers", "", to_markdown(told["References"])]
    if users:
        first = next(iter(users))
        lines += ["", "```bibtex", citation(first).strip(), "```"]
    return "\n".join(lines) + "\n"


def pages() -> dict[str, str]:
    """Every page by its file's name."""
    written, rows = {}, []
    for kind in typing.get_args(AnyObjectiveConfig):
        users = {name: recipe for name, recipe in recipes().items() if type(recipe().objective) is kind}
        file = f"{kind.__module__.rpartition('.')[2]}.md"
        written[file] = page(kind, users)
        title = written[file].partition("\n")[0].removeprefix("# ")
        summary = to_markdown((inspect.getdoc(kind) or "").splitlines()[0])
        rows.append(f"| [{title}]({file}) | {', '.join(f'`{name}`' for name in users)} | {summary} |")
    head = ["# Methods", "", "One page each, written from the docstrings by `docs/build_methods.py`.", ""]
    table = ["| method | recipes | what it does |", "|---|---|---|", *rows]
    written["index.md"] = "\n".join([*head, *table]) + "\n"
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
