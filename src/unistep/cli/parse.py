"""Options from dataclasses, by tyro; its structured errors become one line."""

from __future__ import annotations

import contextlib
import io
import re
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from unistep.spelling import nearest_hint

if TYPE_CHECKING:
    from tyro._errors import ParseErrorEvent


T = TypeVar("T")

FLAG = re.compile(r"--?[A-Za-z][\w.-]*")
"""An option as it is typed, without a value."""


def parse(
    kind: type[T],
    verb: str,
    arguments: Sequence[str],
    *,
    default: T | None = None,
    markers: tuple[Any, ...] = (),
    instead: Mapping[str, str] = MappingProxyType({}),
) -> T:
    """Fill a dataclass from the words of a command line.

    Args:
        kind: The dataclass; a field's docstring is its help.
        verb: What was called, such as ``sample``, for the help and for messages.
        arguments: The words after the verb.
        default: Values of options that are not given, for a dataclass whose own defaults are not enough.
        markers: Further markers of :mod:`tyro.conf`.
        instead: Options that other programs have, and what to use here.

    Raises:
        ValueError: If the words do not fit: one line with the value, what was expected, and the nearest choice.
        SystemExit: With code 0, after the help that was asked for is printed.
    """
    import tyro

    prog = f"unistep {verb}"
    settings: dict[str, Any] = {"prog": prog, "config": (tyro.conf.FlagCreatePairsOff, *markers)}
    if default is not None:
        settings["default"] = default
    if any(word in ("-h", "--help") for word in arguments):
        print(_help(kind, settings), end="")
        raise SystemExit(0)

    def refuse(event: ParseErrorEvent) -> None:
        raise ValueError(_sentence(event, arguments, lambda: _flags(kind, settings), instead))

    # The one place where tyro says in data what is wrong; private, so that pyproject.toml pins its version.
    with tyro._errors.on_parse_error(refuse):
        return tyro.cli(kind, args=list(arguments), **settings)


def option_value(words: Sequence[str], option: str) -> str | None:
    """The last value that the words give an option."""
    found = None
    for i, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name == option:
            found = value if equals else words[i + 1] if i + 1 < len(words) else None
    return found


class _Page(io.StringIO):
    """Collects help, and passes for standard output, which decides about colours and how boxes are drawn."""

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return getattr(sys.__stdout__, "encoding", None) or "ascii"

    def isatty(self) -> bool:
        return sys.__stdout__ is not None and sys.__stdout__.isatty()


def _help(kind: type[Any], settings: dict[str, Any]) -> str:
    """The help of a dataclass, without the marks of reStructuredText that docstrings have."""
    import tyro

    page = _Page()
    with contextlib.redirect_stdout(page), contextlib.suppress(SystemExit):  # tyro leaves the program after the help
        tyro.cli(kind, args=["--help"], **settings)

    def tidy(old: str) -> str:
        new = re.sub(r":\w+:`([^`]*)`", r"\1", old).replace("``", "")
        lost = len(old) - len(new)  # boxes keep their right edge
        return f"{new[:-1]}{' ' * lost}{new[-1]}" if lost and new.endswith("│") else new

    return "\n".join(map(tidy, page.getvalue().split("\n")))


def _flags(kind: type[Any], settings: dict[str, Any]) -> list[str]:
    """The options of a dataclass."""
    import tyro

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # nothing else lists them; the version is pinned
        return list(tyro.extras.get_parser(kind, **settings)._option_string_actions)


def _sentence(
    event: Any, arguments: Sequence[str], known: Callable[[], Sequence[str]], instead: Mapping[str, str]
) -> str:
    """What tyro says is wrong, in one line."""
    from tyro import _errors as errors

    see = f"; see {event.prog} --help"
    unknown = getattr(event, "tokens", None) or getattr(event, "unrecognized_tokens", None)
    if unknown:
        return _unknown(unknown[0], known(), instead, see)
    if isinstance(event, errors.MissingArgs):
        return f"{' and '.join(_name(missing.arg) for missing in event.missing_arguments)} is missing{see}"
    if isinstance(event, errors.InvalidChoice):
        choices = [choice for choice in event.choices if choice != "None"]
        hint = nearest_hint(event.value, choices)
        return f"{_name(event.argument)} must be one of {', '.join(choices)}, got {event.value!r}{hint}"
    if isinstance(event, errors.BadValue):
        return f"{_name(event.argument)} needs a value"
    if isinstance(event, errors.InstantiationFailure):
        return event.message if event.argument is None else _bad_value(event.argument, arguments, event.message, see)
    return f"these options do not go together{see}"


def _name(argument: Any) -> str:
    """An option as a person writes it."""
    return argument.lowered.metavar if argument.is_positional() else argument.display_name()


def _bad_value(argument: Any, arguments: Sequence[str], message: str, see: str) -> str:
    """A value that is no number, or not as many as there should be."""
    name, given = _name(argument), _values(arguments, argument.lowered.name_or_flags)
    kind = argument.field.type_stripped
    kinds = {kind, *get_args(kind)}
    if len(given) == 1 and kinds & {int, float}:
        return f"{name} must be a {'number' if float in kinds else 'whole number'}, got {given[0]!r}"
    if not given:
        return f"{name}: {message}"
    return f"{name} cannot be {' '.join(map(repr, given))}{see}"


def _values(arguments: Sequence[str], names: Sequence[str]) -> list[str]:
    """The words that follow the last mention of an option."""
    found: list[str] = []
    taking = False
    for word in arguments:
        name, equals, value = word.partition("=")
        if FLAG.fullmatch(name):
            taking = name.replace("_", "-") in names
            found = [value] if taking and equals else [] if taking else found
        elif taking:
            found.append(word)
    return found


def _unknown(word: str, known: Sequence[str], instead: Mapping[str, str], see: str) -> str:
    """A word that is no option, with the nearest one that is."""
    if not word.startswith("-"):
        return f"unexpected {word!r}{see}"
    word = word.partition("=")[0].replace("_", "-")
    if word in instead:
        return f"unknown option {word!r}: use {instead[word]}"
    nested = [flag for flag in known if flag.rpartition(".")[2] == word.lstrip("-")]
    hint = f"; did you mean {' or '.join(map(repr, nested))}?" if nested else nearest_hint(word, known)
    return f"unknown option {word!r}{hint or see}"
