"""Configurations to and from JSON: frozen dataclasses, unions with a ``type`` tag, unknown keys refused.

A dataclass lists its former keys, with what they are called now, as a class variable ``FORMER_KEYS``, and rewrites
plain data of other former shapes in a class method ``migrated``.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import cattrs

from unistep import registry
from unistep.spelling import nearest

T = TypeVar("T")


def _members(hint: Any) -> tuple[type, ...]:
    """The dataclasses of a union of several dataclasses; empty for any other type."""
    if get_origin(hint) not in (Union, types.UnionType):
        return ()
    members = tuple(m for m in get_args(hint) if m is not type(None))
    return members if len(members) > 1 and all(dataclasses.is_dataclass(m) for m in members) else ()


def _structure_value(value: Any, hint: Any, name: str) -> Any:
    """A value by its type, with its name before the error."""
    try:
        return _converter.structure(value, hint)
    except ValueError as error:
        raise ValueError(f"{name if name.isprintable() else repr(name)}: {error}") from None


@functools.cache
def _hints(kind: type) -> Mapping[str, Any]:
    """The types of a dataclass's fields, which take longer to find than its values take to read."""
    return get_type_hints(kind)


def _structure_dataclass(data: Any, kind: type) -> Any:
    """Build a dataclass from a mapping, naming the unknown or badly typed key."""
    if not isinstance(data, Mapping):
        raise ValueError(f"{kind.__name__} needs a mapping of its fields, got {data!r}")
    data = getattr(kind, "migrated", lambda plain: plain)(data)
    fields = {field.name for field in dataclasses.fields(kind)}
    former: Mapping[str, str] = getattr(kind, "FORMER_KEYS", {})
    data = {former.get(str(key), key): value for key, value in data.items()}
    hints = _hints(kind)
    for key in data:
        if key not in fields:
            raise ValueError(f"{kind.__name__} has no key {key!r}; {nearest(str(key), list(fields))}")
    values = {key: _structure_value(value, hints[key], key) for key, value in data.items()}
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(f"{kind.__name__}: {error}") from None


def _kind(hint: Any) -> Any:
    """The kind of a base class whose implementations are registered by name; ``None`` for any other type."""
    return vars(hint).get("REGISTRY_KIND") if isinstance(hint, type) else None


def _tagged(hint: Any) -> bool:
    """Whether a value is one of several dataclasses, which its ``type`` tag distinguishes."""
    return _kind(hint) is not None or bool(_members(hint))


# cattrs' own `configure_tagged_union` and `include_subclasses` take a wrong tag for a missing one, and must know all
# classes beforehand, which would import every network and every objective.
def _structure_tagged(data: Any, hint: Any) -> Any:
    """Build the registered implementation, or the member of a union, that the ``type`` tag names."""
    kind, members = _kind(hint), {member.__name__: member for member in _members(hint)}
    if data is None and type(None) in get_args(hint):
        return None
    names = registry.names(kind) if kind else tuple(members)
    if not isinstance(data, Mapping):
        raise ValueError(f"needs a mapping with a 'type' key, one of {', '.join(names)}, got {data!r}")
    # Without a tag it is the first: a field that had one type only when the file was written.
    tag = str(data.get("type", names[0]))
    if not kind and tag not in members:
        raise ValueError(f"unknown type {tag!r}; {nearest(tag, members)}")
    made = _part(hint, registry.lookup(kind, tag)) if kind else members[tag]
    return _structure_dataclass({key: value for key, value in data.items() if key != "type"}, made)


def _part(hint: Any, found: Any) -> Any:
    """What is registered, or the class attribute of it that a base class names as its ``REGISTRY_PART``."""
    return getattr(found, hint.REGISTRY_PART) if _has_part(hint) else found


def _has_part(hint: Any) -> bool:
    return isinstance(hint, type) and "REGISTRY_PART" in vars(hint)


