"""``unistep recipes``: what can be trained, from the recipes' own words."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass

from unistep.cli.parse import parse


@dataclass(frozen=True, kw_only=True)
class RecipesOptions:
    """List the recipes that unistep train takes, with their data, needs and sources."""

    cite: str | None = None
    """Print, in place of the list, the BibTeX of what this recipe uses."""


def run(arguments: Sequence[str]) -> int:
    """Print every recipe with what its docstring states."""
    options = parse(RecipesOptions, "recipes", arguments)
    if options.cite is not None:
        from unistep.recipes.cite import citation

        print(citation(options.cite), end="")
        return 0
    from rich.console import Console
    from rich.markup import escape
    from rich.padding import Padding
    from rich.table import Table

    from unistep.recipes import recipes

    console = Console()
    for name, recipe in recipes().items():
        what, facts = read_docstring(inspect.getdoc(recipe) or "")
        console.print(f"[bold]{name}[/bold]  {escape(what)}", highlight=False)
        table = Table.grid(padding=(0, 2, 0, 0))
        for fact, value in {**facts, "Budget": recipe().budget}.items():
            table.add_row(f"[dim]{fact.lower()}[/dim]", escape(value))
        console.print(Padding(table, (0, 0, 1, 2)))
    console.print("train one: unistep train RECIPE --data folder:my_pictures --budget 30m", highlight=False)
    return 0


def read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """What a recipe does, and its facts (``Data: ...``, ``Needs a teacher: ...``, ``Expected: ...``) in their order."""
    what, _, rest = text.partition("\n\n")
    facts: dict[str, str] = {}
    last = None
    for line in rest.splitlines():
        match = re.match(r"([A-Z][\w -]{1,30}): (.*)", line)
        if match:
            last = match[1]
            facts[last] = match[2]
        elif line.strip() and last is not None:
            facts[last] += f" {line.strip()}"
        else:
            last = None
    return _plain(what), {name: _plain(value) for name, value in facts.items()}


def _plain(text: str) -> str:
    return re.sub(r"`+", "", " ".join(text.split()))
