"""Where samples come from: the model, its weights, the seeds, the conditions; and what of it a file says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import metadata
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unistep.provenance.signing import Signing

VOCABULARY = "http://cv.iptc.org/newscodes/digitalsourcetype/"
"""The IPTC's vocabulary of digital source types."""
TRAINED = "trainedAlgorithmicMedia"
"""The IPTC's word for what a trained model made from nothing else."""
COMPOSITE = "compositeWithTrainedAlgorithmicMedia"
"""The IPTC's word for a real recording of which a trained model changed something, such as an edited picture."""

PROGRAM = "Unistep"
"""The program that marks name."""

_LISTED = 16  # runs of seeds that are written out


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What one file says of itself."""

    source_type: str
    """A word of the IPTC's vocabulary, such as :data:`TRAINED`."""
    software: str = ""
    """The program that wrote it."""
    model: str = ""
    """Name of the model."""
    model_hash: str = ""
    """SHA-256 of the model's weights, in hexadecimal."""
    seed: str = ""
    """The seed, or several such as ``0-63``."""
    condition: Mapping[str, Any] = field(default_factory=dict)
    """Values of the model's fields by name."""

    @property
    def generated(self) -> bool:
        """Whether a model made it, or a part of it."""
        return self.source_type in (TRAINED, COMPOSITE)


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a batch of samples comes from."""

    model: str
    """Name of the model."""
    model_hash: str
    """SHA-256 of its weights, in hexadecimal."""
    seeds: tuple[int, ...] = ()
    """One for each sample; empty where they are not known."""
    conditions: tuple[Mapping[str, Any], ...] = ()
    """The condition of each sample, as far as it is known; empty where nothing is."""
    source_type: str = TRAINED
    """A word of the IPTC's vocabulary."""
    signing: Signing | None = None
    """Signs a C2PA manifest for each file; none without."""

    def item(self, number: int) -> Provenance:
        """That of one sample of the batch."""
        rows = slice(number, number + 1)
        return replace(self, seeds=self.seeds[rows], conditions=self.conditions[rows])

    @property
    def mark(self) -> Mark:
        """What a file of the whole batch says: of the conditions those parts that all samples share.

        Of a model in a folder it says the folder's name, and not where on somebody's computer it lies.
        """
        first, *others = self.conditions or ({},)
        shared = {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}
        return Mark(
            source_type=self.source_type,
            software=f"{PROGRAM} {program_version()}".strip(),
            model=published_name(self.model),
            model_hash=self.model_hash,
            seed=seeds_text(self.seeds),
            condition=shared,
        )


def together(known: Sequence[Provenance]) -> Provenance:
    """That of one file in which several models, at least one, have a part: all of their names."""
    if len(known) == 1:
        return known[0]
    return replace(known[0], model=", ".join(one.model for one in known), model_hash="")


def published_name(names: str) -> str:
    """Names of models, ``a, b``, without the paths of those that are named by an absolute one."""
    return ", ".join(PurePath(one).name if PurePath(one).is_absolute() else one for one in names.split(", "))


def seeds_text(seeds: Sequence[int]) -> str:
    """Seeds in words, those in a row as a range: ``0-63``, ``3, 8, 20-22``."""
    runs: list[list[int]] = []
    for seed in seeds:
        if runs and seed == runs[-1][1] + 1:
            runs[-1][1] = seed
        else:
            runs.append([seed, seed])
    texts = [str(low) if low == high else f"{low}-{high}" for low, high in runs[:_LISTED]]
    return ", ".join(texts) + (", ..." if len(runs) > _LISTED else "")


@cache
def program_version() -> str:
    """The version of the installed program; empty where it is not installed but only on the path."""
    try:
        return metadata.version("unistep")
    except metadata.PackageNotFoundError:
        return ""
