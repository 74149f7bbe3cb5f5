"""Data with classes, split before anything is trained, and its classes among those of a model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unistep.core.condition import AnyField, LabelField
from unistep.data.dataset import Dataset
from unistep.data.tensors import Subset
from unistep.spelling import nearest

_AT_ONCE = 512  # items that are read together


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassedData:
    """Signals with a class each."""

    dataset: Dataset
    """The items."""
    field: str
    """The field whose values are the classes."""
    names: tuple[str, ...]
    """A name for each class."""
    index: np.ndarray
    """The class of each item, int64 ``[n]`` from 0."""

    @classmethod
    def of(cls, dataset: Dataset, field: str | None = None) -> ClassedData:
        """The items that have a class.

        Args:
            dataset: Any data.
            field: The field of the classes; ``label``, or the only one there is, without.

        Raises:
            ValueError: If there are no classes, or several fields of them.
        """
        name, spec = class_field(dataset.fields, field, dataset.source)
        index = np.concatenate(
            [
                dataset.conditions(range(start, min(start + 4096, len(dataset))))[name].tensors["index"].numpy()
                for start in range(0, len(dataset), 4096)
            ]
        ).astype(np.int64)
        known = np.flatnonzero(index >= 0)
        if len(np.unique(index[known])) < 2:
            raise ValueError(
                f"{dataset.source} has fewer than two classes; put the files of each into a folder of its own"
            )
        return cls(
            dataset=dataset if len(known) == len(index) else Subset(dataset, known),
            field=name,
            names=tuple(str(one) for one in (spec.names or spec.written)),
            index=index[known],
        )

    def __len__(self) -> int:
        return len(self.index)

    @property
    def present(self) -> list[int]:
        """The classes that have items."""
        return np.unique(self.index).tolist()

    @property
    def counts(self) -> dict[str, int]:
        """Items of each class that has any, by name."""
        return {self.names[one]: int((self.index == one).sum()) for one in self.present}

    def only(self, rows: Sequence[int] | np.ndarray) -> ClassedData:
        """Some of the items."""
        chosen = np.asarray(rows, np.int64)
        return ClassedData(
            dataset=Subset(self.dataset, chosen), field=self.field, names=self.names, index=self.index[chosen]
        )

    def rows(self, of_class: int) -> np.ndarray:
        """Numbers of the items of a class."""
        return np.flatnonzero(self.index == of_class)

    def signals(self, rows: Sequence[int] | np.ndarray | None = None) -> Float[Tensor, "n *shape"]:
        """The signals of some items, or of all."""
        chosen = np.arange(len(self)) if rows is None else np.asarray(rows, np.int64)
        parts = [self.dataset.batch(chosen[i : i + _AT_ONCE])[0] for i in range(0, len(chosen), _AT_ONCE)]
        return self.dataset.modality.to_signal(torch.cat(parts))

    def check_counts(self, least: int, purpose: str) -> None:
        """Refuse classes with too few items.

        Raises:
            ValueError: Naming the smallest.
        """
        name, count = min(self.counts.items(), key=lambda pair: pair[1])
        if count < least:
            raise ValueError(
                f"class {name!r} of {self.dataset.source} has {count} item{'' if count == 1 else 's'}; {purpose} needs "
                f"at least {least} of each class"
            )

    def split(self, share: float, seed: int = 0) -> tuple[ClassedData, ClassedData]:
        """Two parts without a common item, each with its share of every class.

        Args:
            share: Of the second part, at least one item of each class.
            seed: Of the order in which items are drawn.

        Raises:
            ValueError: If a class has one item only.
        """
        self.check_counts(2, "splitting")
        first, second = [], []
        for one in self.present:
            rows = np.random.default_rng((seed, one)).permutation(self.rows(one))
            cut = min(len(rows) - 1, max(1, round(share * len(rows))))
            second.append(rows[:cut])
            first.append(rows[cut:])
        return self.only(np.sort(np.concatenate(first))), self.only(np.sort(np.concatenate(second)))

    def at_most(self, num: int, seed: int = 0) -> ClassedData:
        """No more than about ``num`` items, the same share of every class."""
        if len(self) <= num:
            return self
        chosen = []
        for one in self.present:
            rows = np.random.default_rng((seed, one)).permutation(self.rows(one))
            chosen.append(rows[: max(1, round(num * len(rows) / len(self)))])
        return self.only(np.sort(np.concatenate(chosen)))

    def few(self, each: int, seed: int = 0) -> ClassedData:
        """``each`` items of every class; more of them hold the fewer.

        Raises:
            ValueError: If a class has fewer.
        """
        self.check_counts(each, f"--real {each}")
        chosen = [np.random.default_rng((seed, one)).permutation(self.rows(one))[:each] for one in self.present]
        return self.only(np.sort(np.concatenate(chosen)))


@dataclass(frozen=True, kw_only=True)
class Matched:
    """Which value of a model's field each class of the data is."""

    field: str
    """The model's field."""
    values: Mapping[int, Any]
    """What to give the model for each class of the data that has items."""


