"""Options from dataclasses and from what a model can be told, by tyro, with its boxed messages made into one line."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, fields, make_dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

from unistep.spelling import nearest_hint

if TYPE_CHECKING:
    from unistep.generation.model_config import ModelConfig

T = TypeVar("T")

_UNBROKEN = 100_000
"""Columns of a terminal so wide that a message has no line breaks, and can be read back as it was written."""
_PAGE = 80
"""Columns in which help is set one option after the other."""
_FLAG = re.compile(r"(?<![\w-])--?[A-Za-z][\w.-]*")


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
    prog = f"unistep {verb}"
    if any(word in ("-h", "--help") for word in arguments):
        print(_tidy(_help(kind, prog, default, markers, terminal=True)), end="")
        raise SystemExit(0)
    errors = _Page()
    with _columns(_UNBROKEN), contextlib.redirect_stderr(errors), contextlib.redirect_stdout(_Page()):
        try:
            options, unknown = _tyro(kind, prog, arguments, default, markers)
        except SystemExit:
            options, unknown = None, []
    if options is None:
        raise ValueError(_sentence(errors.getvalue(), prog))
    if unknown:
        raise ValueError(_unknown(unknown, prog, flags(_help(kind, prog, default, markers)), instead))
    return cast(T, options)


def model_word(arguments: Sequence[str], kind: type[Any]) -> str | None:
    """The model among the words of a command: the first that is neither an option nor an option's value.

    Args:
        arguments: The words after the verb.
        kind: The command's options; a tuple takes all words up to the next option, but leaves the last word of the
            command to a model that has not come yet; any other option takes one.
    """
    many = {f"--{option.name.replace('_', '-')}" for option in fields(kind) if str(option.type).startswith("tuple[")}
    left = list(arguments)
    while left:
        word = left.pop(0)
        if word in ("-h", "--help"):
            continue
        if not word.startswith("-"):
            return word
        if "=" in word:
            continue
        if word.replace("_", "-") in many:
            while left and not _FLAG.fullmatch(left[0].partition("=")[0]):
                word = left.pop(0)
                if not left:
                    return word
        elif left:
            left.pop(0)
    return None


def with_conditions(
    kind: type[Any], config: ModelConfig, what: str, *, without: str = "drawn for each sample from its seed"
) -> tuple[type[Any], list[str]]:
    """The options of a command with those of a model.

    Args:
        kind: The command's own options.
        config: The model; each of its conditions becomes an option, except one named like an option of the command.
        what: What the command does, for its help.
        without: What a condition without a default is where it is not given.

    Returns:
        The options, and the names of the conditions among them.
    """
    import tyro

    own = {option.name for option in fields(kind)}
    extra = []
    for name, spec in config.fields.items():
        if name in own:
            continue
        otherwise = without if spec.default_text is None else spec.default_text
        described = Annotated[str | None, tyro.conf.arg(help=f"{spec.choices}; without, {otherwise}.")]
        extra.append((name, described, field(default=None, kw_only=True)))
    made = make_dataclass(kind.__name__, extra, bases=(kind,), frozen=True, kw_only=True)
    made.__doc__ = what
    return made, [name for name, _, _ in extra]


def check_conditions(arguments: Sequence[str], kind: type[Any], config: ModelConfig, model: str) -> None:
    """Refuse what other models can be told and this one cannot, rather than look for an option that is like it.

    Args:
        arguments: The words after the verb.
        kind: The command's own options.
        config: The model.
        model: How it was asked for.

    Raises:
        ValueError: Naming the condition, and those that the model takes.
    """
    from unistep.core.condition import CONDITIONS

    own = {option.name for option in fields(kind)} | set(config.fields)
    for word in () if {"-h", "--help"} & set(arguments) else arguments:
        name = word.partition("=")[0].removeprefix("--")
        if word.startswith("--") and name in CONDITIONS and name not in own:
            taken = ", ".join(f"--{field}" for field in config.fields)
            raise ValueError(f"the model {model} takes no --{name}; it takes {taken or 'no condition'}")


def _tyro(
    kind: type[Any], prog: str, arguments: Sequence[str], default: Any, markers: tuple[Any, ...]
) -> tuple[Any, list[str]]:
    import tyro

    given = {} if default is None else {"default": default}
    config = (tyro.conf.FlagCreatePairsOff, *markers)
    return tyro.cli(kind, prog=prog, args=list(arguments), return_unknown_args=True, config=config, **given)


class _Page(io.StringIO):
    """Collects text, in UTF-8 where nobody sees it; for a terminal, it passes for standard output."""

    def __init__(self, *, terminal: bool = False) -> None:
        super().__init__()
        self._terminal = terminal

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What decides whether boxes are drawn in lines or in ASCII."""
        return getattr(sys.__stdout__, "encoding", None) or "ascii" if self._terminal else "utf-8"

    def isatty(self) -> bool:
        return self._terminal and sys.__stdout__ is not None and sys.__stdout__.isatty()


