"""The options of a command that takes a model: the command's own and the model's conditions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from typing import TYPE_CHECKING, Annotated, Any

from unistep.cli.parse import FLAG, option_value, parse

if TYPE_CHECKING:
    from unistep.generation.model_config import ModelConfig


@dataclass(frozen=True)
class ModelOptions:
    """What was typed after a verb that takes a model."""

    options: Any
    """The command's options, an instance of its dataclass."""
    config: ModelConfig
    """The model that was named."""
    condition: dict[str, str]
    """The conditions that were given, by name."""


def parse_model_options(
    kind: type[Any],
    verb: str,
    arguments: Sequence[str],
    what: str,
    *,
    without: str = "drawn for each sample from its seed",
    position: int = 0,
    leave_out: Callable[[ModelConfig], Mapping[str, str]] | None = None,
) -> ModelOptions:
    """Read the words of a command whose options depend on the model that it names.

    Args:
        kind: The command's own options; one of them is the positional ``model``.
        verb: The command, for the help and for messages.
        arguments: The words after the verb.
        what: What the command does, for its help.
        without: What a condition without a default is where it is not given.
        position: How many words come before the model.
        leave_out: Conditions of a model that are no options of the command, and why, such as ``is what you play``.

    Raises:
        ValueError: If the model or an option is unknown, or a value does not fit.
        SystemExit: With code 0, after the help that was asked for is printed.
    """
    name = model_word(arguments, kind, position)
    if name is None:
        parse(kind, verb, arguments)  # prints the help, or says what is missing
    from unistep.generation.model_config import ModelConfig
    from unistep.hub.load import find
    from unistep.hub.save import CONFIG
    from unistep.serialization import read_json

    assert name is not None
    # The conditions are those of a LoRA that the command puts on the model.
    lora = option_value(arguments, "--lora") if "lora" in {option.name for option in fields(kind)} else None
    config = read_json(ModelConfig, find(name if lora is None else lora) / CONFIG)
    left_out = {} if leave_out is None else leave_out(config)
    for left, why in left_out.items():
        if any(word.partition("=")[0] == f"--{left}" for word in arguments):
            raise ValueError(f"--{left} {why}")
    full, conditions = with_conditions(kind, config, what, without=without, leave_out=left_out)
    check_conditions(arguments, kind, config, name)
    options = parse(full, verb, arguments)
    given = {field: getattr(options, field) for field in conditions}
    return ModelOptions(options, config, {field: value for field, value in given.items() if value is not None})


def model_word(arguments: Sequence[str], kind: type[Any], position: int = 0) -> str | None:
    """The model among the words of a command: the first that is neither an option nor an option's value.

    Args:
        arguments: The words after the verb.
        kind: The command's options; a tuple takes all words up to the next option, but leaves the last word of the
            command to a model that has not come yet; a truth value takes none, any other option one.
        position: How many such words come before it.
    """
    flags = {f"--{option.name.replace('_', '-')}" for option in fields(kind) if option.type in (bool, "bool")}
    many = {f"--{option.name.replace('_', '-')}" for option in fields(kind) if str(option.type).startswith("tuple[")}
    left = list(arguments)
    while left:
        word = left.pop(0)
        if word in ("-h", "--help"):
            continue
        if not word.startswith("-"):
            if position == 0:
                return word
            position -= 1
            continue
        if "=" in word or word.replace("_", "-") in flags:
            continue
        if word.replace("_", "-") in many:
            while left and not FLAG.fullmatch(left[0].partition("=")[0]):
                word = left.pop(0)
                if not left:
                    return word
        elif left:
            left.pop(0)
    return None


def with_conditions(
    kind: type[Any],
    config: ModelConfig,
    what: str,
    *,
    without: str = "drawn for each sample from its seed",
    leave_out: Collection[str] = (),
) -> tuple[type[Any], list[str]]:
    """The options of a command with those of a model.

    Args:
        kind: The command's own options.
        config: The model; each of its conditions becomes an option, except one named like an option of the command.
        what: What the command does, for its help.
        without: What a condition without a default is where it is not given.
        leave_out: Conditions that do not become options.

    Returns:
        The options, and the names of the conditions among them.
    """
    import tyro

    from unistep.core.condition import asked

    own = {option.name for option in fields(kind)}
    extra = []
    for name, spec in asked(config.fields).items():
        if name in own or name in leave_out:
            continue
        otherwise = without if spec.default_text is None else spec.default_text
        described = Annotated[str | None, tyro.conf.arg(help=f"{spec.choices}; without, {otherwise}.")]
        extra.append((name, described, field(default=None, kw_only=True)))
    made = make_dataclass(kind.__name__, extra, bases=(kind,), frozen=True, kw_only=True)
    made.__doc__ = what
    return made, [name for name, _, _ in extra]


def check_conditions(arguments: Sequence[str], kind: type[Any], config: ModelConfig, model: str) -> None:
    """Refuse a condition that other models take and this one does not, rather than look for an option that is like it.

    Args:
        arguments: The words after the verb.
        kind: The command's own options.
        config: The model.
        model: How it was asked for.

    Raises:
        ValueError: Naming the condition, and those that the model takes.
    """
    from unistep.core.condition import CONDITIONS, asked

    own = {option.name for option in fields(kind)} | set(config.fields)
    for word in () if {"-h", "--help"} & set(arguments) else arguments:
        name = word.partition("=")[0].removeprefix("--")
        if word.startswith("--") and name in CONDITIONS and name not in own:
            taken = ", ".join(f"--{field}" for field in asked(config.fields))
            raise ValueError(f"the model {model} takes no --{name}; it takes {taken or 'no condition'}")
