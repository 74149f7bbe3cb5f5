"""``unistep train``: a recipe, with any part of it changed."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, make_dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from unistep.cli.console import make_console
from unistep.cli.errors import INTERRUPTED, CommandError
from unistep.cli.parse import option_value, parse
from unistep.files import checked_path

if TYPE_CHECKING:
    from unistep.data import DataConfig
    from unistep.training.run_config import RunConfig


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Where and how to run; the recipe's own configuration is added as further options."""

    out: Path
    """Folder of the run."""
    resume: bool = False
    """Go on with the run that lies in the folder; with none there, it starts."""
    device: str | None = None
    """cpu, cuda or cuda:N; a GPU where there is one without."""


OVERVIEW = """usage: unistep train METHOD --data SOURCE [options]
       unistep train MODEL/METHOD [options]

Train a model by a method on your data, or reproduce a shipped model. You can change everything that a recipe says; the
most used options are

  --data SOURCE           folder:PATH, npz:FILE, hf:NAME, or a set of its own such as fashion-mnist or notes
  --data.size 32          side of the pictures, in pixels
  --budget 30m            time (90s, 30m, 2h) or images (500k, 2M); --max-steps for optimizer steps
  --finish-share 0.2      post-train the one-step model at the end (FD loss), in a fifth of the budget; 0: never
  --out DIR               folder of the run (runs/METHOD)
  --resume                go on after an interruption
  --init MODEL            go on from the weights of a trained model; of a one-step model, without a teacher
  --lora.rank 8           with --init, train a small file of differences (LoRA) in place of all weights
  --model.network dit     another kind of network (unet), whose options are --model.network.width and the like
  --optimizer adamw       or muon, radam; between the first two a timing run chooses
  --batch-size, --seed, --device, --checkpoint-every 5m, --teacher MODEL

  unistep train ect --data folder:my_pictures --budget 30m
  unistep train fashion/ect             # as the shipped model was trained
  unistep train ect --help              # every option, with the recipe's values
  unistep recipes                       # the methods, and the models that can be reproduced

METHOD is one of {methods}.
"""

NETWORK = "--model.network"
"""The option that names a kind of network, by its name in the registry; the kind has options of its own."""

OPTIMIZER = "--optimizer"
"""The option that names an optimizer; each has options of its own."""

DECIDED_BY = {
    "network": NETWORK,
    "batch_size": "--batch-size",
    "init": "--init",
    "size": "--data.size",
    "curriculum": "--objective.curriculum",
    "optimizer": OPTIMIZER,
    "finish_share": "--finish-share",
}
"""How the options begin that decide what a recipe leaves open."""

INSTEAD = {
    "--epochs": "--budget (30m of time, 500k images) or --max-steps",
    "--iterations": "--max-steps",
    "--steps": "--max-steps",
    "--time": "--budget",
    "--lr": "--optimizer.lr",
    "--network": "--model.network dit, or --model.network.widths and the like",
    "--data.kind": "--data.modality",
}
"""Options of other programs, and what to use here."""


def run(arguments: Sequence[str]) -> int:
    """Train; the exit code is 130 after an interruption."""
    from unistep.cli.data_options import from_options, to_options
    from unistep.recipes import recipes

    asked = any(word in ("-h", "--help") for word in arguments)
    if not arguments or arguments[0].startswith("-"):
        methods = ", ".join(name for name in recipes() if "/" not in name)
        if asked:
            print(OVERVIEW.format(methods=methods), end="")
            return 0
        raise ValueError(f"the recipe comes first: unistep train RECIPE [options], RECIPE one of {methods}")
    name, words = arguments[0], spell_out(arguments[1:])
    out = Path("runs") / name.replace("/", "-")
    recipe = begun_by(name, words, out) or recipe_for(name, words, helping=asked)
    default, left = with_optimizer(*with_network(recipe, words))
    kind = with_config(type(default))
    flat = flat_config(type(default))(**{**vars(default), "data": to_options(default.data)})
    filled = kind(config=flat, out=out)
    options: Any = parse(
        kind, f"train {name}", left, default=filled, markers=(tyro.conf.AvoidSubcommands,), instead=INSTEAD
    )
    config = type(default)(**{**vars(options.config), "data": from_options(options.config.data)})
    config = resolve_options(config, recipe, words)
    return _train(config, options)


def begun_by(name: str, words: Sequence[str], out: Path) -> RunConfig | None:
    """What the run to resume was begun with, so that an option that is not given again keeps its value.

    Args:
        name: The recipe.
        words: The options as typed.
        out: The run's folder where ``--out`` gives no other.

    Raises:
        ValueError: If the folder holds a run by another recipe.
    """
    from unistep.training.run_directory import begun_with

    if "--resume" not in words:
        return None
    folder = Path(option_value(words, "--out") or out).expanduser()
    begun = begun_with(folder)
    if begun is not None and begun.recipe != name:
        raise ValueError(f"{folder} holds another run, by {begun.recipe!r} and not {name!r}; give its name, or --out")
    return begun


def recipe_for(name: str, words: Sequence[str], *, helping: bool = False) -> RunConfig:
    """The configuration that the options change: that of a recipe, for the data that they name.

    Args:
        name: The recipe.
        words: The options as typed.
        helping: Whether only help is asked for, which needs no data.

    Raises:
        ValueError: If there is no such recipe, or a method is given no data.
    """
    from unistep.data import DataConfig
    from unistep.recipes import Method, find_recipe, recipe

    made = find_recipe(name)()
    if not isinstance(made, Method):
        return made
    source, modality = (option_value(words, option) for option in ("--data.source", "--data.modality"))
    if source is None:
        return recipe(name, DataConfig() if helping else None)
    return recipe(name, DataConfig(source=source, modality=modality))


