"""Bulk generation: any number of samples in shards, each of which depends on its number alone.

A sample belongs to its index, and a batch never reaches beyond its shard, so that it does not matter how often the work
is interrupted, or how many processes and machines share it.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from unistep.core.condition import Condition, LabelField, labels, parse_condition, to_device
from unistep.core.seeding import ItemGenerators, normal
from unistep.files import DiskError, check_readable, write_text
from unistep.generation.requests import check_number, check_seed, plan_of, sample_seeds
from unistep.generation.saving import conditions_in_words, model_hash
from unistep.generation.shards import NAME, ShardItem, item_files, write_shard
from unistep.precision import autocast
from unistep.provenance import Provenance, Signing, mark_content

if TYPE_CHECKING:
    from unistep.generation.generator import Generator

MANIFEST = "manifest.json"
"""What a folder of shards was made by; a run that resumes must agree with it."""
FORMAT = "unistep-shards-1"
"""The format of such a folder."""
OMITTED = {"signed": False}
"""What manifests mean that do not say so, as those of earlier versions."""

_NUMBERED = 9  # digits of an index


@dataclass(frozen=True, kw_only=True)
class BulkPlan:
    """What is generated; the same plan gives the same files on the same kind of machine."""

    num: int
    """Number of samples."""
    shard_size: int
    """Samples in a shard; the last one may have fewer."""
    seed: int = 0
    """Seed of the first sample; sample ``i`` belongs to ``seed + i``."""
    condition: Mapping[str, Any] = field(default_factory=dict)
    """Values of the model's fields that all samples have."""
    balance: str = ""
    """A field of classes of which sample ``i`` has the class ``i`` modulo their number; empty for none."""
    steps: int | None = None
    """Sampling steps; the model's default without."""
    times: tuple[float, ...] = ()
    """Sampling times; the model's own without."""
    solver: str | None = None
    """ODE solver, for denoisers."""
    guidance: float | None = None
    """Guidance weight."""
    batch_size: int = 64
    """Samples that go through the network together."""
    marked: bool = True
    """Whether files say that a model made them."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: Naming the option, its value and what was expected.
        """
        for name in ("num", "shard_size", "batch_size"):
            check_number(name, getattr(self, name), 1)
        check_seed(self.seed, self.num)

    @property
    def shards(self) -> int:
        """Number of shards."""
        return math.ceil(self.num / self.shard_size)

    def rows(self, shard: int) -> range:
        """The indices of the samples of a shard."""
        return range(shard * self.shard_size, min(self.num, (shard + 1) * self.shard_size))


