"""The mean of two models' weights, of which one was trained from the other."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from unistep.generation.generator import Generator
from unistep.generation.model_config import ModelConfig

MIXED = "mixed with"
"""Key of a model's provenance that says which weights are in it beside its own."""


def mixed(model: Generator, other: Generator, share: float) -> tuple[ModelConfig, dict[str, Tensor]]:
    r"""Configuration and weights of a model between two.

    .. math:: \theta = (1 - s)\,\theta_{\text{model}} + s\,\theta_{\text{other}}

    Where one was trained from the other for not too long, such a mean is a good model as well: it keeps more of what
    ``model`` does well than the other, and has more of what that learned.

    Args:
        model: One of them, whose configuration is kept.
        other: The other: a network of the same shapes, for the same signals.
        share: How much of the other there is to be, in [0, 1].

    Raises:
        ValueError: If the share is not in [0, 1], or the models are not alike; says in what.

    References:
        Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", arXiv 2109.01903, equation 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"the share of the other model must be from 0 to 1, got {share:g}")
    ours, theirs = model.config, other.config
    for what in ("kind", "network", "modality", "codec"):
        if getattr(ours, what) != getattr(theirs, what):
            raise ValueError(
                f"{model.name} and {other.name} differ in their {what}, so their weights have no mean; "
                "mix a model with what was trained from it"
            )
    own, added = model.map.net.state_dict(), other.map.net.state_dict()
    weights = {
        name: value.lerp(added[name], share) if value.is_floating_point() else value for name, value in own.items()
    }
    said = f"{other.name}, {share:g} of the weights"
    return replace(ours, provenance={**ours.provenance, MIXED: said}), weights