def with_network(config: RunConfig, words: Sequence[str]) -> tuple[RunConfig, list[str]]:
    """The configuration with the kind of network that ``--model.network NAME`` names, and the words without it.

    Args:
        config: The recipe.
        words: The options as typed.

    Raises:
        ValueError: If there is no such network.
    """
    from unistep import registry

    name = option_value(words, NETWORK)
    if name is None:
        return config, [*words]
    made = registry.lookup("network", name)
    if not isinstance(config.model.network, made):
        network = made().with_second_time(config.model.network.takes_second_time)
        config = replace(config, model=replace(config.model, network=network))
    return config, _without(words, NETWORK)


def with_optimizer(config: RunConfig, words: Sequence[str]) -> tuple[RunConfig, list[str]]:
    """The configuration with the optimizer that ``--optimizer NAME`` names, and the words without it.

    Args:
        config: The recipe, whose rates it has.
        words: The options.

    Raises:
        ValueError: If there is no such optimizer.
    """
    from unistep.optimizers import named_optimizer

    name = option_value(words, OPTIMIZER)
    if name is None:
        return config, [*words]
    return replace(config, optimizer=named_optimizer(name, config.optimizer)), _without(words, OPTIMIZER)


def _without(words: Sequence[str], option: str) -> list[str]:
    """The words without an option and its value."""
    left, skip = [], False
    for word in words:
        if skip or word.partition("=")[0] == option:
            skip = word == option
        else:
            left.append(word)
    return left


def _train(config: RunConfig, options: Any) -> int:
    from unistep.cli.devices import choose_device
    from unistep.training.health import TrainingStoppedError
    from unistep.training.run import train

    device = None if options.device is None else choose_device(options.device)
    try:
        done = train(
            config,
            checked_path(options.out),
            resume=options.resume,
            device=device,
            console=make_console(),
            command=resume_command(options),
        )
    except TrainingStoppedError as error:
        raise CommandError(str(error)) from None
    return 0 if done else INTERRUPTED


def resume_command(options: Any) -> str:
    """The command that goes on with a run; all else that it needs to know lies in the run's folder."""
    device = [] if options.device is None else ["--device", options.device]
    words = ["unistep", "train", options.config.recipe, "--out", str(options.out), *device, "--resume"]
    return shlex.join(words)


def with_config(kind: type) -> type:
    """The options of the command, with the fields of a configuration beside them."""
    merged = (("config", Annotated[flat_config(kind), tyro.conf.arg(name="")]),)
    made = make_dataclass("TrainOptions", merged, bases=(TrainOptions,), frozen=True, kw_only=True)
    made.__doc__ = "Train by a recipe; the defaults are what the recipe says. --data SOURCE is short for --data.source."
    return made


@cache
def flat_config(kind: type) -> type:
    """The configuration with all options of its data side by side."""
    from unistep.cli.data_options import data_options

    data = [("data", data_options(), field(kw_only=True))]
    made = make_dataclass(kind.__name__, data, bases=(kind,), frozen=True, kw_only=True)
    made.__doc__ = kind.__doc__
    return made


def spell_out(words: Sequence[str]) -> list[str]:
    """The words with ``--data`` written as ``--data.source``."""
    return [f"--data.source{word[6:]}" if word == "--data" or word.startswith("--data=") else word for word in words]


def resolve_options(config: RunConfig, recipe: RunConfig, words: Sequence[str]) -> RunConfig:
    """What is meant by the options: a budget that was typed rules, and a teacher of other data is none.

    Args:
        config: The recipe with the options.
        recipe: The recipe.
        words: The options as typed.

    Raises:
        ValueError: If a quantity cannot be read, or a teacher or the data cannot be found, before any work.
    """
    from unistep.hub.load import find

    typed = {word.partition("=")[0].replace("_", "-") for word in words if word.startswith("--")}
    if config.recipe != recipe.recipe:
        raise ValueError(f"--recipe is the name of the recipe, {recipe.recipe}, and cannot be changed")
    if "--budget" in typed and "--max-steps" not in typed:
        config = replace(config, max_steps=None)
    still = tuple(part for part in config.auto if not any(word.startswith(DECIDED_BY[part]) for word in typed))
    config = replace(config, auto=still, init=None if config.init == "none" else config.init)
    if "--teacher" not in typed and config.teacher is not None and not _teacher_fits(config, recipe):
        config = replace(config, teacher=None)
    for name in (config.teacher, config.init):
        if name is not None:
            find(name)
    _check_source(config.data)
    return config


def _check_source(data: DataConfig) -> None:
    """Find out whether a source can be opened, before a folder is made for the run."""
    from unistep.data.cache import cache_root
    from unistep.data.sources.opening import open_source

    source = open_source(data, cache_root(None) / "downloads")
    if source.local:  # the others may need the network
        source.identity()
        data.options_for(source.modality_of(data))  # refuses the options of another modality


def _teacher_fits(config: RunConfig, recipe: RunConfig) -> bool:
    """Whether the recipe's own teacher saw such data through such a network; else one is trained first."""

    def seen(run: RunConfig) -> tuple[object, ...]:
        data = run.data
        kind = data.source.partition(":")[0]
        # Which kits of drums are taken decides which kinds of them there are; the parts of other sources are alike.
        source = data.source if kind == "drums" else kind
        return source, None if data.options is None else data.options.key

    return seen(config) == seen(recipe) and not config.model.network.differences(recipe.model.network)
