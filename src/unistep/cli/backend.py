"""The options of commands by which another program runs the network."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from unistep.generation.generator import Generator

EAGER = "eager"
"""PyTorch, one operation after the other."""


@dataclass(frozen=True, kw_only=True)
class BackendOptions:
    """What computes the network, and in which arithmetic."""

    precision: Literal["auto", "fp32", "bf16", "int8"] = "fp32"
    """Arithmetic of the network: fp32, the same on every device; bf16, faster where there are units for it; auto, the
    faster of the two; or int8, with a --backend that has it."""
    backend: str = EAGER
    """What runs the network: eager (PyTorch), onnxruntime, openvino, compiled; or auto, the fastest of those that are
    installed and agree. The first time takes up to a minute."""


def loaded(options: Any, **where: Any) -> Generator:
    """The model of a command, on its device, run by what was asked for.

    Args:
        options: The command's, a :class:`BackendOptions` with ``model`` and ``device``.
        **where: Further arguments of ``load``.

    Raises:
        ValueError: If there is no such model, device, backend or arithmetic, or it is not installed.
    """
    from unistep.cli.devices import choose_device
    from unistep.hub.load import load

    check_backend(options)
    own = options.backend == EAGER
    precision = options.precision if own else "fp32"
    generator = load(options.model, device=choose_device(options.device), precision=precision, **where)
    if not own:
        print(generator.accelerate(options.backend, options.precision), file=sys.stderr)
    return generator


def check_backend(options: Any, *, shards: bool = False) -> None:
    """Find mistakes before long work.

    Args:
        options: What was typed.
        shards: Whether many processes load the model.

    Raises:
        ValueError: If there is no such backend, its packages are missing, or the options do not go together.
    """
    if options.backend == EAGER:
        if options.precision == "int8":
            raise ValueError("--precision int8 needs a backend that has it: --backend onnxruntime or openvino")
        return
    if shards:
        raise ValueError(f"shards are drawn with PyTorch: leave out --backend {options.backend}")
    from unistep.backends.base import backends
    from unistep.spelling import nearest

    known = backends()
    if options.backend == "auto":
        return
    if options.backend not in known:
        raise ValueError(f"unknown backend {options.backend!r}; {nearest(options.backend, ['auto', *known])}")
    made = known[options.backend]
    if made.missing():
        raise ValueError(f"--backend {made.name} needs {', '.join(made.missing())}: {made.remedy()}")
