"""Recognising actions by what they did: a small network that sees three frames and says what led to the last one.

Actions are classes here: each control is at rest, up or down, by a quarter of what it can do.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from unistep.core.action_fields import ActionField
from unistep.data import Dataset
from unistep.data.cache import cache_root
from unistep.evaluation.conv_trunk import ConvTrunk
from unistep.evaluation.real_play import SEEN, actions_of
from unistep.files import replacing

VERSION = "1"
"""Version of such networks; raise it whenever recipe, classes or architecture change."""
SHARE = 0.25
"""Share of its range from which on a control is no more at rest."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class DynamicsRecipe:
    """How the network is built and trained."""

    channels: tuple[int, ...] = (24, 48, 64)
    """Width of each stage, after which the resolution is halved."""
    steps: int = 500
    """Steps of AdamW."""
    batch_size: int = 64
    """Examples per step."""
    learning_rate: float = 3e-3
    """Peak of the one-cycle schedule."""
    weight_decay: float = 0.02
    """AdamW's weight decay."""
    seed: int = 0
    """Seed of initial weights and examples."""


USUAL = DynamicsRecipe()
"""About a minute on one core."""


def classes_of(field: ActionField, actions: Float[Tensor, "*b size"]) -> Int[Tensor, "*b size"]:
    """The class of each control: 0 at rest, 1 up, 2 down.

    Args:
        field: The controls.
        actions: What was done.
    """
    low, high = torch.tensor(field.low), torch.tensor(field.high)
    down = (actions < SHARE * low) & (low < 0)
    return (actions > SHARE * high).long() + 2 * down.long()


@final
class InverseDynamics(nn.Module):
    """Scores of the classes of each control, from the frames around an action.

    Args:
        shape: Shape of one frame, ``(c, 1, h, w)``.
        field: The controls.
        channels: Width of each stage.
    """

    prior: Tensor

    def __init__(self, shape: tuple[int, ...], field: ActionField, channels: tuple[int, ...]) -> None:
        super().__init__()
        count, _, height, width = shape
        self.field = field
        self.trunk = ConvTrunk(SEEN * count, (height, width), channels)
        self.head = nn.Linear(self.trunk.size, 3 * field.size)
        self.register_buffer("prior", torch.zeros(field.size, 3))

    def forward(self, seen: Float[Tensor, "b c seen h w"]) -> Float[Tensor, "b size 3"]:
        """Scores of signals in [-1, 1], for classes that are equally likely."""
        return self.head(self.trunk(seen.flatten(1, 2)).flatten(1)).view(len(seen), -1, 3)

    @torch.no_grad()
    def classes(self, seen: Float[Tensor, "b c seen h w"]) -> Int[Tensor, "b size"]:
        """The class of each control, among those that there were in training."""
        return self(seen).masked_fill(self.prior == 0, -torch.inf).argmax(dim=2)


def dynamics_path(data: Dataset, field: ActionField, recipe: DynamicsRecipe) -> Path:
    """Where the network of some data is kept."""
    key = json.dumps([VERSION, data.fingerprint, field.names, field.low, field.high, asdict(recipe)], sort_keys=True)
    return (
        cache_root(None) / "features" / f"inverse-dynamics-{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"
    )


def learn_dynamics(
    data: Dataset,
    name: str,
    field: ActionField,
    recipe: DynamicsRecipe = USUAL,
    *,
    progress: Callable[[int], None] | None = None,
) -> InverseDynamics:
    """The network of some play, from the cache where it has learned from it before.

    Args:
        data: Clips of at least three frames, with actions.
        name: Name of their field of actions.
        field: The controls.
        recipe: How to build and train it.
        progress: Called with the number of examples of each finished step.

    Raises:
        ValueError: If the clips are too short.
    """
    shape = data.shape
    if shape[1] < SEEN:
        raise ValueError(f"actions are recognised from {SEEN} frames, and {data.source} has clips of {shape[1]}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = InverseDynamics((shape[0], 1, *shape[2:]), field, recipe.channels)
    path = dynamics_path(data, field, recipe)
    known = _kept(path)
    if known is not None:
        network.load_state_dict(known)
        return network.eval()
    network = fit_dynamics(network, data, name, recipe, progress)
    try:
        _keep(path, network.state_dict())
    except (OSError, ValueError) as error:  # costs time at the next start, and not the result
        _log.warning("the inverse-dynamics network was not kept: %s", error)
    return network


def fit_dynamics(
    network: InverseDynamics,
    data: Dataset,
    name: str,
    recipe: DynamicsRecipe,
    progress: Callable[[int], None] | None = None,
) -> InverseDynamics:
    """Train a network, with every class of a control counting alike however rare it is.

    Args:
        network: With initial weights; changed.
        data: Clips with actions.
        name: Name of their field of actions.
        recipe: How long and how fast.
        progress: Called with the number of examples of each finished step.

    References:
        Menon et al. 2021, "Long-tail learning via logit adjustment", arXiv 2007.07314, equation 10.
    """
    classes = classes_of(network.field, actions_of(data, name, range(len(data))))  # [n, frames, size]
    network.prior.copy_(nn.functional.one_hot(classes.flatten(0, 1), 3).float().mean(dim=0))
    adjustment = network.prior.clamp_min(1e-6).log()
    generator = torch.Generator().manual_seed(recipe.seed)
    network.train().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=recipe.steps + 1)
    for _ in range(recipe.steps):
        index = torch.randint(len(data), (recipe.batch_size,), generator=generator).sort().values
        last = torch.randint(SEEN - 1, data.shape[1], (len(index),), generator=generator)
        stored, _ = data.batch(index.tolist())
        seen = torch.stack([clip[:, at - SEEN + 1 : at + 1] for clip, at in zip(stored, last.tolist(), strict=True)])
        scores = network(data.modality.to_signal(seen)) + adjustment
        loss = nn.functional.cross_entropy(scores.flatten(0, 1), classes[index, last].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if progress:
            progress(len(index))
    return network.to(memory_format=torch.contiguous_format).eval()  # pyright: ignore[reportCallIssue]


def _kept(path: Path) -> Mapping[str, Tensor] | None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path) if path.is_file() else None
    except (OSError, SafetensorError) as error:  # damaged, so it learns again
        _log.warning("cannot read %s: %s", path, error)
        return None


def _keep(path: Path, weights: Mapping[str, Tensor]) -> None:
    from safetensors.torch import save

    with replacing(path) as temporary:
        temporary.write_bytes(save({key: value.contiguous() for key, value in weights.items()}))
