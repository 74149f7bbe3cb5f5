"""A network as an ONNX file in a cache: exported once for its weights, in float32 or with 8-bit weights."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unistep.backends.base import BackendError
from unistep.backends.call import BATCH, Call, TensorNetwork
from unistep.backends.quantize import SCOPES, quantize
from unistep.files import remove_leftovers, replacing, write_text

LONGEST = 65_536
"""Upper end of the sizes of varying axes that are promised to the exporter."""
ABANDONED = 86_400.0
"""Seconds after which a file that is half-written belongs to a process that was killed."""
OUTPUT = "out"
"""Name of what an exported network returns."""


def onnx_file(net: nn.Module, calls: Sequence[Call], folder: Path, *, int8: bool = False) -> Path:
    """The file of a network for calls of one form; made where it is not in the cache, or is damaged there.

    Args:
        net: The network.
        calls: Calls of that form; the ranges of 8-bit activations are those of all of them.
        folder: Where the files of these weights are.
        int8: Whether convolutions and matrix products are in 8 bits.

    Raises:
        BackendError: If it cannot be exported.
        ValueError: If the folder cannot be written.
    """
    # The same weights are another function in a network of other modules.
    known = (calls[0].form, _versions(), str(net), tuple(getattr(net, "boundary_layers", ())))
    form = hashlib.blake2b(repr(known).encode(), digest_size=8).hexdigest()
    exact = folder / f"{form}.onnx"
    if not _is_intact(exact):
        remove_leftovers(folder, ABANDONED)
        with replacing(exact) as temporary:
            export(TensorNetwork(net, calls[0]), calls[0].tensors(), calls[0].axes(), temporary)
        _seal(exact)
    if not int8:
        return exact
    rounded = folder / f"{form}-8bit.onnx"
    if not _is_intact(rounded):
        with replacing(rounded) as temporary, quiet():
            try:
                quantize(exact, temporary, [call.tensors() for call in calls], getattr(net, "boundary_layers", ()))
            except Exception as error:  # the library has errors of any kind
                raise BackendError(f"the network cannot be had in 8 bits: {_line(error)}") from error
        _seal(rounded)
    return rounded


def _sum_of(path: Path) -> Path:
    """Where the check sum of a file of the cache is."""
    return path.with_name(f"{path.name}.blake2b")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _seal(path: Path) -> None:
    """Note what a file is like that was made, for :func:`_is_intact`."""
    write_text(_sum_of(path), _digest(path))


def _is_intact(path: Path) -> bool:
    """Whether a file is in the cache, and is as it was made."""
    try:
        return _sum_of(path).read_text(encoding="utf-8") == _digest(path)
    except (OSError, UnicodeDecodeError):
        return False


def export(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    axes: Sequence[dict[int, str]],
    path: Path,
    outputs: Sequence[str] = (OUTPUT,),
    *,
    rows: str | None = BATCH,
) -> None:
    """Write a module as an ONNX file with named inputs, whose batch may have any size.

    Args:
        module: Takes the inputs in their order.
        inputs: Tensors of two items or more, by name.
        axes: The varying axes of each, by number, with their names.
        path: The file.
        outputs: Names of what it returns.
        rows: Name of the first axis of the outputs; none where it is no axis of an input.

    Raises:
        BackendError: If it cannot be exported with batches of any size.
    """
    try:
        program = export_program(module, tuple(inputs.values()), axes)
        with quiet():
            made: Any = torch.onnx.export(
                program, dynamo=True, verbose=False, input_names=list(inputs), output_names=list(outputs)
            )
    except Exception as error:  # exporters have errors of any kind
        raise BackendError(f"the network cannot be exported to ONNX: {_line(error)}") from error
    _name_axes(made.model, axes, rows)
    for node in made.model.graph:  # places in source files of this computer, among others
        for key in [key for key in node.metadata_props if key != SCOPES]:
            del node.metadata_props[key]
    made.save(str(path))


def export_program(
    module: nn.Module, inputs: Sequence[Tensor], axes: Sequence[dict[int, str]]
) -> torch.export.ExportedProgram:
    """A module as a graph of PyTorch's operators in which the named axes may have any length.

    Args:
        module: What is exported.
        inputs: Its arguments, with two items or more, in their order.
        axes: Their varying axes.
    """
    dims = {name: torch.export.Dim(name, min=1, max=LONGEST) for named in axes for name in named.values()}
    shapes = (tuple({axis: dims[name] for axis, name in named.items()} for named in axes),)
    with quiet(), torch.no_grad():
        return torch.export.export(module, tuple(inputs), dynamic_shapes=shapes, strict=False)


def _name_axes(model: Any, axes: Sequence[dict[int, str]], rows: str | None) -> None:
    """Call the varying axes by their names; the exporter has names of its own."""
    for value, named in zip(model.graph.inputs, axes, strict=True):
        if value.shape is not None:
            for axis, name in named.items():
                value.shape[axis] = name
    for value in model.graph.outputs:
        if value.shape is not None and rows is not None:
            value.shape[0] = rows


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what exporters say of their own internals: warnings, lines on standard output, and a log."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _versions() -> tuple[str, ...]:
    """What a file depends on beside the weights."""
    from importlib.metadata import version

    return (torch.__version__, version("onnxscript"), os.name)  # which is not imported: that takes a second


def _line(error: Exception) -> str:
    """The first line of what an error says; its kind where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