def _help(kind: type[Any], prog: str, default: Any, markers: tuple[Any, ...], *, terminal: bool = False) -> str:
    """The help text of a dataclass; for a terminal, in its width and colours."""
    text = _Page(terminal=terminal)
    width = contextlib.nullcontext() if terminal else _columns(_PAGE)
    # tyro leaves the program after the help; here it is only read.
    with width, contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        _tyro(kind, prog, ["--help"], default, markers)
    return text.getvalue()


@contextlib.contextmanager
def _columns(count: int) -> Iterator[None]:
    """A terminal of a known width."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(count)
    try:
        yield
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before


def _tidy(text: str) -> str:
    """Help without the marks of reStructuredText that docstrings have; boxes keep their right edge."""

    def line(old: str) -> str:
        new = re.sub(r":\w+:`([^`]*)`", r"\1", old).replace("``", "")
        lost = len(old) - len(new)
        return f"{new[:-1]}{' ' * lost}{new[-1]}" if lost and new.endswith("│") else new

    return "\n".join(map(line, text.split("\n")))


def flags(help_text: str) -> list[str]:
    """The options that a help text names, in order."""
    found: dict[str, None] = {}
    for line in help_text.splitlines():
        words = line.strip("│ ")
        if words.startswith("-"):
            # `-n INT, --num INT    How many`: the options stand before the first word of the description.
            for flag in _FLAG.findall(words.split("   ")[0]):
                found.setdefault(flag)
    return list(found)


def _unknown(words: list[str], prog: str, known: list[str], instead: Mapping[str, str]) -> str:
    word = words[0].partition("=")[0]
    if not word.startswith("-"):
        return f"unexpected {words[0]!r}; see {prog} --help"
    word = word.replace("_", "-")
    if word in instead:
        return f"unknown option {word!r}: use {instead[word]}"
    nested = [flag for flag in known if flag.rpartition(".")[2] == word.lstrip("-")]
    hint = f"; did you mean {' or '.join(map(repr, nested))}?" if nested else nearest_hint(word, known)
    return f"unknown option {word!r}{hint or f'; see {prog} --help'}"


_OPTIONAL = r"Error parsing (?:\S+: )?(?P<name>-\S+): no type matching \{None\}\|"
_RULES = (
    (r"invalid choice '(?P<got>.*)' for argument '(?P<name>.*?)'\. Expected one of \((?P<choices>.*)\)\.?", "choice"),
    (r"Missing value for argument '(?P<name>.*?)'.*", "{name} needs a value"),
    (rf"{_OPTIONAL}INT could be instantiated from \[(?P<got>'.*?')\]\..*", "whole number"),
    (rf"{_OPTIONAL}FLOAT could be instantiated from \[(?P<got>'.*?')\]\..*", "number"),
    (rf"{_OPTIONAL}.* could be instantiated from \[(?P<got>.*?)\]\..*", "other"),
    (r"Error parsing (?P<name>\S+): invalid literal for int\(\) with base 10: (?P<got>.*)", "whole number"),
    (r"Error parsing (?P<name>\S+): could not convert string to float: (?P<got>.*)", "number"),
    (r"Error parsing (?P<name>\S+): Could not find valid parse for arguments: \[(?P<got>.*)\]", "other"),
    (r"Error parsing (?P<name>-\S+): (?P<rest>.*)", "{name}: {rest}"),
    (r"Error parsing \S+: (?P<rest>.*)", "{rest}"),
)


def _sentence(boxed: str, prog: str) -> str:
    """What one of tyro's boxes says, in one line."""
    lines = [line.strip("│ ") for line in boxed.splitlines() if not line.lstrip().startswith(("╭", "╰"))]
    text = " ".join(line for line in _before_rule(lines) if line)
    missing = re.match(r"Missing from .*?: (.*)", text)
    if missing:
        names = [line.split()[0] for line in _before_rule(lines)[1:] if line and "(required)" not in line]
        return f"{' and '.join(names) or missing[1]} is missing; see {prog} --help"
    for pattern, form in _RULES:
        match = re.fullmatch(pattern, text)
        if match is None:
            continue
        parts = match.groupdict()
        if form == "choice":
            choices = [choice for choice in re.findall(r"'([^']*)'", parts["choices"]) if choice != "None"]
            hint = nearest_hint(parts["got"], choices)
            return f"{parts['name']} must be one of {', '.join(choices)}, got {parts['got']!r}{hint}"
        if form in ("number", "whole number"):
            return f"{parts['name']} must be a {form}, got {parts['got']}"
        if form == "other":
            return f"{parts['name']} cannot be {parts['got'].replace(',', '')}; see {prog} --help"
        return form.format(**parts)
    return f"{text}; see {prog} --help"


def _before_rule(lines: list[str]) -> list[str]:
    """The lines of a box before its first horizontal rule, where the message ends and the help begins."""
    end = next((i for i, line in enumerate(lines) if line.startswith("───")), len(lines))
    return lines[:end]
