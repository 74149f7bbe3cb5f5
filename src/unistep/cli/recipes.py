"""``unistep recipes``: the methods on one screen, one recipe in detail, or the papers to cite."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from unistep.cli.console import make_console
from unistep.cli.parse import parse


@dataclass(frozen=True, kw_only=True)
class RecipesOptions:
    """List the recipes of unistep train; or, with a RECIPE, show what it does, its defaults and its paper."""

    recipe: Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="[RECIPE]")] = None
    """A method, such as ect, or the reproduction of a model, such as fashion/ect."""
    cite: str | None = None
    """A recipe whose papers to print as BibTeX."""


def run(arguments: Sequence[str]) -> int:
    """Print the table, one recipe or the BibTeX."""
    options = parse(RecipesOptions, "recipes", arguments)
    if options.cite is not None:
        from unistep.recipes.cite import citation

        print(citation(options.cite), end="")
    elif options.recipe is not None:
        _details(options.recipe)
    else:
        print("\n".join(overview()))
    return 0


_WIDTH = 80
"""Columns of a usual terminal."""


def overview() -> list[str]:
    """The lines of the table: every method, and the models that a run reproduces with it."""
    from unistep.recipes import read_docstring, recipes

    known = recipes()
    methods = {name: read_docstring(inspect.getdoc(known[name]) or "") for name in known if "/" not in name}
    width = max(map(len, methods))
    lines = ["method"]
    lines += [f"{name:<{width}}  {_first_sentence(what)}" for name, (what, _) in methods.items()]
    lines.append("reproductions")
    for made, models in _reproduced(known, methods).items():
        names = ", ".join(models)
        line = f"{names:<{width}}  {made}"
        lines += [line] if len(line) <= _WIDTH else [names, f"{'':<{width}}  {made}"]
    lines.append("train one:   unistep train ect --data folder:my_pictures --budget 30m")
    lines.append("more on one: unistep recipes ect, unistep recipes fashion/ect, --cite ect")
    return lines


def _reproduced(known: Iterable[str], methods: Iterable[str]) -> dict[str, list[str]]:
    """The models by the names of the recipes that reproduce them."""
    made: dict[str, list[str]] = {}
    for name in known:
        model, slash, method = name.partition("/")
        if slash:
            made.setdefault(model, []).append(method)
    grouped: dict[str, list[str]] = {}
    for model, names in made.items():
        every = set(names) == set(methods)
        key = "MODEL/METHOD, for every method" if every else ", ".join(f"MODEL/{name}" for name in names)
        grouped.setdefault(key, []).append(model)
    return grouped


def _first_sentence(text: str) -> str:
    return text.partition(". ")[0].rstrip(".")


def _details(name: str) -> None:
    """What a recipe does, its facts and its defaults."""
    from rich.markup import escape

    from unistep.recipes import facts, find_recipe
    from unistep.training.display import show_table

    made = find_recipe(name)()
    what, stated = facts(name)
    console = make_console()
    console.print(f"[bold]{name}[/bold]  {escape(what)}", highlight=False)
    rows = {fact.lower(): value for fact, value in stated.items()} | defaults(made)
    data = "" if "/" in name else " --data folder:my_pictures"
    rows["run"] = f"unistep train {name}{data}"
    show_table(console, "", rows)


def defaults(made: Any) -> dict[str, str]:
    """The values of a recipe that a person may want to change."""
    from unistep import registry

    kind = registry.name_of("objective", made.objective)
    options = {field.name: getattr(made.objective, field.name) for field in dataclasses.fields(made.objective)}
    auto = " (chosen from the data, the budget and a timing run)" if "batch_size" in made.auto else ""
    other = ", or AdamW where a timing run finds that Muon does not pay" if _may_be_adam(made) else ""
    return {
        "objective": f"{kind}: {', '.join(f'{key} {_shown(value)}' for key, value in options.items())}",
        "optimizer": f"{_shown(made.optimizer)}{other}",
        "schedule": _shown(made.schedule),
        "averages": ", ".join(ema.name for ema in made.emas),
        "batch size": f"{made.batch_size}{auto}",
        "budget": made.budget,
    }


def _may_be_adam(made: Any) -> bool:
    from unistep.optimizers import MuonConfig

    return "optimizer" in made.auto and isinstance(made.optimizer, MuonConfig)


def _shown(value: Any) -> str:
    """A value for a line; of a dataclass its name and fields."""
    if not dataclasses.is_dataclass(value):
        return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    fields = (f"{field.name} {_shown(getattr(value, field.name))}" for field in dataclasses.fields(value))
    return f"{type(value).__name__.removesuffix('Config')}({', '.join(fields)})"
