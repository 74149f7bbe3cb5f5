"""Windows of multichannel sensor recordings as a signal of Unistep."""

from __future__ import annotations

from unistep import registry
from unistep_sensors.features import load_statistics
from unistep_sensors.modality import SensorModality
from unistep_sensors.options import SensorOptions

__all__ = ["SensorModality", "SensorOptions", "register_all"]


def register_all() -> None:
    """Make the signal and its features known; Unistep calls this once, by the package's entry point."""
    registry.register("modality", "sensors", SensorModality)
    registry.register("features", "sensor-statistics", load_statistics)
