"""Feature networks: named, versioned networks on whose features samples are evaluated.

A figure of quality means nothing without the network whose features it was computed on. So each one has a name, a
version and a hash of its weights, and every figure and every cached statistic is labelled with them.
"""

from __future__ import annotations

import copy
import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor, nn


class FeatureLabel(NamedTuple):
    """What a figure is labelled with."""

    name: str
    """Name of the network."""
    version: str
    """Its version."""
    hash: str
    """SHA-256 of weights and code, 64 hexadecimal digits."""
    dim: int
    """Number of features."""

    def __str__(self) -> str:
        return f"{self.name} v{self.version} ({self.dim} features, {self.hash[:8]})"


class StagedNetwork(nn.Module, ABC):
    """A network whose intermediate maps can be had, with the positions in them."""

    @abstractmethod
    def stages(self, signals: Float[Tensor, "b *shape"]) -> list[Float[Tensor, "b _ _ _"]]:
        """Maps ``[b, c, h, w]`` of signals in [-1, 1], from fine to coarse; gradients reach the signals."""


@final
class FeatureNetwork(nn.Module):
    """A network from signals to feature vectors, with a name, a version and a hash, frozen in evaluation mode.

    Args:
        network: Maps signals in [-1, 1] of shape ``[b, *shape]`` to features ``[b, dim]``.
        name: Name of the network.
        version: Version; raise it whenever weights or preprocessing change.
        shape: Shape of one signal, channels first; other shapes are refused where ``strict``.
        strict: Whether the network takes signals of ``shape`` only.
        code: What stands for the network's code in its hash, where name and version do not vouch for it.
        note: What a reader of its figures should know, such as how well it learned.

    Raises:
        ValueError: If the network does not return one finite vector for each signal.
    """

    def __init__(
        self,
        network: nn.Module | Callable[[Tensor], Tensor],
        *,
        name: str,
        version: str,
        shape: tuple[int, ...],
        strict: bool = True,
        code: str = "",
        note: str = "",
    ) -> None:
        super().__init__()
        self.network = network
        self.name, self.version, self.shape, self.strict, self.note = name, version, tuple(shape), strict, note
        self.eval().requires_grad_(False)
        self.hash = _hash(network, name, version, code)
        # Two unequal signals, neither constant, are enough to find the width and to notice a network that fails.
        probe = torch.linspace(-1, 1, 2 * math.prod(shape)).view(2, *shape)
        try:
            answer = self.network(probe)
        except Exception as error:
            raise ValueError(
                f"feature network {name!r} failed on signals of shape {list(probe.shape)} in [-1, 1]: {error}"
            ) from error
        if not isinstance(answer, Tensor) or answer.dim() < 2 or len(answer) != 2 or not answer.isfinite().all():
            got = list(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
            raise ValueError(f"feature network {name!r} must return finite features [b, dim], and returned {got}")
        self.dim = answer.flatten(1).shape[1]

    def renamed(self, name: str) -> FeatureNetwork:
        """The same network, with its hash, under another name."""
        other = copy.copy(self)
        other.name = name
        return other

    @property
    def label(self) -> FeatureLabel:
        """Name, version, hash and width, as printed beside every figure."""
        return FeatureLabel(self.name, self.version, self.hash, self.dim)

    @torch.no_grad()
    def forward(self, signals: Float[Tensor, "b *shape"]) -> Float[Tensor, "b dim"]:
        """Features of signals in [-1, 1], as float32 ``[b, dim]``.

        Raises:
            ValueError: If the signals do not have the shape that the network was made for.
        """
        return self.differentiable(signals)

    def differentiable(self, signals: Float[Tensor, "b *shape"]) -> Float[Tensor, "b dim"]:
        """The same features, through which gradients reach the signals; the weights stay frozen.

        Raises:
            ValueError: If the signals do not have the shape that the network was made for.
        """
        self.check_shape(tuple(signals.shape[1:]))
        return self.network(signals).flatten(1).float()

    def stages(self, signals: Float[Tensor, "b *shape"]) -> list[Float[Tensor, "b _ _ _"]]:
        """Intermediate maps ``[b, c, h, w]``, from fine to coarse, through which gradients reach the signals.

        Of a network that does not show any, its features as one map of one position.

        Raises:
            ValueError: If the signals do not have the shape that the network was made for.
        """
        if isinstance(self.network, StagedNetwork):
            self.check_shape(tuple(signals.shape[1:]))
            return self.network.stages(signals)
        return [self.differentiable(signals)[:, :, None, None]]

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Check that the network takes signals of a shape.

        Raises:
            ValueError: If not; says which features do.
        """
        if self.strict and shape != self.shape:
            raise ValueError(
                f"features {self.name!r} take signals of shape {_by(self.shape)}, got {_by(shape)}; choose 'pixels', "
                "'spectrum' or a network of your own (inception:FILE, module:PACKAGE:CALLABLE, torchscript:FILE)"
            )


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _hash(network: object, name: str, version: str, code: str) -> str:
    """SHA-256 over name, version, code and every weight."""
    digest = hashlib.sha256(f"{name}\n{version}\n{code}\n".encode())
    if isinstance(network, nn.Module):
        for key, value in sorted(network.state_dict().items()):
            digest.update(f"{key} {value.dtype} {list(value.shape)}\n".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
