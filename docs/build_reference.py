"""Write the pages of the reference, one for each room of the package, and check that no public name is missing.

A name is public if no part of its dotted path begins with an underscore and it is defined where the path says.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

import unistep

ROOMS = {
    "core": "The mathematics: paths, maps, solvers, samplers, conditions",
    "nets": "Networks",
    "codecs": "Codecs: between signals and what a network sees",
    "backends": "Backends: what runs the network",
    "objectives": "Objectives, one module per method",
    "modalities": "Modalities: images, audio, video and signals of your own",
    "data": "Data sets, their sources and the loader",
    "generation": "Generators, requests and sessions",
    "training": "Training",
    "evaluation": "Evaluation",
    "augmentation": "Augmentation: synthetic items and what they are worth",
    "provenance": "Provenance: what files say of their origin",
    "hub": "Loading and saving models",
    "recipes": "Recipes",
    "cli": "The command line's own modules",
    "demo": "The demo",
}


def modules() -> list[str]:
    """The dotted path of every public module."""
    found = [unistep.__name__]
    for info in pkgutil.walk_packages(unistep.__path__, "unistep."):
        if not any(part.startswith("_") for part in info.name.split(".")):
            found.append(info.name)
    return sorted(found)


def room_of(module: str) -> str:
    """The room, a folder of the package, that a module belongs to; empty for the modules beside the rooms."""
    path = module.split(".")
    return path[1] if len(path) > 1 and path[1] in ROOMS else ""


def public(module: ModuleType) -> Iterator[tuple[str, object]]:
    """The classes and functions that a module defines, by their dotted paths, with the methods of the classes."""
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        if not (inspect.isclass(value) or inspect.isfunction(value)):
            continue
        yield f"{module.__name__}.{name}", value
        if inspect.isclass(value):
            fields = getattr(value, "__dataclass_fields__", {})
            for method, member in vars(value).items():
                if method in fields:
                    continue
                function = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
                if not method.startswith("_") and (inspect.isfunction(function) or isinstance(function, property)):
                    yield f"{module.__name__}.{name}.{method}", function


def public_names() -> dict[str, object]:
    """Every public name of the package."""
    found: dict[str, object] = {}
    for module in modules():
        found |= dict(public(importlib.import_module(module)))
    return found


def title(text: str) -> str:
    """A heading of a page."""
    return f"{text}\n{'=' * len(text)}\n"


def pages() -> dict[str, str]:
    """Every page by its file's name."""
    rooms: dict[str, list[str]] = {"": [], **{room: [] for room in ROOMS}}
    for module in modules():
        rooms[room_of(module)].append(module)
    written = {}
    for room, members in rooms.items():
        if not members:
            continue
        head = title(ROOMS[room] if room else "Beside the rooms: the package, registry, files, configurations")
        blocks = [f"{name}\n{'-' * len(name)}\n\n.. automodule:: {name}\n" for name in members]
        written[f"{room or 'package'}.rst"] = "\n".join([head, *blocks])
    return written


def write(folder: Path) -> None:
    """Write the pages that have changed, and remove those of rooms that are gone."""
    folder.mkdir(parents=True, exist_ok=True)
    found = pages()
    for old in folder.glob("*.rst"):
        if old.name not in found:
            old.unlink()
    for name, text in found.items():
        path = folder / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def check(app: Sphinx, env: BuildEnvironment) -> None:
    """Warn of every public name that the reference does not have."""
    there = env.domains.python_domain.objects
    for name in public_names():
        if name not in there:
            logging.getLogger(__name__).warning("%s is public but not in the reference", name)