def class_field(fields: Mapping[str, AnyField], wanted: str | None, whose: str) -> tuple[str, LabelField]:
    """The field of the classes.

    Raises:
        ValueError: If there is none, or nobody can tell which.
    """
    found = {name: spec for name, spec in fields.items() if isinstance(spec, LabelField)}
    if wanted is not None and wanted not in found:
        raise ValueError(
            f"{whose} has no classes {wanted!r}; {nearest(wanted, list(found)) if found else 'it has none'}"
        )
    name = wanted or ("label" if "label" in found else None)
    if name is None and len(found) != 1:
        known = f"several: {', '.join(found)}; choose one with --field" if found else "no classes"
        raise ValueError(f"{whose} has {known}")
    name = name or next(iter(found))
    return name, found[name]


def match_classes(data: ClassedData, fields: Mapping[str, AnyField], model: str, field: str | None = None) -> Matched:
    """Find the classes of data among those of a model, by name, or by number where one of the two has no names.

    Args:
        data: The data.
        fields: What the model takes.
        model: Its name, for messages.
        field: The model's field of these classes; that of the data's name, or the only one there is, without.

    Raises:
        ValueError: If the model takes no classes, or has not all of them.
    """
    name, spec = class_field(fields, field or (data.field if data.field in fields else None), model)
    names, lowered = list(spec.names), [folder_name(one).lower() for one in spec.names]
    values: dict[int, Any] = {}
    numbered = _by_number(data, spec)
    for one in data.present:
        text = data.names[one]
        if text in names:
            values[one] = spec.known[names.index(text)]
        elif folder_name(text).lower() in lowered:
            values[one] = spec.known[lowered.index(folder_name(text).lower())]
        elif one in numbered:
            values[one] = spec.known[numbered[one]]
        else:
            known = nearest(text, spec.names or [str(number) for number in spec.written])
            raise ValueError(f"the model {model} has no class {text!r} that {data.dataset.source} has; {known}")
    return Matched(field=name, values=values)


def _by_number(data: ClassedData, spec: LabelField) -> dict[int, int]:
    """Which of a model's classes each class is whose name is a number: that number, or where the model has not all of
    them but as many classes (1 to 10 for 0 to 9), its place in their order. All classes go by the same rule.
    """
    if all(name.isdecimal() for name in data.names) and len(data.names) == spec.size:
        numbers = [int(name) for name in data.names]
        in_a_row = all(max(each) - min(each) == len(each) - 1 for each in (numbers, spec.written))
        if not set(numbers) <= set(spec.written) and (spec.names or in_a_row):
            return {one: place for place, one in enumerate(np.argsort(numbers, kind="stable").tolist())}
    given = {one: int(name) for one, name in enumerate(data.names) if name.isdecimal()}
    return {one: spec.written.index(number) for one, number in given.items() if number in spec.written}


def class_folders(names: Sequence[str]) -> list[str]:
    """A folder for each class, of which no two are one, on a disk that does not tell capitals either."""
    found: list[str] = []
    taken: set[str] = set()
    for name in names:
        own, number = folder_name(name), 2
        while own.lower() in taken:
            own, number = f"{folder_name(name)} ({number})", number + 1
        taken.add(own.lower())
        found.append(own)
    return found


def folder_name(text: str) -> str:
    """The name of a class as that of a folder."""
    return re.sub(r"[^\w .+-]", "_", text).strip(". ") or "_"
