"""Writing samples with where they come from: to a file, a folder, or an open binary file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from torch import Tensor

from unistep.core.condition import Value, asked, parse_condition
from unistep.generation.requests import seeds_of
from unistep.modalities import writing
from unistep.provenance import TRAINED, Provenance, Signing, check_signing, mark_content
from unistep.weights import weights_hash

if TYPE_CHECKING:
    from unistep.generation.generator import Generator

_HASHES: WeakKeyDictionary[Generator, tuple[tuple[tuple[int, int], ...], str]] = WeakKeyDictionary()
"""Hash of each generator's weights, and the state in which they had it."""

Marking = Provenance | bool
"""Where samples come from; or whether files say so, as far as the model alone tells."""


def model_hash(generator: Generator) -> str:
    """SHA-256 of the network's weights as they are in memory, in hexadecimal; found once as long as they stay so."""
    weights = generator.map.net.state_dict()
    if any(one.is_inference() for one in weights.values()):
        return weights_hash(weights)  # which do not count their changes
    state = tuple((one.data_ptr(), one._version) for one in weights.values())
    if _HASHES.get(generator, ((), ""))[0] != state:
        _HASHES[generator] = (state, weights_hash(weights))
    return _HASHES[generator][1]


def provenance_of(
    generator: Generator,
    num: int | None = None,
    *,
    seed: Any = None,
    condition: Mapping[str, Any] | None = None,
    source_type: str = TRAINED,
    signing: Signing | None = None,
) -> Provenance:
    """Where samples come from that :meth:`Generator.sample` draws with these arguments.

    Args:
        generator: The model.
        num: Number of samples.
        seed: As in :meth:`Generator.sample`; not known without.
        condition: What is given of the model's fields.
        source_type: A word of the IPTC's vocabulary.
        signing: Signs a C2PA manifest for each file.

    Raises:
        ValueError: If a seed or a condition is none.
    """
    seeds = [] if seed is None else seeds_of(num, seed)
    conditions = conditions_in_words(generator, seeds, condition or {}) if seeds else [dict(condition or {})]
    return Provenance(
        model=generator.name,
        model_hash=model_hash(generator),
        seeds=tuple(seeds),
        conditions=tuple(conditions),
        source_type=source_type,
        signing=signing,
    )


def conditions_in_words(
    generator: Generator, seeds: Sequence[int], given: Mapping[str, Any], completed: Mapping[str, Value] | None = None
) -> list[dict[str, str | float]]:
    """The condition of each sample: what is given, and what is drawn from its seed.

    Values that have no words, such as a reference signal, are left out; of a text it is the text itself.

    Args:
        generator: The model.
        seeds: One for each sample.
        given: One value, or one for each sample, by the field's name.
        completed: What :meth:`Generator.completed` makes of it; found without.
    """
    fields = asked(generator.config.fields)
    found: list[dict[str, str | float]] = [{} for _ in seeds]
    for name, value in given.items():
        if name in fields and value is not None and not isinstance(value, Value):
            several = [value] * len(seeds) if fields[name].is_one(value) else list(value)
            for words, one in zip(found, several, strict=False):
                if isinstance(one, str | Path | int | float):
                    words[name] = one if isinstance(one, int | float) else str(one)
    if completed is None:
        exact = {name: one for name, one in given.items() if name in fields and fields[name].words(None) is not None}
        completed = generator.completed(parse_condition(fields, exact, len(seeds)), seeds)
    for name, value in completed.items():
        known = fields[name].words(value) if name in fields else None
        for words, one in zip(found, known or (), strict=False):
            words[name] = one
    return found


def save_samples(
    generator: Generator,
    x: Tensor,
    path: str | Path | IO[bytes],
    *,
    format: str | None = None,
    provenance: Marking = True,
) -> None:
    """Write samples; see :meth:`Generator.save`."""
    modality = generator.modality
    if not isinstance(path, str | Path):
        if format is None:
            raise ValueError("an open file has no name that says its format; give one, such as format='png'")
        path.write(encode_samples(generator, x, format, provenance))
        return
    if format is not None:
        raise ValueError(f"the format of {path} is that of its name; leave format out")
    found = resolved(generator, provenance)
    if found is None:
        modality.save(x, path)
        return
    modality.check_path(path)
    if not writing.is_folder(path):
        suffix = Path(path).suffix.lower()
        try:
            writing.write_whole(path, lambda file: file.write(mark_content(modality.encode(x, suffix), suffix, found)))
        except writing.TooLargeError as error:
            raise ValueError(f"cannot write {path}: {error}; use .png or a folder") from None
        return
    suffix = Path(modality.example).suffix
    check_signing(suffix, found)
    items = x.reshape(-1, *x.shape[-len(modality.shape) :])

    def write(item: Tensor, known: Provenance, place: Path) -> None:
        place.write_bytes(mark_content(modality.encode(item, suffix), suffix, known))

    writers = [partial(write, item, found.item(number)) for number, item in enumerate(items)]
    writing.fill_folder(writers, path, suffix)


def encode_samples(generator: Generator, x: Tensor, format: str, provenance: Marking = True) -> bytes:
    """Samples as the bytes of one file; see :meth:`Generator.encode`."""
    content = generator.modality.encode(x, format)
    return mark_content(content, f".{format.lower().lstrip('.')}", resolved(generator, provenance))


def resolved(generator: Generator, provenance: Marking) -> Provenance | None:
    """What is to be written of the origin; ``None`` for nothing."""
    if isinstance(provenance, Provenance):
        return provenance
    return provenance_of(generator) if provenance else None
