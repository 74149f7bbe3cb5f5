"""Conditions that are arrays: sequences of tokens, and reference signals, given as tensors or as files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from unistep.core.fields import ConditionField, ReadSignal
from unistep.core.seeding import Randomness
from unistep.core.values import Signal, Tokens, Value


def listed(name: str, given: Any, expected: str) -> Tensor:
    """A list of numbers, as JSON holds one, as a tensor.

    Args:
        name: Name of the field, for messages.
        given: The list.
        expected: What is wanted, for messages.

    Raises:
        ValueError: If it is none.
    """
    try:
        if isinstance(given, list) and all(type(number) in (int, float) for number in given):
            return torch.tensor([float(number) for number in given])
    except OverflowError:
        pass
    raise ValueError(f"{name} must be {expected}, got {type(given).__name__}")


@dataclass(frozen=True, kw_only=True)
class TokensField(ConditionField):
    """A field of sequences of vectors, such as texts that an encoder has read.

    A value is a tensor or array ``[n, d]`` or a file that holds one: ``.npy``, or the only array of an ``.npz`` or
    ``.safetensors`` file. Items that are given none have the null condition.
    """

    kind: ClassVar[str] = "tokens"
    value: ClassVar[type[Value]] = Tokens
    drawn: ClassVar[bool] = False

    length: int
    """Largest number of vectors, :math:`n`."""
    dim: int
    """Features of each, :math:`d`."""

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            ValueError: Naming the value and what was expected.
        """
        if self.length < 1 or self.dim < 1:
            raise ValueError(f"tokens need a length and a dim of at least 1, got {self.length} and {self.dim}")

    def from_json(self, name: str, given: Any) -> Any:
        """Nothing: a name would be that of a file.

        Raises:
            ValueError: Always.
        """
        raise ValueError(f"{name} is a sequence of vectors, which cannot be given so; leave it out")

    @property
    def extent(self) -> str:
        """The largest shape, for tables."""
        return f"{self.length} x {self.dim}"

    @property
    def choices(self) -> str:
        """The values in words, for help and messages."""
        return f"up to {self.length} vectors of {self.dim} features, as a .npy, .npz or .safetensors file"

    @property
    def default_text(self) -> str | None:
        """Nothing is drawn."""
        return "no condition"

    def null(self, num: int) -> Tokens:
        """Empty sequences of ``num`` items."""
        return Tokens(torch.zeros(num, self.length, self.dim), torch.zeros(num, self.length, dtype=torch.bool))

    def draw(self, num: int, generator: Randomness) -> Tokens:
        """The null condition: there is nothing that a sequence could be drawn from."""
        del generator
        return self.null(num)

    def is_one(self, given: Any) -> bool:
        """Whether it is a file or one array ``[n, d]``."""
        return isinstance(given, str | Path) or getattr(given, "ndim", None) == 2

    @property
    def _expected(self) -> str:
        return f"an array [n, {self.dim}], a file of one"

    def _read(self, name: str, values: Sequence[Any], read: ReadSignal | None) -> Tokens:
        del read
        found = [self._one(name, value) for value in values]
        tokens = torch.stack([F.pad(tensor, (0, 0, 0, self.length - len(tensor))) for tensor in found])
        counts = torch.tensor([len(tensor) for tensor in found])
        return Tokens(tokens, torch.arange(self.length) < counts[:, None])

    def _one(self, name: str, value: Any) -> Tensor:
        """One sequence ``[n, d]``, float32."""
        tensor = load_array(name, Path(value)) if isinstance(value, str | Path) else as_tensor(name, value)
        if tensor.ndim != 2 or tensor.shape[1] != self.dim or len(tensor) > self.length:
            raise ValueError(f"{name} must be [n, {self.dim}] with n up to {self.length}, got {list(tensor.shape)}")
        return tensor


