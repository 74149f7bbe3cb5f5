r"""Weights of a few bits a value: rounded to multiples of a step for each row, and coded by how often each occurs.

A matrix or kernel with :math:`n` values is rounded in rows (output channels) of root mean square :math:`\rho`, to
multiples of the step

.. math:: \Delta = \rho \, 2^{c - b} \sqrt{n / \bar n},

with :math:`b` the bits, :math:`c` the entropy of a Gaussian in steps of its standard deviation, and :math:`\bar n` the
geometric mean of the sizes, each counted for every value. Three things make the samples agree better than those of
plain 8-bit numbers, at fewer bits:

- **Steps by size.** The relative error of a layer reaches the sample about equally strongly whether the layer is small
  or large. A given number of bits then does most where every *value* has the same share of the error: the step grows
  with the root of the size, and the small layers at the input and the output get the bits that the large ones spare.
- **Rounding with feedback.** Neighbouring inputs of a convolution are much alike, so that the error of a kernel's sum
  matters more than that of its values. The values that are nearest to half a step are rounded the other way until the
  errors of each kernel add up to at most half a step.
- **Entropy coding.** Small multiples occur more often than large ones. DEFLATE's Huffman codes take 2.5 bits a value
  less than numbers of a fixed width that reach as far.

Vectors (biases, norms) and small tensors are stored in half precision. What is read is the same on every processor, to
the last bit: a multiple of at most 16 bits times a step of 8 bits is exact in float32.

References:
    Gray and Neuhoff 1998, "Quantization", section III.C (uniform steps and entropy coding); Guo et al. 2022, "SQuant",
    arXiv 2202.07471, section 3 (errors of a kernel that cancel each other).
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

BITS = (4, 5, 6, 7, 8)
"""Mean numbers of bits a value that can be chosen."""
DESCRIPTION = "quantized"
"""Key of a file's metadata under which the shapes of the coded tensors are; a file without has none."""
_VERSION = 1
_CODES, _STEPS = "codes/", "steps/"
_SMALL = 1024
"""Tensors with fewer values are not coded: their entries in the header would outweigh what they save."""
_GAUSSIAN = math.log2(math.sqrt(2 * math.pi * math.e)) + 0.15
"""Bits a value of a Gaussian whose step is its standard deviation, and what Huffman codes and steps add."""
_FINEST = 2.0**-10
"""Smallest step relative to a row's root mean square; half precision is about as exact."""
_LARGEST = 32_500
"""Largest multiple, a little below what two signed bytes hold: 127 * 256 + 127."""
_NORMAL = torch.finfo(torch.float32).tiny


_EXACT, _NEAR, _BESIDE = 1e-6, 0.7, 0.9
"""Mean squared errors of rounding that speak of values on multiples of the step, and near them; another step then."""
_AROUND = sorted((offset for offset in range(-32, 33) if offset), key=abs)
"""Steps beside the wanted one, counted in bfloat16 numbers, on whose multiples values may lie already."""
_FEW = 16
"""Values of a row that are looked at first."""


def is_coded(parameter: Tensor) -> bool:
    """Whether a tensor is coded, rather than stored in half precision or as it is."""
    return parameter.is_floating_point() and parameter.ndim >= 2 and parameter.numel() >= _SMALL


