"""A generator that has seen the training part and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from unistep.augmentation.classes import ClassedData, class_folders
from unistep.data.options import DataConfig
from unistep.files import remove_unfinished, replacing_folder, unwritable
from unistep.generation.generator import Generator
from unistep.hub.load import load
from unistep.training.run import train
from unistep.training.run_config import RunConfig

PART, RUN = "training-part", "generator"
"""Names of the folders: the files of the part, and the run."""
NEW = "new"
"""In place of a model: one that is trained from nothing."""

_WHAT = ".items"  # a hidden file of the part, which is none of its items: which ones they are


def write_part(data: ClassedData, folder: Path) -> None:
    """Write the items of a part as files, a folder for each class, so that anybody can see what was trained on.

    Where they lie already they are left as they are.

    Raises:
        ValueError: If other items lie there, or they cannot be written; a :class:`~unistep.files.DiskError` on a full
            disk. Nothing is half-written.
    """
    which = hashlib.sha256(
        "\n".join((data.dataset.fingerprint, *data.names)).encode() + data.index.tobytes()
    ).hexdigest()
    if folder.exists():
        if not (folder / _WHAT).is_file() or (folder / _WHAT).read_text(encoding="utf-8") != which:
            raise ValueError(
                f"{folder} holds another training part, of other data or of a split by another seed; give another -o"
            )
        return
    modality, folders = data.dataset.modality, class_folders(data.names)
    suffix = modality.exact or Path(modality.example).suffix
    try:
        remove_unfinished(folder)
        with replacing_folder(folder) as temporary:
            for one in data.present:
                place = temporary / folders[one]
                place.mkdir()
                for number, x in enumerate(data.signals(data.rows(one))):
                    (place / f"{number:06d}{suffix}").write_bytes(modality.encode(x, suffix))
            (temporary / _WHAT).write_text(which, encoding="utf-8")
    except OSError as error:
        raise unwritable(f"cannot write {folder}: {error.strerror or error}", error) from None


def train_on_part(data: ClassedData, folder: Path, configure: Callable[[DataConfig], RunConfig]) -> Generator:
    """Train a generator on a part alone.

    Args:
        data: The part.
        folder: Gets the files of the part and the run; a run that lies there goes on.
        configure: Gives the configuration of a run on some data.

    Raises:
        ValueError: If it cannot be trained on the part, or another part lies there.
        KeyboardInterrupt: If it was interrupted; the same call goes on.
    """
    from rich.console import Console

    part, run = folder / PART, folder / RUN
    write_part(data, part)
    config = DataConfig(source=f"folder:{part}", options=data.dataset.modality.as_options().as_written())
    if not train(configure(config), run, resume=run.exists(), console=Console(quiet=True)):
        raise KeyboardInterrupt
    return load(run)
