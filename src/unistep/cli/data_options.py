"""The options of ``--data``: those of every source, and those of each registered modality, side by side."""

from __future__ import annotations

from dataclasses import field, fields, make_dataclass
from functools import cache
from typing import Annotated, Any, get_type_hints

import tyro

from unistep import registry
from unistep.data.options import DataConfig, data_config


@cache
def data_options() -> type:
    """A dataclass with the fields of :class:`~unistep.data.DataConfig`, and in place of ``options`` those of every
    modality; ``None`` stands for an option that is not given.
    """
    kinds = list(dict.fromkeys(kind.options for kind in registry.entries("modality").values()))
    own: list[Any] = [
        (item.name, get_type_hints(DataConfig)[item.name], field(default=item.default, kw_only=True))
        for item in fields(DataConfig)
        if item.name != "options"
    ]
    own.append(("options", Annotated[None, tyro.conf.Suppress], field(default=None, kw_only=True)))
    known = {name for name, *_ in own}
    for kind in kinds:
        hints = get_type_hints(kind)
        for name in kind.names():
            if name not in known:
                known.add(name)
                own.append((name, hints[name] | None, field(default=None, kw_only=True)))
    # The bases are there for the docstrings of their fields, which are the help of the options.
    documented = (_Unchecked, *kinds, DataConfig)
    made = make_dataclass("DataOptions", own, bases=documented, frozen=True, kw_only=True)
    made.__doc__ = DataConfig.__doc__
    return made


class _Unchecked:
    """Nothing is checked before the options are sorted into the classes that they belong to."""

    def __post_init__(self) -> None:
        """Leave the checks to :func:`from_options`."""


def to_options(config: DataConfig) -> Any:
    """A configuration as flat options."""
    given = {} if config.options is None else config.options.given
    return data_options()(**{**{key: value for key, value in vars(config).items() if key != "options"}, **given})


def from_options(options: Any) -> DataConfig:
    """The configuration that flat options describe.

    Raises:
        ValueError: If an option belongs to another modality than the data's, or a value is wrong.
    """
    own = {item.name for item in fields(DataConfig)} - {"options"}
    values = {item.name: getattr(options, item.name) for item in fields(options) if item.name != "options"}
    return data_config(**{key: value for key, value in values.items() if key in own or value is not None})