def quantize(tensors: Mapping[str, Tensor], bits: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The entries of a file that holds tensors in a few bits a value.

    Args:
        tensors: What is to be stored, such as the state of a network.
        bits: Mean number of bits a value of the coded tensors, one of :data:`BITS`; weights that are not distributed
            like a Gaussian need fewer.

    Returns:
        The entries, and metadata by which :func:`restore` understands them.

    Raises:
        ValueError: If a value is not finite, or too large for half precision; names the tensor.
    """
    coded, relative = {name: value for name, value in tensors.items() if is_coded(value)}, relative_steps(tensors, bits)
    entries: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if name not in coded:
            entries[name] = in_half(value, name)
            continue
        steps, multiples = _rounded(value, relative[name], name)
        entries[_STEPS + name] = steps
        entries[_CODES + name] = torch.frombuffer(bytearray(_packed(multiples)), dtype=torch.uint8)
    shapes = {name: list(value.shape) for name, value in coded.items()}
    return entries, {DESCRIPTION: json.dumps({"version": _VERSION, "bits": bits, "shapes": shapes})}


def relative_steps(tensors: Mapping[str, Tensor], bits: int) -> dict[str, float]:
    """The step of each coded tensor, relative to the root mean square of its rows, at a mean number of bits a value."""
    sizes = {name: value.numel() for name, value in tensors.items() if is_coded(value)}
    total = sum(sizes.values())
    typical = math.exp(sum(n * math.log(n) for n in sizes.values()) / total) if total else 1.0
    return {name: max(2.0 ** (_GAUSSIAN - bits) * math.sqrt(n / typical), _FINEST) for name, n in sizes.items()}


def row_steps(rows: Tensor, relative: float) -> Tensor:
    """The steps of rows ``[rows, n]``, bfloat16: relative to their root mean square, and 0 where all is nothing."""
    wanted = torch.maximum(rows.square().mean(dim=1).sqrt() * relative, rows.abs().amax(dim=1) / _LARGEST)
    return torch.where(wanted > _NORMAL, wanted, 0.0).to(torch.bfloat16)


def in_half(tensor: Tensor, name: str = "tensor") -> Tensor:
    """A tensor in half precision, where it holds numbers with a fraction.

    Raises:
        ValueError: If half precision cannot hold a value; names the tensor.
    """
    if not tensor.is_floating_point():
        return tensor
    half = tensor.half()
    if not half.isfinite().all():
        worst = float(tensor.detach().abs().max())
        raise ValueError(f"{name} has a value of {worst:g}, which half precision cannot hold; store it in 32 bits")
    return half


@final
@dataclass(frozen=True, kw_only=True)
class Description:
    """What a file's metadata says of its coded tensors."""

    bits: int
    """Mean number of bits a value."""
    shapes: Mapping[str, Sequence[int]]
    """Shapes of the coded tensors by name."""

    def plain_shapes(self, stored: Mapping[str, Sequence[int]]) -> dict[str, Sequence[int]]:
        """Shapes of all tensors by name, from those of the entries that are stored."""
        parts = {prefix + name for prefix in (_CODES, _STEPS) for name in self.shapes}
        return {name: shape for name, shape in stored.items() if name not in parts} | dict(self.shapes)


def read_description(metadata: Mapping[str, str]) -> Description | None:
    """What a file's metadata says of coded tensors; ``None`` if there are none.

    Raises:
        ValueError: If it cannot be understood.
    """
    if DESCRIPTION not in metadata:
        return None
    found = json.loads(metadata[DESCRIPTION])
    if not isinstance(found, dict) or found.get("version") != _VERSION:
        version = found.get("version") if isinstance(found, dict) else None
        raise ValueError(f"its weights are coded in version {version}, this Unistep reads version {_VERSION}")
    bits, shapes = found.get("bits"), found.get("shapes")
    if bits not in BITS or not isinstance(shapes, dict):
        raise ValueError(f"its metadata {DESCRIPTION!r} does not list bits and shapes")
    for name, sizes in shapes.items():
        if not isinstance(sizes, list) or len(sizes) < 2 or not all(type(n) is int and n > 0 for n in sizes):
            raise ValueError(f"the shape of {name!r} is {sizes!r}")
    return Description(bits=bits, shapes=shapes)


def restore(entries: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors of a file by name: coded ones in float32, the others as they are stored.

    Args:
        entries: All entries of the file.
        metadata: Its metadata.

    Raises:
        ValueError: If the entries do not fit the metadata.
    """
    description = read_description(metadata)
    tensors = dict(entries)
    for name, shape in ({} if description is None else description.shapes).items():
        codes, steps = tensors.pop(_CODES + name, None), tensors.pop(_STEPS + name, None)
        if codes is None or steps is None or codes.dtype != torch.uint8 or steps.shape != (shape[0],):
            raise ValueError(f"the codes or steps of {name!r} are missing")
        multiples = torch.from_numpy(_unpacked(codes.numpy().tobytes(), math.prod(shape), name))
        tensors[name] = (multiples.view(shape[0], -1) * steps.float()[:, None]).view(*shape)
    return tensors


def _rounded(value: Tensor, relative: float, name: str) -> tuple[Tensor, np.ndarray]:
    """The steps of the rows, and the multiples of them that the values become.

    Args:
        value: Shape ``[rows, ...]``.
        relative: Step over the root mean square of a row.
        name: For errors.
    """
    rows = value.detach().cpu().double().flatten(1)
    if not rows.isfinite().all():
        raise ValueError(f"{name} has values that are not finite; such weights cannot be rounded")
    largest = rows.abs().amax(dim=1)
    steps = _own_steps(rows, row_steps(rows, relative))
    missed = _missed(rows, steps)
    # Weights that were rounded once and then trained a little lie near the old multiples and would go back to them, so
    # that what was learned since is lost. Among other multiples each part of it counts, as errors of rounding differ.
    shorter = steps * _BESIDE
    others = torch.where(largest <= shorter.double() * _LARGEST, shorter, steps / _BESIDE)
    steps = torch.where((missed > _EXACT) & (missed < _NEAR), others, steps)
    unit = steps.double()[:, None]
    exact = torch.where(unit > 0, rows / unit, 0.0)
    kernels = exact.view(*value.shape[:2], -1)
    multiples = with_feedback(kernels, kernels.round())
    return steps, multiples.flatten().to(torch.int32).numpy()


def _own_steps(rows: Tensor, steps: Tensor) -> Tensor:
    """Steps on whose multiples rows lie already, where there are such near the wanted ones, else these.

    Rows that were rounded have another root mean square than before, and another step would round them once more.
    """
    found, open_ = steps.clone(), _missed(rows, steps) > _EXACT
    for offset in _AROUND if bool(open_.any()) else ():
        other = torch.where(steps > 0, (steps.view(torch.int16) + offset).view(torch.bfloat16), steps)
        likely = (open_ & (_missed(rows[:, :_FEW], other) <= _EXACT)).nonzero()[:, 0]
        there = likely[_missed(rows[likely], other[likely]) <= _EXACT]
        there = there[rows[there].abs().amax(dim=1) <= other[there].double() * _LARGEST]
        found[there], open_[there] = other[there], False
    return found


def _missed(rows: Tensor, steps: Tensor) -> Tensor:
    """Mean squared error of rounding rows to multiples of steps; 1 for values anywhere between two multiples."""
    exact = torch.where(steps[:, None] > 0, rows / steps.double()[:, None], 0.0)
    return 12 * (exact - exact.round()).square().mean(dim=1)


def with_feedback(exact: Tensor, rounded: Tensor) -> Tensor:
    """Rounded values, the fewest of which are rounded the other way so that errors add up to at most 1/2.

    Args:
        exact: Values in units of the step, ``[..., positions]``; the errors of the last axis are added up.
        rounded: The same, rounded to the nearest integers.

    Returns:
        Integers that differ by less than 1 from the exact values.
    """
    if exact.shape[-1] == 1:
        return rounded
    error = rounded - exact
    excess = error.sum(dim=-1, keepdim=True).round()
    # The values with the largest error in the direction of the excess are those that are nearest to half a step.
    order = (error * excess.sign()).argsort(dim=-1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(-1, order, torch.arange(exact.shape[-1]).expand_as(order))
    return torch.where(rank < excess.abs(), rounded - excess.sign(), rounded)


def _packed(multiples: np.ndarray) -> bytes:
    """Integers as DEFLATE codes: how many bytes each has, all low bytes, then all high bytes unless they are zero."""
    low = multiples.astype(np.int8)
    high = ((multiples - low) >> 8).astype(np.int8)
    planes = b"\2" + low.tobytes() + high.tobytes() if high.any() else b"\1" + low.tobytes()
    compressor = zlib.compressobj(level=9, memLevel=9, strategy=zlib.Z_FILTERED)  # few repetitions, uneven frequencies
    return compressor.compress(planes) + compressor.flush()


def _unpacked(codes: bytes, num: int, name: str) -> np.ndarray:
    """The integers, as float32.

    Raises:
        ValueError: If there are not as many.
    """
    decompressor = zlib.decompressobj()
    try:
        planes = decompressor.decompress(codes, 1 + 2 * num)  # never more, whatever a file claims
    except zlib.error as error:
        raise ValueError(f"the codes of {name!r} are damaged: {error}") from None
    if not decompressor.eof or planes[:1] not in (b"\1", b"\2") or len(planes) != 1 + planes[0] * num:
        raise ValueError(f"the codes of {name!r} are not those of {num:,} values")
    low = np.frombuffer(planes, np.int8, num, 1).astype(np.float32)
    return low if planes[0] == 1 else low + np.frombuffer(planes, np.int8, num, 1 + num) * np.float32(256)