class Bulk:
    """A plan, a model and a folder.

    Args:
        generator: The model.
        plan: What is generated.
        folder: Where shards go.
        signing: Signs each file.

    Raises:
        ValueError: If the model cannot take the condition, or the folder was made by another plan.
    """

    def __init__(self, generator: Generator, plan: BulkPlan, folder: Path, signing: Signing | None = None) -> None:
        self.generator, self.plan, self.folder, self._signing = generator, plan, folder, signing
        self._suffix = Path(generator.modality.example).suffix
        self._hash = model_hash(generator)
        self._sampling, given = plan_of(
            generator, plan.steps, plan.times or None, plan.solver, plan.guidance, dict(plan.condition)
        )
        self._given = given
        parse_condition(generator.config.fields, given, 1, generator.modality.load)
        if plan.balance and not isinstance(generator.config.fields.get(plan.balance), LabelField):
            raise ValueError(f"{generator.name} has no classes {plan.balance!r} that could be balanced")

    @property
    def described(self) -> dict[str, Any]:
        """What the manifest says."""
        made = {"format": FORMAT, "model": self.generator.name, "model_hash": self._hash}
        made |= {"precision": self.generator.precision, "file": self._suffix, "signed": self._signing is not None}
        return {**made, **json.loads(json.dumps(asdict(self.plan), default=str))}

    def begin(self) -> None:
        """Write the manifest, or check that an earlier run's is the same.

        Raises:
            ValueError: If the folder holds something else, naming what differs.
        """
        place = self.folder / MANIFEST
        if not self.folder.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
        others = [entry.name for entry in self.folder.iterdir() if not entry.name.startswith(".")]
        if not place.exists():
            if others:
                raise ValueError(f"cannot write shards into {self.folder}: it holds other files ({sorted(others)[0]})")
            write_text(place, json.dumps(self.described, indent=2, ensure_ascii=False) + "\n")
        known = read_manifest(self.folder)
        for name, value in self.described.items():
            before = known.get(name, OMITTED.get(name))
            if before != value:
                raise ValueError(
                    f"{self.folder} was begun with {name} {before!r}, and this run has {value!r}; "
                    "give another folder, or the same options"
                )

    def path(self, shard: int) -> Path:
        """The file of a shard."""
        return self.folder / NAME.format(shard)

    def pending(self, part: int = 0, parts: int = 1) -> list[int]:
        """The shards that are not there yet, of those whose number is ``part`` modulo ``parts``."""
        return [shard for shard in range(part, self.plan.shards, parts) if not self.path(shard).exists()]

    def write(self, shard: int) -> int:
        """Generate a shard; returns how many samples it has.

        Raises:
            DiskError: If there is no room for it; nothing of it is left, and all others are whole.
        """
        rows = self.plan.rows(shard)
        try:
            write_shard(self.path(shard), self._items(rows))
        except DiskError as error:
            whole = sum(self.path(number).exists() for number in range(self.plan.shards))
            raise DiskError(
                f"{error}; {whole} of {self.plan.shards} shards are whole: the same command goes on when there is room"
            ) from None
        return len(rows)

    def _items(self, rows: range) -> Iterator[ShardItem]:
        """The samples of a shard, batch by batch."""
        for begin in range(rows.start, rows.stop, self.plan.batch_size):
            yield from self._batch(range(begin, min(rows.stop, begin + self.plan.batch_size)))

    def _batch(self, indices: Sequence[int]) -> Iterator[ShardItem]:
        generator, seeds = self.generator, [self.plan.seed + index for index in indices]
        given = self._condition(indices)
        parsed = parse_condition(generator.config.fields, given, len(seeds), generator.modality.load)
        full = generator.completed(parsed, seeds)
        x = sample_seeds(generator, seeds, self._sampling, full, batch_size=len(seeds))
        conditions = conditions_in_words(generator, seeds, given, full)
        known = Provenance(
            model=generator.name,
            model_hash=self._hash,
            seeds=tuple(seeds),
            conditions=tuple(conditions),
            signing=self._signing,
        )
        classes = class_numbers(generator, full)
        for row, index in enumerate(indices):
            content = generator.modality.encode(x[row], self._suffix)
            marked = mark_content(content, self._suffix, known.item(row) if self.plan.marked else None)
            facts = {"index": index, "seed": seeds[row], "model": generator.name, "condition": conditions[row]}
            label = classes[row] if classes else None
            yield ShardItem(key=f"{index:0{_NUMBERED}d}", files=item_files(self._suffix, marked, facts, label))

    def _condition(self, indices: Sequence[int]) -> dict[str, Any]:
        """What is given of the fields of some samples, by name."""
        if not self.plan.balance:
            return dict(self._given)
        spec = self.generator.config.fields[self.plan.balance]
        assert isinstance(spec, LabelField)
        return {**self._given, self.plan.balance: [spec.known[index % spec.size] for index in indices]}


def class_numbers(generator: Generator, condition: Condition) -> list[int]:
    """The class of each sample, from 0, where the model has one field of classes; empty where not."""
    named = [name for name, spec in generator.config.fields.items() if isinstance(spec, LabelField)]
    if len(named) != 1 or named[0] not in labels(condition):
        return []
    return condition[named[0]].tensors["index"].tolist()


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a folder of shards was made by.

    Raises:
        ValueError: If there is none that can be read.
    """
    place = folder / MANIFEST
    check_readable(place)
    try:
        known = json.loads(place.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{place} is damaged: {error}") from None
    if not isinstance(known, dict) or known.get("format") != FORMAT:
        raise ValueError(f"{place} is no manifest of shards")
    return known


@torch.inference_mode()
def network_rate(generator: Generator, batch_size: int, calls: int, seconds: float = 1.0) -> float | None:
    """Samples a second that the bare network could make: its calls alone, in batches.

    Args:
        generator: The model.
        batch_size: Items in a batch.
        calls: Network calls for each sample.
        seconds: How long to measure.

    Returns:
        The rate; ``None`` for a streaming model, whose network cannot be called without a past.
    """
    if generator.config.context is not None:
        return None
    seeds = list(range(batch_size))
    x = normal((batch_size, *generator.shape), ItemGenerators(seeds)).to(generator.device)
    t = generator.times(1).to(generator.device).expand(batch_size)
    condition = to_device(generator.completed({}, seeds), generator.device)
    count, began = 0, 0.0
    with autocast(generator.precision, generator.device):
        for number in range(1_000_000):
            generator.map(x, t, condition=condition)
            if number == 0:  # the first call prepares
                began = time.perf_counter()
                continue
            count += 1
            if time.perf_counter() - began > seconds:
                break
    return count * batch_size / ((time.perf_counter() - began) * calls)
