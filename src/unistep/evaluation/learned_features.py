"""Feature networks that learn from the user's own data, without labels, and are kept in the cache."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from unistep.data.cache import cache_root
from unistep.evaluation.features import FeatureNetwork
from unistep.evaluation.hardware import hardware
from unistep.evaluation.metrics import frechet_distance
from unistep.evaluation.reference import Examples, Progress, signals
from unistep.evaluation.saved_features import load_saved, rounded_to_half, save_features
from unistep.evaluation.vicreg import ViewFeatures, ViewRecipe, fit_views, hide
from unistep.precision import Precision

VERSION = "1"
"""Version of networks of this kind; raise it whenever recipe, views or architecture change."""
MOST_ITEMS = 20_000
"""No network learns from more items; those of a larger data set are drawn at random."""
CHOICES = 256
"""Held-out items among which one is found again by another view."""
_JUDGED = 2000  # items for the distances that say what the figures are worth
_FEWEST = 16  # held-out items; with fewer, what was learned from is used
_BATCH = 250
_log = logging.getLogger(__name__)


class LearnedLoader(ABC):
    """A kind of feature network that learns from data; an instance is registered as ``features``."""

    @abstractmethod
    def learn(self, rest: str, data: Examples, progress: Progress | None) -> FeatureNetwork:
        """The network for some data, from the cache where it has learned from them before.

        Args:
            rest: What follows the name and a colon.
            data: The real items.
            progress: Called with the number of items that the network has just gone through.
        """

    @abstractmethod
    def work(self, data: Examples) -> int:
        """Items that :meth:`learn` will go through; 0 where the network is kept already."""


@final
class ViewLoader(LearnedLoader):
    """``vicreg``: learns from two views of each item; see :mod:`unistep.evaluation.vicreg`.

    Args:
        recipe: How to build and train the network.
    """

    def __init__(self, recipe: ViewRecipe = ViewRecipe()) -> None:  # noqa: B008
        self.recipe = recipe

    def path(self, data: Examples) -> Path:
        """Where the network of some data is kept."""
        key = json.dumps([VERSION, data.fingerprint, asdict(self.recipe)], sort_keys=True)
        return cache_root(None) / "features" / f"vicreg-{hashlib.sha256(key.encode()).hexdigest()[:32]}"

    def work(self, data: Examples) -> int:
        if (self.path(data) / "config.json").is_file():
            return 0
        count = len(training_items(data)[0])
        return self.recipe.steps(count) * min(self.recipe.batch_size, count)

    def learn(self, rest: str, data: Examples, progress: Progress | None) -> FeatureNetwork:
        if rest:
            raise ValueError(
                f"features 'vicreg' learn from the data of the evaluation and take no {rest!r}; leave it out"
            )
        folder = self.path(data)
        if folder.is_dir():
            try:
                return load_saved(folder)
            except ValueError as error:  # damaged, so it learns again
                _log.warning("%s", error)
        network, facts = learn_views(data, self.recipe, progress)
        card = write_card("vicreg", VERSION, facts)
        try:
            save_features(network, folder, name="vicreg", version=VERSION, facts=facts, card=card)
        except (OSError, ValueError) as error:  # costs time at the next start, and not the result
            _log.warning("the feature network was not kept: %s", error)
        note = str(facts["note"])
        return FeatureNetwork(network, name="vicreg", version=VERSION, shape=network.shape, note=note)


VICREG = ViewLoader()
"""What is registered."""


def training_items(data: Examples) -> tuple[Tensor, Tensor]:
    """Positions of the items to learn from, and of a tenth that is held out; of few data none is."""
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
    held = min(len(data) // 10, _JUDGED)
    held = held if held >= _FEWEST else 0
    return order[held : held + MOST_ITEMS].sort().values, order[:held].sort().values


def learn_views(
    data: Examples,
    recipe: ViewRecipe,
    progress: Progress | None = None,
    *,
    precision: Precision = "fp32",
    store: Callable[[ViewFeatures], object] = rounded_to_half,
) -> tuple[ViewFeatures, dict[str, object]]:
    """Train a network on data without labels and find out what its figures are worth.

    Args:
        data: The real items.
        recipe: How long and how fast.
        progress: Called with the number of items that were just gone through.
        precision: Arithmetic of the convolutions in training.
        store: Rounds the weights of the network as they will be saved.

    Returns:
        The network, its weights rounded as they are saved, and what is known of it, for ``config.json`` and a card.
    """
    learned, held = training_items(data)
    begun, cpu = time.perf_counter(), time.process_time()
    network, initial = fit_views(
        data.modality,
        lambda index: signals(data, learned[index].tolist()),
        len(learned),
        recipe,
        progress=progress,
        precision=precision,
    )
    store(network)
    chosen = held if len(held) else learned
    some = torch.cat([held, learned])[:_JUDGED].sort().values
    found = worth(network, initial, data, chosen, some, hidden=recipe.hidden)
    noun = data.modality.noun
    facts: dict[str, object] = {
        "data": str(getattr(data, "source", "data")),
        "fingerprint": data.fingerprint,
        "items": len(learned),
        "noun": noun,
        "held_out": len(held),
        **found,
        "recipe": asdict(recipe),
        "parameters": sum(p.numel() for p in network.parameters()),
        "kernel": "x".join(map(str, network.kernel)),
        "seconds": round(time.perf_counter() - begun, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "hardware": hardware(),
        "torch": torch.__version__,
    }
    return network, facts | {"note": what_it_is_worth(facts)}


@torch.no_grad()
def worth(
    network: ViewFeatures, initial: ViewFeatures, data: Examples, held: Tensor, some: Tensor, *, hidden: float
) -> dict[str, float | int]:
    """How well a network knows an item again, and how far away it puts spoilt items.

    Args:
        network: The trained network.
        initial: The same before training.
        data: The real items.
        held: Positions of items that it has not learned from.
        some: Positions of items for the distances: one half of them against the other, which is spoilt in some way.
        hidden: Largest side of the rectangle that each view lacks, as in training.
    """
    generator = torch.Generator().manual_seed(1)
    modality = data.modality
    held = held[torch.randperm(len(held), generator=generator)[:CHOICES]]
    x = signals(data, held.tolist())
    views = [modality.random_view(x, generator) for _ in range(2)]

    def found_again(each: ViewFeatures) -> float:
        rectangles = torch.Generator().manual_seed(2)
        maps = [each.maps(view) for view in views]
        for view in maps:
            hide(view, hidden, rectangles)
        a, b = (torch.nn.functional.normalize(each.of_maps(view)) for view in maps)
        return float(((a @ b.T).argmax(dim=1) == torch.arange(len(a))).float().mean())

    some = some[torch.randperm(len(some), generator=generator)]
    half = len(some) // 2
    one, other = signals(data, some[:half].tolist()), signals(data, some[half : 2 * half].tolist())
    spoilt = {
        "noise": other + 0.1 * other.std() * torch.randn(other.shape, generator=generator),
        "blur": (other.roll(1, -1) + other + other.roll(-1, -1)) / 3,
        "mixture": (other + other.roll(1, 0)) / 2,
    }
    mine = _features(network, one)
    own = frechet_distance(mine, _features(network, other)) if half > 1 else 0.0
    times = {
        name: frechet_distance(mine, _features(network, bad)) / own if own > 0 else 1.0 for name, bad in spoilt.items()
    }
    return {"choices": len(x), "found_again": found_again(network), "untrained": found_again(initial), **times}


def _features(network: ViewFeatures, x: Float[Tensor, "n *shape"]) -> Float[Tensor, "n dim"]:
    return torch.cat([network(part) for part in x.split(_BATCH)])


def what_it_is_worth(facts: Mapping[str, Any]) -> str:
    """What a reader should know of the figures of such a network, in a sentence or two."""
    held = "held-out" if facts["held_out"] else "of its own"
    text = (
        f"it learned from {facts['items']:,} {facts['noun']}s without labels and finds {facts['found_again']:.0%} of "
        f"{facts['choices']} {held} ones by another view ({facts['untrained']:.0%} untrained); compared with the "
        f"distance between halves of the data, noise of a tenth of their deviation is {facts['noise']:.1f} times as "
        f"far, smoothing by three values {facts['blur']:.1f}, a mixture of two {facts['mixture']:.1f}"
    )
    weak = facts["found_again"] < facts["untrained"] + 0.1
    blind = [name for name in ("noise", "blur", "mixture") if facts[name] < 1.2]
    if weak:
        text += "; an untrained network finds almost as many, so it may see little more than the fixed features do"
    elif blind:
        text += f"; it hardly sees {' and '.join(blind)}, so look at the samples too"
    return text


_CARD = """# Feature network `{name}`, version {version}

