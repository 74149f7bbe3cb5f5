"""The run-time type checker of the tests: an ``int`` passes for a ``float``, as it does for static checkers.

A call whose arguments and result have types, shapes and dtypes that passed once is not checked again: a check takes
some twenty microseconds, and solvers and samplers call functions that take less a hundred thousand times.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Hashable, Sequence
from types import FunctionType
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype
from torch import Tensor

typecheck = beartype(conf=BeartypeConf(is_pep484_tower=True))
JAXTYPED = jaxtyping.jaxtyped
SMALL = 8
"""Items of a sequence that are looked at one by one; longer ones are checked in each call."""


class UnknownError(Exception):
    """A value whose type alone does not say whether it passes."""


def import_checked(modules: Sequence[str]) -> None:
    """Import modules with their functions and dataclasses checked, each kind of call once."""
    jaxtyping.jaxtyped = _jaxtyped  # which the modules are given, and look up again for functions inside of functions
    jaxtyping.install_import_hook(modules, "checked.typecheck")
    for module in modules:
        importlib.import_module(module)


def kind(value: Any) -> Hashable:
    """What a check of a value depends on.

    Raises:
        UnknownError: If that is more than can be compared quickly.
    """
    if isinstance(value, Tensor):
        return type(value), value.shape, value.dtype
    if isinstance(value, str):
        return value  # it may have to be one of some
    if isinstance(value, list | tuple):
        if len(value) > SMALL:
            raise UnknownError
        return (type(value), *map(kind, value))
    if isinstance(value, dict):
        return (dict, *((name, kind(item)) for name, item in value.items()))
    if isinstance(value, set | frozenset):
        raise UnknownError
    return type(value)


def once(function: Callable[..., Any], typechecker: Any) -> Callable[..., Any]:
    """A function whose calls are checked when they are of a kind that has not passed yet."""
    passed: dict[Hashable, set[Hashable]] = {}
    """Kinds of results, by the kinds of arguments."""
    results: list[Any] = []  # of a call that was made already

    def call(*args: Any, **kwargs: Any) -> Any:
        return results.pop() if results else function(*args, **kwargs)

    # Annotations are read with the names of the function's own module.
    inner = FunctionType(call.__code__, function.__globals__, function.__name__, None, call.__closure__)
    checked = JAXTYPED(functools.update_wrapper(inner, function), typechecker=typechecker)

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if jaxtyping.config.jaxtyping_disable:  # then nothing passes
            return function(*args, **kwargs)
        try:
            given = (*map(kind, args), *((name, kind(value)) for name, value in kwargs.items()))
            made = passed.get(given)  # raises for sizes that are symbols
        except (UnknownError, TypeError):
            return checked(*args, **kwargs)
        result = checked(*args, **kwargs) if made is None else function(*args, **kwargs)
        try:
            found = kind(result)
        except UnknownError:
            found = None
        if made is None:
            passed[given] = {found} - {None}
        elif found is None or found not in made:
            results.append(result)
            checked(*args, **kwargs)
            passed[given] |= {found} - {None}
        return result

    return wrapped


def _jaxtyped(*, typechecker: Any) -> Callable[[Any], Any]:
    def decorated(target: Any) -> Any:
        if not inspect.isfunction(target):
            return JAXTYPED(target, typechecker=typechecker)
        # A function inside of another is made anew in each call of that, and its check takes a millisecond to make.
        return target if "<locals>" in target.__qualname__ else once(target, typechecker)

    return decorated
