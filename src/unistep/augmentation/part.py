"""A generator that has seen the training part and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from unistep.augmentation.classes import ClassedData, folder_name
from unistep.data.options import DataConfig
from unistep.generation.generator import Generator
from unistep.hub.load import load
from unistep.recipes import recipe
from unistep.training.run import train

PART, RUN = "training-part", "generator"
"""Names of the folders: the files of the part, and the run."""
NEW = "new"
"""In place of a model: one that is trained from nothing."""


def write_part(data: ClassedData, folder: Path) -> None:
    """Write the items of a part as files, a folder for each class, so that anybody can see what was trained on.

    Raises:
        OSError: If they cannot be written.
    """
    modality = data.dataset.modality
    suffix = Path(modality.example).suffix
    for one in data.present:
        place = folder / folder_name(data.names[one])
        place.mkdir(parents=True, exist_ok=True)
        for number, x in enumerate(data.signals(data.rows(one))):
            (place / f"{number:06d}{suffix}").write_bytes(modality.encode(x, suffix))


def train_on_part(
    data: ClassedData,
    folder: Path,
    budget: str,
    *,
    method: str = "ect",
    init: str | None = None,
    say: Callable[[str], object] = print,
) -> Generator:
    """Train a generator on a part alone.

    Args:
        data: The part.
        folder: Gets the files of the part and the run; a run that lies there goes on.
        budget: How long, such as ``5m``, or how many items, such as ``200k``.
        method: The recipe.
        init: A model to start from, which has seen data of its own; from nothing without.
        say: Takes a line about what goes on.

    Raises:
        ValueError: If the recipe cannot be trained on it.
    """
    from rich.console import Console

    part, run = folder / PART, folder / RUN
    if not part.exists():
        write_part(data, part)
    options = data.dataset.modality.as_options()
    config = DataConfig(source=f"folder:{part}", options=options)
    changes = {} if init is None else {"init": init}
    say(f"training a generator with {method} on {len(data):,} items of the training part alone, {budget}")
    finished = train(
        recipe(method, config, budget=budget, **changes), run, resume=run.exists(), console=Console(quiet=True)
    )
    if not finished:
        raise KeyboardInterrupt
    return load(run)