@dataclass(frozen=True, kw_only=True)
class SignalField(ConditionField):
    """A field of reference signals, such as the grey image that is to be coloured.

    A value is a tensor or array of this shape in [-1, 1], or a file that the model's modality reads. Items that are
    given none have the null condition.
    """

    kind: ClassVar[str] = "signal"
    value: ClassVar[type[Value]] = Signal
    drawn: ClassVar[bool] = False

    shape: tuple[int, ...]
    """Shape of one signal, channels first."""
    before: bool = False
    """Whether it lies before what is generated along the last axis, as the last moments of a sound do, rather than at
    the same places."""

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            ValueError: Naming the value and what was expected.
        """
        if not self.shape or min(self.shape) < 1:
            raise ValueError(f"a signal needs a shape of positive sizes, channels first, got {self.shape}")

    def from_json(self, name: str, given: Any) -> Any:
        """Nothing: JSON holds no signals, and a name would be that of a file.

        Raises:
            ValueError: Always.
        """
        raise ValueError(f"{name} is a signal, which cannot be given so; leave it out")

    @property
    def extent(self) -> str:
        """The shape, for tables."""
        return " x ".join(map(str, self.shape))

    @property
    def choices(self) -> str:
        """The values in words, for help and messages."""
        return f"a file with a signal of shape {self.extent}"

    @property
    def default_text(self) -> str | None:
        """Nothing is drawn."""
        return "no condition"

    def null(self, num: int) -> Signal:
        """No signal for ``num`` items."""
        return Signal(torch.zeros(num, *self.shape), torch.full((num,), torch.nan))

    def draw(self, num: int, generator: Randomness) -> Signal:
        """The null condition: there is nothing that a signal could be drawn from."""
        del generator
        return self.null(num)

    def is_one(self, given: Any) -> bool:
        """Whether it is a file or one signal."""
        return isinstance(given, str | Path) or getattr(given, "ndim", None) == len(self.shape)

    @property
    def _expected(self) -> str:
        return f"a signal of shape {self.extent}, a file of one"

    def _read(self, name: str, values: Sequence[Any], read: ReadSignal | None) -> Signal:
        return Signal.clean(torch.stack([self._one(name, value, read) for value in values]))

    def _one(self, name: str, value: Any, read: ReadSignal | None) -> Tensor:
        """One signal, float32."""
        if not isinstance(value, str | Path):
            tensor = as_tensor(name, value)
        elif read is None:
            raise ValueError(f"{name} must be a signal of shape {self.extent} here, not a file, got {str(value)!r}")
        else:
            tensor = read(Path(value))
        if tuple(tensor.shape) != self.shape:
            raise ValueError(f"{name} must be a signal of shape {self.extent}, got {list(tensor.shape)}")
        return tensor


def as_tensor(name: str, value: Any) -> Tensor:
    """A tensor or array of any library as float32.

    Raises:
        ValueError: If it is none, or holds values that are not finite.
    """
    try:
        tensor = torch.as_tensor(value).detach().float()
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name} must be an array of numbers, got {type(value).__name__}") from None
    if not tensor.isfinite().all():
        raise ValueError(f"{name} must have finite values; {int((~tensor.isfinite()).sum())} are not")
    return tensor


def load_array(name: str, path: Path) -> Tensor:
    """The array in a ``.npy`` file, or the only one in an ``.npz`` or ``.safetensors`` file, as float32.

    Raises:
        ValueError: If the file cannot be read, or holds several; names it.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.numpy import load_file

            found: Any = load_file(path)
        else:
            found = np.load(path, allow_pickle=False)
            found = found if isinstance(found, np.ndarray) else dict(found)
    except OSError as error:
        raise ValueError(f"{name}: {path} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # each format has errors of its own
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"{name}: {path} is no .npy, .npz or .safetensors file: {reason}") from None
    if isinstance(found, dict):
        if len(found) != 1:
            raise ValueError(f"{name}: {path} must hold one array, got {', '.join(sorted(found)) or 'none'}")
        found = next(iter(found.values()))
    return as_tensor(name, found)