A small convolutional network of `{data}` that learned without labels: two views of {article} {noun} (moved, scaled,
with a rectangle hidden) are to have the same features, and the features to stay varied and uncorrelated (VICReg,
Bardes, Ponce & LeCun 2022). Unistep computes Fréchet distance, KID, precision and recall on its {dim} features. Compare
such figures with each other and with nothing else.

| | |
|---|---|
| data | `{data}`, {items:,} {noun}s (fingerprint `{fingerprint}`) |
| what its figures are worth | {note} |
| architecture | {parameters:,} parameters: a strided stem and two stages of {kernel} convolutions, widths {widths}; \
one linear layer from all positions to {dim} |
| recipe | {steps} steps, batch {batch_size}, AdamW {learning_rate:g} one-cycle, weight decay {weight_decay:g}, \
invariance {invariance:g}, variance {variance:g}, covariance {covariance:g}, seed {seed} |
| time | {cpu_seconds:.0f} s of CPU, {seconds:.0f} s elapsed |
| hardware | {hardware}; PyTorch {torch} |

{command}
"""


def write_card(name: str, version: str, facts: Mapping[str, Any], command: str = "Made by `--features vicreg`.") -> str:
    """The card of such a network, from what was recorded about it."""
    recipe = ViewRecipe(**facts["recipe"])
    widths = ", ".join(map(str, recipe.channels))
    article = "an" if facts["noun"][0] in "aeiou" else "a"
    known = {
        "kernel": "3x3",
        **asdict(recipe),
        **facts,
        "steps": recipe.steps(facts["items"]),
        "widths": widths,
        "article": article,
    }
    return _CARD.format(name=name, version=version, command=command, **known)
