"""Finding the parameters of editing for a task on held-out data, and keeping them for later."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unistep.editing.search import search_settings
from unistep.editing.solvers import Settings, Solver
from unistep.editing.task import EditOptions, Task
from unistep.files import unwritable, user_cache, write_text
from unistep.serialization import from_plain, to_plain
from unistep.weights import read_weights, weights_hash

if TYPE_CHECKING:
    from unistep.generation.generator import Generator

FILE, WEIGHTS = "editing.json", "model.safetensors"
"""Names of the files of parameters and of weights in the folder of a model."""
SEED = 1_000_000
"""First seed of the noise of a search, so that no other results have it."""


def tune_editing(
    generator: Generator,
    task: str | Task,
    x: Tensor,
    *,
    steps: int,
    solver: Solver = "back-projection",
    batch_size: int = 64,
    rounds: int = 2,
    callback: Callable[[float], object] | None = None,
    **options: Any,
) -> tuple[Settings, float]:
    """Search parameters of a task on clean held-out signals, which are degraded and restored.

    Args:
        generator: The model.
        task: The task, or its name.
        x: Clean signals, ``[n, *signal_shape]``, other than those that results are reported on.
        steps: Calls of the model.
        solver: The solver.
        batch_size: Items that go through the network together.
        rounds: Passes over the parameters.
        callback: Called with the share of the work that is done.
        **options: Those of the task, and conditions; ``prior`` for the solver ``mixture``.

    Returns:
        The parameters with the highest peak signal-to-noise ratio, and that ratio in decibels.

    Raises:
        ValueError: If the task undoes nothing, or as in :meth:`Generator.edit`.
    """
    from unistep.generation.editing import edit, make_task, settings_of

    given = {name: options.pop(name) for name in list(options) if name in EditOptions.__dataclass_fields__}
    work = make_task(generator, task, EditOptions(**given)) if isinstance(task, str) else task
    work.check_degradable()

    def score(settings: Settings) -> float:
        restored = edit(
            generator,
            work,
            x,
            steps=steps,
            settings=settings,
            solver=solver,
            seed=SEED,
            degrade=True,
            batch_size=batch_size,
            **options,
        )
        return float(decibels(restored, x).mean())

    start = settings_of(generator, work, steps, None, solver)
    # The mixture weighs noise by itself, and its first guess is none that has to go.
    noisy, least = work.sigma > 0, work.least_first
    if solver == "mixture":
        noisy, least = False, 0.0
    return search_settings(score, start, steps, noisy=noisy, least_first=least, rounds=rounds, progress=callback)


def decibels(a: Tensor, b: Tensor) -> Tensor:
    r"""Peak signal-to-noise ratio of signals in [-1, 1], :math:`10 \log_{10}(4 / \mathrm{MSE})`, ``[b]``."""
    return 10 * (4 / (a - b).double().flatten(1).square().mean(dim=1).clamp(min=1e-10)).log10()


def with_settings(generator: Generator, task: str, steps: int, settings: Settings) -> Generator:
    """The same model with parameters of a task in its configuration, to be saved with it."""
    found = {**generator.config.editing, f"{task}/{steps}": settings}
    made = type(generator)(generator.map, replace(generator.config, editing=found), generator.name, generator.codec)
    made.precision = generator.precision
    return made


def folder() -> Path:
    """Where parameters are kept of models that are in no folder of their own, such as those that ship."""
    return user_cache() / "editing"


def kept_in(generator: Generator) -> Path:
    """The file of the parameters of a model in the cache, named after its weights."""
    return folder() / f"{_hash(generator)}.json"


def keep(generator: Generator, task: str, steps: int, settings: Settings) -> Path:
    """Keep parameters for later calls with this model: in its folder, or where that cannot be written in the cache.

    Returns:
        The file.

    Raises:
        ValueError: If neither can be written.
    """
    found = {**kept(generator), f"{task}/{steps}": settings}
    plain: dict[str, Any] = {name: to_plain(one) for name, one in sorted(found.items())}
    path, own, weights = kept_in(generator), _own_file(generator), _hash(generator)
    if own is not None and os.access(own.parent, os.W_OK) and _holds(own.with_name(WEIGHTS), generator):
        path, plain = own, {"weights": weights, "settings": plain}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(f"cannot write {path}: {error.strerror or error}", error) from None
    write_text(path, json.dumps(plain, indent=2) + "\n")
    return path


def kept(generator: Generator) -> dict[str, Settings]:
    """The parameters that are kept, by task and number of steps.

    Those in the model's folder come before those in the cache, where it can be written; where not, a search can only
    have left newer ones in the cache.

    Raises:
        ValueError: If a file is damaged.
    """
    own = _own_file(generator)
    cached, shipped = dict[str, Settings](), dict[str, Settings]()
    if folder().is_dir():  # without a look at the weights, which takes longer than a call of a small model
        cached = _read(generator, kept_in(generator))
    if own is not None and own.is_file():
        shipped = _read(generator, own)
    return cached | shipped if own is not None and os.access(own.parent, os.W_OK) else shipped | cached


def _hash(generator: Generator) -> str:
    return weights_hash(generator.map.net.state_dict())[:32]


def _holds(path: Path, generator: Generator) -> bool:
    """Whether a file has the weights of a model; a folder may be called as another one that ships."""
    own = generator.map.net.state_dict()
    try:
        found = read_weights(path)
    except (OSError, ValueError):
        return False
    # Files may have fewer digits.
    return own.keys() == found.keys() and all(torch.equal(found[name].to(one), one) for name, one in own.items())


def _own_file(generator: Generator) -> Path | None:
    """The file in the folder that a model was loaded from, by its name; ``None`` where that is none."""
    try:
        place = Path(generator.name).expanduser()
        for one in (place, place / "model"):  # of a run, which holds its model
            if (one / "config.json").is_file() and (one / WEIGHTS).is_file():
                return one / FILE
    except (OSError, ValueError, RuntimeError):  # no name that a folder could have
        return None
    return None


def _read(generator: Generator, path: Path) -> dict[str, Settings]:
    """The parameters in a file; none where it is missing, or of other weights, such as those of an earlier training."""
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        if "settings" in plain:  # in the folder of a model; files in the cache have the weights in their names
            plain = plain["settings"] if plain["weights"] == _hash(generator) else {}
        return {name: from_plain(Settings, one) for name, one in plain.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be read ({error}); delete it, or tune again") from None
