"""What a recipe owes to whom."""

from __future__ import annotations

from unistep.citations import bibtex
from unistep.modalities.audio import AudioModality
from unistep.objectives.denoising import DenoisingConfig
from unistep.recipes import recipes
from unistep.spelling import nearest
from unistep.training.ema import PowerEMA
from unistep.training.optim import MuonConfig
from unistep.training.run_config import RunConfig


def papers(config: RunConfig) -> tuple[str, ...]:
    """Keys of the papers whose methods and data a run uses, the method's own first."""
    objective = config.objective
    keys = [*objective.papers]
    if objective.starts_from_teacher:
        keys += DenoisingConfig.papers
    told = getattr(objective, "guidance_range", None) is not None
    if told or getattr(objective, "guidance", 1.0) != 1.0:
        keys.append("ho2022guidance")
    if told:
        keys.append("meng2022guided")
    if getattr(objective, "pairing", "independent") == "optimal_transport":
        keys.append("pooladian2023multisample")
    if isinstance(config.optimizer, MuonConfig):
        keys.append("jordan2024muon")
    if any(isinstance(ema, PowerEMA) for ema in config.emas):
        keys.append("karras2023dynamics")
    if config.data.source.startswith("fashion-mnist"):
        keys.append("xiao2017fashion")
    if isinstance(config.model.modality, AudioModality):
        keys.append("pasini2024music2latent")
    if config.model.context is not None:
        keys += ["valevski2024gamengen", "chen2024diffusionforcing"]
    return tuple(dict.fromkeys(keys))


def citation(recipe: str | RunConfig) -> str:
    """BibTeX of what a recipe uses: method, teacher, optimizer, averages and data.

    Args:
        recipe: A recipe's name, or a configuration.

    Returns:
        The entries, ready for a ``.bib`` file.

    Raises:
        ValueError: If there is no recipe of that name.
    """
    if isinstance(recipe, str):
        known = recipes()
        if recipe not in known:
            raise ValueError(f"there is no recipe {recipe!r}; {nearest(recipe, list(known))}")
        recipe = known[recipe]()
    return bibtex(papers(recipe))
