"""The options of commands by which files say where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unistep.provenance import Provenance, Signing, check_signing

if TYPE_CHECKING:
    from unistep.generation.generator import Generator


@dataclass(frozen=True, kw_only=True)
class MarkingOptions:
    """What files say of their origin."""

    unmarked: bool = False
    """Do not say in the file that a model made it, and which, from which seed and condition."""
    sign: tuple[Path, ...] = ()
    """Also sign a C2PA manifest: a certificate chain and its private key, both files in PEM form."""


def read_signing(options: MarkingOptions, suffix: str | None) -> Signing | None:
    """The certificate of ``--sign``, once it is known to be of use; before long work.

    Args:
        options: What was typed.
        suffix: How the name of the file ends that is to be signed; ``None`` for a pipe.

    Raises:
        ValueError: If the options do not go together, the files cannot be read, or such a file holds no signature.
    """
    if not options.sign:
        return None
    if options.unmarked:
        raise ValueError("--unmarked and --sign do not go together; leave one of them out")
    if len(options.sign) != 2:
        raise ValueError(f"--sign needs a certificate chain and its key, two files, got {len(options.sign)}")
    if suffix is None:
        raise ValueError("--sign needs a file; a pipe of raw values holds no signature")
    signing = Signing.load(*options.sign)
    check_signing(suffix, Provenance(model="", model_hash="", signing=signing))
    return signing


def provenance_for(
    generator: Generator,
    options: MarkingOptions,
    signing: Signing | None,
    num: int,
    seed: int,
    condition: Mapping[str, Any],
) -> Provenance | None:
    """Where the samples of a command come from; ``None`` where nobody is to know.

    Args:
        generator: The model.
        options: What was typed.
        signing: Of :func:`read_signing`.
        num: Number of samples.
        seed: The first seed.
        condition: What is given of the model's fields.
    """
    from unistep.generation.saving import provenance_of

    if options.unmarked:
        return None
    return provenance_of(generator, num, seed=seed, condition=condition, signing=signing)