def _unstructure_tagged(hint: Any) -> Callable[[Any], Any]:
    """How a value of several dataclasses is written: with its tag first."""
    kind = _kind(hint)

    def unstructure(value: Any) -> Any:
        if value is None:
            return None
        if _has_part(hint):
            tag = next(name for name, found in registry.entries(kind).items() if _part(hint, found) is type(value))
        else:
            tag = registry.name_of(kind, value) if kind else type(value).__name__
        return {"type": tag, **_converter.unstructure(value, type(value))}

    return unstructure


def _structure_scalar(data: Any, kind: type) -> Any:
    """A number, bool or string that is one already: no silent rounding, no numbers in quotes."""
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if not isinstance(data, kind) or (kind is not bool and isinstance(data, bool)):
        raise ValueError(f"expected {kind.__name__}, got {data!r}")
    return data


def _structure_tuple(data: Any, hint: Any) -> Any:
    """A list; a string is not taken for a list of its letters."""
    kinds = get_args(hint)
    if not isinstance(data, list | tuple):
        raise ValueError(f"expected a list, got {data!r}")
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = kinds[:1] * len(data)
    if len(data) != len(kinds):
        raise ValueError(f"expected {len(kinds)} values, got {data!r}")
    return tuple(_converter.structure(value, kind) for value, kind in zip(data, kinds, strict=True))


def _structure_mapping(data: Any, hint: Any) -> Any:
    """A mapping, each value by its type."""
    if not isinstance(data, Mapping):
        raise ValueError(f"expected a mapping, got {data!r}")
    key_kind, value_kind = get_args(hint)
    pairs = ((_converter.structure(key, key_kind), key, value) for key, value in data.items())
    return {structured: _structure_value(value, value_kind, str(key)) for structured, key, value in pairs}


def _structure_literal(data: Any, hint: Any) -> Any:
    """One of a few words."""
    choices = get_args(hint)
    if not any(type(data) is type(choice) and data == choice for choice in choices):
        raise ValueError(f"unknown value {data!r}; {nearest(str(data), [str(choice) for choice in choices])}")
    return data


def _structure_choice(data: Any, hint: Any) -> Any:
    """The first member of a union of plain types, ``None`` among them, that ``data`` fits."""
    members = get_args(hint)
    if data is None and type(None) in members:
        return None
    problems = []
    for member in members:
        if member is not type(None):
            try:
                return _converter.structure(data, member)
            except ValueError as error:
                problems.append(str(error))
    raise ValueError(", or ".join(problems))


def _from(*origins: Any) -> Callable[[Any], bool]:
    """A test for types made from one of ``origins``, but for unions of dataclasses."""
    return lambda hint: get_origin(hint) in origins and not _members(hint)


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=False)
    converter.register_structure_hook_func(dataclasses.is_dataclass, _structure_dataclass)
    converter.register_structure_hook_func(_tagged, _structure_tagged)
    converter.register_unstructure_hook_factory(_tagged, _unstructure_tagged)
    for kind in (int, float, bool, str):
        converter.register_structure_hook(kind, _structure_scalar)
    for origin, hook in (
        ((tuple,), _structure_tuple),
        ((dict,), _structure_mapping),
        ((Literal,), _structure_literal),
        ((Union, types.UnionType), _structure_choice),
    ):
        converter.register_structure_hook_func(_from(*origin), hook)
    return converter


_converter = _make_converter()


def to_plain(value: Any) -> Any:
    """A configuration as plain dicts, lists and scalars."""
    return _converter.unstructure(value)


def from_plain(kind: type[T], data: Any) -> T:
    """The configuration that plain data describes.

    Raises:
        ValueError: For an unknown key, a value of the wrong type or an unknown tag, naming it and the nearest choice.
    """
    return _converter.structure(data, kind)


def read_json(kind: type[T], path: Path) -> T:
    """Read a configuration file.

    Raises:
        ValueError: If the file is missing, is not JSON or does not describe a ``kind``; the message names the file.
    """
    try:
        return from_plain(kind, json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: not readable as JSON ({error})") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
