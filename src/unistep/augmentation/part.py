"""A generator that has seen the training part and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from unistep.augmentation.classes import ClassedData, folder_name
from unistep.data.options import DataConfig
from unistep.generation.generator import Generator
from unistep.hub.load import load
from unistep.training.run import train
from unistep.training.run_config import RunConfig

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


def train_on_part(data: ClassedData, folder: Path, configure: Callable[[DataConfig], RunConfig]) -> Generator:
    """Train a generator on a part alone.

    Args:
        data: The part.
        folder: Gets the files of the part and the run; a run that lies there goes on.
        configure: Gives the configuration of a run on some data.

    Raises:
        ValueError: If it cannot be trained on the part.
        KeyboardInterrupt: If it was interrupted; the same call goes on.
    """
    from rich.console import Console

    part, run = folder / PART, folder / RUN
    if not part.exists():
        write_part(data, part)
    config = DataConfig(source=f"folder:{part}", options=data.dataset.modality.as_options())
    if not train(configure(config), run, resume=run.exists(), console=Console(quiet=True)):
        raise KeyboardInterrupt
    return load(run)
