"""Convolutions and matrix products of an ONNX file in 8 bits, with the layers at the edge of the network left as is."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

OPERATORS = ("Conv", "MatMul", "Gemm")
"""What is computed in 8 bits."""
SCOPES = "pkg.torch.onnx.name_scopes"
"""Key under which operators say which modules of PyTorch they came from."""
NETWORK = "net"
"""Name of the module that holds the network, in all that is exported."""


def quantize(source: Path, target: Path, calls: Sequence[Mapping[str, Tensor]], kept: Sequence[str] = ()) -> None:
    """Write a file with 8-bit weights, a scale for each channel, and 8-bit activations, a range for each tensor.

    Args:
        source: The file in float32.
        target: Where to.
        calls: Inputs by name; the ranges of activations are those that they reach.
        kept: Names of the network's submodules whose layers stay in float32; the first and the last layer stay too.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Calls(CalibrationDataReader):
        def __init__(self) -> None:
            self._left: Iterator[dict[str, Any]] = iter(
                [{name: tensor.cpu().numpy() for name, tensor in call.items()} for call in calls]
            )

        def get_next(self) -> dict[str, Any] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
            return next(self._left, None)

    quantize_static(
        str(source),
        str(target),
        Calls(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=list(OPERATORS),
        per_channel=True,
        # Weights of 7 bits: with 8, processors without VNNI cut off sums of two products, and compute something else.
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=edge_nodes(source, kept),
    )


def edge_nodes(source: Path, kept: Sequence[str]) -> list[str]:
    """The names of the operators that stay in float32.

    They are the first and the last layer of the network, those of the modules ``kept``, and what is not the network.
    """
    import onnx

    nodes = [node for node in onnx.load(str(source), load_external_data=False).graph.node if node.op_type in OPERATORS]
    inside = [node for node in nodes if any(scope.split(".")[-1] == NETWORK for scope in scopes(node))]
    found = [node.name for node in nodes if node not in inside]
    found += [node.name for node in (*inside[:1], *inside[-1:])]
    for node in inside:
        places = [scope.partition(f"{NETWORK}.")[2] for scope in scopes(node)]
        if any(place == module for place in places for module in kept):
            found.append(node.name)
    return list(dict.fromkeys(found))


def scopes(node: Any) -> list[str]:
    """The modules of PyTorch that an operator came from, outermost first, by their names in the exported one."""
    found = {entry.key: entry.value for entry in node.metadata_props}
    return list(ast.literal_eval(found.get(SCOPES, "[]")))
