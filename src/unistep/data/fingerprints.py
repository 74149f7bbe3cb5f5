"""What a data set is beyond its numbers, in a form that does not change when classes of this package are renamed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unistep.core.condition import AnyField
from unistep.core.text_fields import TextField
from unistep.serialization import from_plain, to_plain

_TAGS = {"label": "Field", "scalar": "Range"}
"""What fields were called when the first fingerprints were written."""
_FORMER = {new: old for old, new in TextField.FORMER_KEYS.items()}
"""Keys by what they were called then."""


def described_fields(fields: Mapping[str, AnyField]) -> dict[str, Any]:
    """Fields for the hash; what most lack is left out."""
    described = {}
    for name, spec in fields.items():
        plain = {key: value for key, value in to_plain(spec).items() if key not in ("type", "numbers") or value}
        plain.pop("type", None)
        plain = {_FORMER.get(key, key): value for key, value in plain.items()}
        described[name] = {"type": _TAGS.get(spec.kind, spec.kind), **plain}
    return described


@dataclass(frozen=True, kw_only=True)
class _Fields:
    fields: dict[str, AnyField]


def plain_fields(fields: Mapping[str, AnyField]) -> dict[str, Any]:
    """Fields as a file holds them."""
    return to_plain(_Fields(fields=dict(fields)))["fields"]


def fields_of(plain: Mapping[str, Any]) -> dict[str, AnyField]:
    """Inverse of :func:`plain_fields`."""
    return from_plain(_Fields, {"fields": plain}).fields
