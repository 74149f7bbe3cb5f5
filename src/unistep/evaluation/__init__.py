"""Evaluating generated samples: feature networks, distances, cached reference statistics and the report.

Names are imported when first used, so that the command line starts fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unistep.evaluation.evaluator import evaluate
    from unistep.evaluation.feature_loading import load_features
    from unistep.evaluation.features import FeatureNetwork
    from unistep.evaluation.metrics import frechet_distance, kernel_distance, neighbourhood
    from unistep.evaluation.plot import save_plot
    from unistep.evaluation.quick import quick_fd
    from unistep.evaluation.reference import reference_statistics
    from unistep.evaluation.report import Figures, Report, ReportedNetwork, Row
    from unistep.evaluation.roles import feature_roles, selection_features
    from unistep.evaluation.sample_metrics import MetricAccumulator, SampleMetrics
    from unistep.evaluation.samplers import Setting
    from unistep.evaluation.world_plot import save_world_plot
    from unistep.evaluation.world_report import WorldReport
    from unistep.evaluation.worlds import evaluate_world

__all__ = [
    "FeatureNetwork",
    "Figures",
    "MetricAccumulator",
    "Report",
    "ReportedNetwork",
    "Row",
    "SampleMetrics",
    "Setting",
    "WorldReport",
    "evaluate",
    "evaluate_world",
    "feature_roles",
    "frechet_distance",
    "kernel_distance",
    "load_features",
    "neighbourhood",
    "quick_fd",
    "reference_statistics",
    "save_plot",
    "save_world_plot",
    "selection_features",
]

_HOMES = {
    "FeatureNetwork": "features",
    "Figures": "report",
    "MetricAccumulator": "sample_metrics",
    "Report": "report",
    "ReportedNetwork": "report",
    "Row": "report",
    "SampleMetrics": "sample_metrics",
    "Setting": "samplers",
    "WorldReport": "world_report",
    "evaluate": "evaluator",
    "evaluate_world": "worlds",
    "feature_roles": "roles",
    "frechet_distance": "metrics",
    "kernel_distance": "metrics",
    "load_features": "feature_loading",
    "neighbourhood": "metrics",
    "quick_fd": "quick",
    "reference_statistics": "reference",
    "save_plot": "plot",
    "save_world_plot": "world_plot",
    "selection_features": "roles",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
