"""Recipes: methods, which train on any data, and reproductions of shipped and measured models, ``MODEL/METHOD``.

Each is a function whose docstring states what it needs, its paper and, of a reproduction, the expected result. A
method's returns a :class:`~unistep.recipes.method.Method`, a reproduction's a complete
:class:`~unistep.training.run_config.RunConfig`. Plugins add theirs: ``unistep.registry.register("recipe", NAME)``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from unistep import registry
from unistep.data import DataConfig
from unistep.recipes.method import Method
from unistep.recipes.signals import modality_of
from unistep.spelling import closest
from unistep.training.run_config import RunConfig

Recipe = Callable[[], Method] | Callable[[], RunConfig]
"""A function without arguments."""

FORMER_MODELS = ("fashion", "notes", "drums", "phrases")
"""Models whose recipes had a hyphen in their names."""

__all__ = ["Method", "Recipe", "facts", "find_recipe", "methods", "recipe", "recipes", "reproductions"]


def recipes() -> dict[str, Recipe]:
    """All recipes by name: the methods, then the reproductions."""
    found = registry.entries("recipe")
    return dict(sorted(found.items(), key=lambda item: "/" in item[0]))


def methods() -> dict[str, Method]:
    """The methods by name, which train on any data."""
    return {name: made for name, made in _made().items() if isinstance(made, Method)}


def reproductions() -> dict[str, RunConfig]:
    """The complete configurations of shipped and measured models by name, ``MODEL/METHOD``."""
    return {name: made for name, made in _made().items() if isinstance(made, RunConfig)}


def _made() -> dict[str, Method | RunConfig]:
    return {name: function() for name, function in recipes().items()}


def find_recipe(name: str) -> Recipe:
    """The recipe of a name.

    Raises:
        ValueError: If there is none; gives the name that a former one has now, or the nearest one.
    """
    known = registry.names("recipe")
    if name in known:
        return registry.lookup("recipe", name)
    model, _, method = name.partition("-")
    now = f"{model}/{'denoising' if method == 'teacher' else method}"
    if model in FORMER_MODELS and now in known:
        raise ValueError(f"{name} is now {now}")
    close = closest(name, known)
    hint = f"did you mean {close!r}? " if close else ""
    raise ValueError(f"there is no recipe {name!r}; {hint}one of {', '.join(_short(known))}")


def _short(known: tuple[str, ...]) -> list[str]:
    """Names of recipes, with one entry for all reproductions of a model."""
    return list(dict.fromkeys(f"{name.partition('/')[0]}/METHOD" if "/" in name else name for name in known))


def recipe(name: str, data: str | DataConfig | None = None, **changes: Any) -> RunConfig:
    """The configuration that a recipe gives for some data.

    Args:
        name: A method, such as ``ect``, or a reproduction, such as ``fashion/ect``.
        data: A source such as ``folder:my_pictures``, or a full data configuration; a reproduction has its own.
        **changes: Other fields of the configuration, such as ``budget="10m"``.

    Raises:
        ValueError: If there is no such recipe, or a method is given no data.
    """
    made = find_recipe(name)()
    given = DataConfig(source=data) if isinstance(data, str) else data
    if isinstance(made, Method):
        if given is None:
            raise ValueError(
                f"{name} is a method and needs data, such as --data folder:my_pictures; fashion/{name} is a run on "
                "known data"
            )
        modality = modality_of(given)
        tuned = made.tuned(modality.tuning(registry.name_of("objective", made.objective)))
        network = modality.default_networks(modality.default_codec().shape(modality.shape))[0]
        left_open = tuple(part for part in tuned.auto if part not in changes)
        config = tuned.run(name, given, modality, network, auto=left_open)
    else:
        config = made if given is None else replace(made, data=given)
    return replace(config, **changes)


def facts(name: str) -> tuple[str, dict[str, str]]:
    """What a recipe does, and the facts that its docstring states (``Data: ...``, ``Expected: ...``).

    A reproduction that leaves out a fact has its method's.

    Raises:
        ValueError: If there is no such recipe.
    """
    what, own = read_docstring(inspect.getdoc(find_recipe(name)) or "")
    method = name.rpartition("/")[2]
    inherited = facts(method)[1] if method != name and method in registry.names("recipe") else {}
    return what, {**own, **{fact: value for fact, value in inherited.items() if fact not in own}}


def read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """The first paragraph of a docstring, and its facts in their order."""
    what, _, rest = text.partition("\n\n")
    found: dict[str, str] = {}
    last = None
    for line in rest.splitlines():
        match = re.match(r"([A-Z][\w -]{1,30}): (.*)", line)
        if match:
            last = match[1]
            found[last] = match[2]
        elif line.strip() and last is not None:
            found[last] += f" {line.strip()}"
        else:
            last = None
    return _plain(what), {name: _plain(value) for name, value in found.items()}


def _plain(text: str) -> str:
    return re.sub(r"`+", "", " ".join(text.split()))
