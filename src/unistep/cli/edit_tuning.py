"""``unistep edit --tune``: the parameters of a task for a model, from a search on held-out data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unistep.editing.mixture import Mixture
    from unistep.editing.solvers import Solver
    from unistep.editing.task import Task
    from unistep.generation.generator import Generator

ITEMS = 32
"""Items of the data that a search is done on."""


def tune(
    generator: Generator,
    task: Task,
    source: str,
    *,
    steps: int,
    solver: Solver,
    prior: Mixture | None,
    batch_size: int,
    condition: dict[str, Any],
) -> str:
    """Search, keep what was found in the cache, and say so.

    Args:
        generator: The model.
        task: The task.
        source: Data that the model was not trained on, such as ``folder:held_out``.
        steps: Network calls.
        solver: The solver.
        prior: The mixture of the solver of that name.
        batch_size: Items that go through the network together.
        condition: What is given of the model's fields.

    Returns:
        A line for the person.

    Raises:
        ValueError: If the task undoes nothing, the data does not fit the model, or the cache cannot be written.
    """
    from unistep.cli.console import progress
    from unistep.cli.evaluation_data import check_data, data_for
    from unistep.data import prepare
    from unistep.data.sources.limits import evenly_spaced
    from unistep.generation.editing import settings_key
    from unistep.generation.tuning import keep, tune_editing

    task.check_degradable()
    data = prepare(data_for(generator, source))
    check_data([generator], data)
    rows = evenly_spaced(len(data), ITEMS)
    x = data.modality.to_signal(data.batch(rows, None)[0])
    with progress("tuning") as callback:
        found, decibels = tune_editing(
            generator, task, x,
            steps=steps, solver=solver, prior=prior, batch_size=batch_size, callback=callback, **condition,
        )  # fmt: skip
    key = settings_key(task.key, solver)
    path = keep(generator, key, steps, found)
    values = ", ".join(f"{name} {getattr(found, name):g}" for name in found.LIMITS)
    items = f"{len(x)} items of {source}"
    return f"{key} in {steps} steps on {items}: PSNR {decibels:.2f} dB with {values}; kept in {path}"
