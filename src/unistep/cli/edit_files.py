"""The files of ``unistep edit``: inputs in batches, and results that appear one by one, each whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unistep.cli.outputs import check_file, check_folder
from unistep.files import checked_path
from unistep.generation.saving import model_hash
from unistep.provenance import COMPOSITE, TRAINED, Provenance

if TYPE_CHECKING:
    from torch import Tensor

    from unistep.editing.task import Task
    from unistep.generation.generator import Generator
    from unistep.modalities.base import Modality
    from unistep.provenance import Signing

SHOWN = 8
"""Items of a sheet."""
SHEETS = (".png", ".jpg", ".jpeg", ".webp")
"""How the name of a sheet may end."""


def find_inputs(named: Sequence[Path], modality: Modality) -> list[list[Path]]:
    """The files of each input: itself, or those of the kind in a folder, by name.

    Raises:
        ValueError: If there is no such file or folder, it cannot be read, or a folder has no such file.
    """
    found = []
    for path in named:
        checked_path(path)
        try:
            if path.is_dir():
                inside = sorted(p for p in path.iterdir() if p.suffix.lower() in modality.suffixes and p.is_file())
                if not inside:
                    raise ValueError(f"{path} has no {modality.noun} to edit")
                found.append(inside)
            elif path.exists():
                found.append([path])
            else:
                raise ValueError(f"{path}: no such file or folder")
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
    return found


@dataclass(frozen=True)
class Batch:
    """Some inputs that are edited together."""

    signals: Any
    """What :meth:`Generator.edit` takes."""
    names: tuple[str, ...]
    """What each result is named after."""
    size: int
    """How many results there will be."""


@dataclass
class Inputs:
    """What is edited, read as it is needed.

    Args:
        files: The files of each input.
        task: What is done.
        generator: The model.
        num: Results of each.
        whole: Whether the files are clean signals that the task degrades first.

    Raises:
        ValueError: If there are too few or too many.
    """

    files: list[list[Path]]
    task: Task
    generator: Generator
    num: int
    whole: bool = False
    skipped: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        count, task = len(self.files), self.task
        if self.num < 1:
            raise ValueError(f"-n must be at least 1, got {self.num}")
        if count != task.inputs and not (count == 0 and task.optional):
            wanted = (
                f"{task.inputs} inputs, or none" if task.optional else f"{task.inputs} input{'s' * (task.inputs > 1)}"
            )
            raise ValueError(f"{task.name()} needs {wanted}, got {count}")
        if len({len(row) for row in self.files}) > 1:
            raise ValueError(
                f"the inputs of {task.name()} must be as many files each, got {[len(r) for r in self.files]}"
            )
        if task.optional and self.num > 1:
            raise ValueError(f"{task.name()} makes --count results; leave -n out")

    @property
    def rows(self) -> list[tuple[Path, ...]]:
        """The files that make one result, for each."""
        return [row for row in zip(*self.files, strict=True) for _ in range(self.num)]

    @property
    def total(self) -> int:
        """How many results there are if all files can be read."""
        return len(self.rows)

    def batches(self, size: int) -> Iterator[Batch]:
        """The inputs in batches; where there are several files, those that cannot be read are left out.

        Raises:
            ValueError: If the only file, or none of several, can be read.
        """
        import torch

        if not self.files:
            yield Batch(None, ("interpolated",), 1)
            return
        reader = self._reader()
        left, any_read = iter(zip(self.rows, self.names, strict=True)), False
        while chosen := list(islice(left, max(1, size))):
            signals: list[list[Tensor]] = []
            names: list[str] = []
            for row, name in chosen:
                try:
                    read = [reader.load(path) for path in row]
                    self._check_length(reader, row)
                    signals.append(read)
                except ValueError as error:
                    if len(self.rows) == self.num:
                        raise
                    if (line := str(error)) not in self.skipped:
                        self.skipped.append(line)
                    continue
                names.append(name)
            if signals:
                any_read = True
                stacked = [torch.stack(column) for column in zip(*signals, strict=True)]
                yield Batch(stacked[0] if len(stacked) == 1 else stacked, tuple(names), len(names))
        if not any_read:
            raise ValueError(f"none of the {len(self.rows)} files can be read: {self.skipped[0]}")

    def _check_length(self, reader: Modality, row: Sequence[Path]) -> None:
        """What reading a short file puts at its end is not taken for known.

        Raises:
            ValueError: If a file is shorter than what is taken from it.
        """
        least = self.task.known_moments
        rate = reader.layout.rate if reader.layout.waveform else 1
        for path in row if least else ():
            found = reader.moments_in(path)
            if found is not None and found < least:
                there = f"{found / rate:.4g} seconds of sound" if reader.layout.waveform else f"{found} frames"
                raise ValueError(f"{path} has {there}, fewer than are known: give --known {found / rate:.4g} or less")

    def _reader(self) -> Modality:
        """What reads files in the shape that the task takes."""
        modality, shape = self.generator.modality, self.task.given.shape if self.whole else self.task.input_shape
        if tuple(shape) == tuple(modality.shape):
            return modality
        return type(modality).fitted(modality.as_options(), tuple(shape))

    @property
    def names(self) -> list[str]:
        """What each result is named after: its first file, with the ending where two files differ in that alone."""
        files = self.files[0] if self.files else []
        taken = Counter(path.stem for path in files)
        bases = [path.stem if taken[path.stem] == 1 else path.name for path in files]
        return [base if self.num == 1 else f"{base}-{k + 1}" for base in bases for k in range(self.num)]


@dataclass(frozen=True)
class Found:
    """What is known of the results of a batch."""

    errors: list[float]
    """PSNR of each, where the clean signals are known."""
    residual: float
    """Largest deviation from what is known."""


class Results:
    """Where results go, checked before the work begins.

    Args:
        out: A file or a folder; ``None`` for the usual name.
        sheet: A picture of inputs and results.
        generator: The model.
        inputs: What is edited.

    Raises:
        ValueError: If there is no writing there.
    """

    def __init__(self, out: Path | None, sheet: Path | None, generator: Generator, inputs: Inputs) -> None:
        from unistep.modalities.writing import is_folder

        modality = generator.modality
        usual = Path(modality.example).suffix
        self.where = out if out is not None else Path("edited" if inputs.total > 1 else f"edited{usual}")
        self._folder = is_folder(self.where)
        self.suffix = usual if self._folder else self.where.suffix
        self._modality, self._generator, self._task, self._sheet = modality, generator, inputs.task, sheet
        self._source = COMPOSITE if inputs.files else TRAINED
        if self._folder and str(self.where) != "-":
            check_folder(self.where)
        else:
            modality.check_path(self.where)
        if sheet is not None:
            check_file(sheet, SHEETS)
        self._check_inputs_stay(inputs)
        self._kept: list[Tensor] = []
        self._seeds: list[int] = []
        self._origin: Provenance | None = None
        self._shown: list[tuple[Tensor, ...]] = []
        self.count, self.constrained = 0, False

    def _check_inputs_stay(self, inputs: Inputs) -> None:
        """No result takes the place of an input, which would be lost."""
        given = {path.resolve() for row in inputs.files for path in row}
        made = [self.where / f"{name}{self.suffix}" for name in inputs.names] if self._folder else [self.where]
        for path in (*made, *([] if self._sheet is None else [self._sheet])):
            if path.expanduser().resolve() in given:
                raise ValueError(f"cannot write {path}: it is an input, which would be lost; give another name")

    def add(self, batch: Batch, x: Tensor, seed: int, *, degrade: bool) -> Found:
        """Take in the results of a batch; into a folder they are written at once."""
        from unistep.evaluation.picture_metrics import psnr

        names = batch.names if len(batch.names) == len(x) else [f"{batch.names[0]}-{i + 1}" for i in range(len(x))]
        signals = [] if batch.signals is None else batch.signals if isinstance(batch.signals, list) else [batch.signals]
        clean = signals[0] if degrade else None
        seeds = [seed if batch.signals is None else seed + i for i in range(len(x))]
        if clean is not None:
            signals = [self._task.noisy(self._task.degraded(clean), seeds), *signals[1:]]
        problem = self._task.problem(*signals)
        residual = 0.0
        if problem.constraint is not None and not problem.constraint.sigma.any():
            residual, self.constrained = float(problem.constraint.residual(x).abs().max()), True
        if self._folder:
            for name, one, own in zip(names, x, seeds, strict=True):
                self._write(self.where / f"{name}{self.suffix}", one, own)
        else:
            self._kept.append(x)
            self._seeds += seeds
        room = SHOWN - sum(len(rows[0]) for rows in self._shown)
        if self._sheet is not None and room > 0:
            before = problem.beginning if problem.shown is None else problem.shown
            self._shown.append(tuple(part[:room] for part in (before, x, clean) if part is not None))
        self.count += len(x)
        errors = [] if clean is None else psnr(x, clean).tolist()
        return Found(errors, residual)

    def mark(self, condition: Mapping[str, str], signing: Signing | None) -> None:
        """Let every file say that a model changed it, or made it where there are no inputs, and which.

        Args:
            condition: What is given of the model's fields.
            signing: Signs a manifest for each file.
        """
        name, known = self._generator.name, model_hash(self._generator)
        self._origin = Provenance(
            model=name, model_hash=known, conditions=(dict(condition),), source_type=self._source, signing=signing
        )

    def _write(self, path: Path, x: Tensor, *seeds: int) -> None:
        if self._folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        origin = False if self._origin is None else replace(self._origin, seeds=tuple(dict.fromkeys(seeds)))
        self._generator.save(x, path, provenance=origin)

    def finish(self) -> None:
        """Write what is written at once: a single file, and the sheet."""
        import torch

        if self._kept:
            x = torch.cat(self._kept)
            self._write(self.where, x[0] if len(x) == 1 else x, *self._seeds)
        if self._sheet is not None and self._shown:
            from unistep.modalities.writing import write_picture

            titles = {1: ["result"], 2: ["input", "result"], 3: ["input", "result", "original"]}[len(self._shown[0])]
            rows = [torch.cat(column) for column in zip(*self._shown, strict=True)]
            write_picture(self._modality.contact_sheet(list(zip(titles, rows, strict=True))), self._sheet, self._origin)
