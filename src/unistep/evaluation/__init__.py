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
    from unistep.evaluation.report import Report, Row
    from unistep.evaluation.sample_metrics import MetricAccumulator, SampleMetrics
    from unistep.evaluation.samplers import Setting

__all__ = [
    "FeatureNetwork",
    "MetricAccumulator",
    "Report",
    "Row",
    "SampleMetrics",
    "Setting",
    "evaluate",
    "frechet_distance",
    "kernel_distance",
    "load_features",
    "neighbourhood",
    "quick_fd",
    "reference_statistics",
    "save_plot",
]

_HOMES = {
    "FeatureNetwork": "features",
    "MetricAccumulator": "sample_metrics",
    "Report": "report",
    "Row": "report",
    "SampleMetrics": "sample_metrics",
    "Setting": "samplers",
    "evaluate": "evaluator",
    "frechet_distance": "metrics",
    "kernel_distance": "metrics",
    "load_features": "feature_loading",
    "neighbourhood": "metrics",
    "quick_fd": "quick",
    "reference_statistics": "reference",
    "save_plot": "plot",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
