"""The papers behind a recipe."""

from __future__ import annotations

from unistep.citations import bibtex
from unistep.objectives.denoising import DenoisingConfig
from unistep.recipes import find_recipe
from unistep.recipes.method import Method
from unistep.training.ema import PowerEMA
from unistep.training.optim import MuonConfig
from unistep.training.run_config import RunConfig


def papers(config: Method | RunConfig) -> tuple[str, ...]:
    """Keys of the papers whose methods and data are used, the method's own first.

    Args:
        config: A method, or a complete run, which also has the papers of its data and signal.
    """
    objective = config.objective
    keys = [*objective.papers]
    if objective.starts_from_teacher:
        keys += DenoisingConfig.papers
    guided = getattr(objective, "guidance_range", None) is not None
    if guided or getattr(objective, "guidance", 1.0) != 1.0:
        keys.append("ho2022guidance")
    if guided:
        keys.append("meng2022guided")
    if getattr(objective, "pairing", "independent") == "optimal_transport":
        keys.append("pooladian2023multisample")
    if isinstance(config.optimizer, MuonConfig):
        keys.append("jordan2024muon")
    if any(isinstance(ema, PowerEMA) for ema in config.emas):
        keys.append("karras2023dynamics")
    if isinstance(config, RunConfig):
        keys += _signal_papers(config)
    return tuple(dict.fromkeys(keys))


def _signal_papers(config: RunConfig) -> list[str]:
    keys = ["xiao2017fashion"] if config.data.source.startswith("fashion-mnist") else []
    keys += config.model.codec.papers
    if config.model.context is not None:
        keys += ["valevski2024gamengen", "chen2024diffusionforcing"]
        keys += ["ross2011dagger", "huang2025selfforcing"] if config.model.context.rollout else []
    return keys


def citation(recipe: str | Method | RunConfig) -> str:
    """BibTeX of what a recipe uses: method, teacher, optimizer, averages and data.

    Args:
        recipe: A recipe's name, a method, or a configuration.

    Returns:
        The entries, ready for a ``.bib`` file.

    Raises:
        ValueError: If there is no recipe of that name.
    """
    return bibtex(papers(find_recipe(recipe)() if isinstance(recipe, str) else recipe))
