"""Augmentation that may say no: synthetic items of the classes of a data set, copies among them, and their worth."""

from __future__ import annotations

from unistep.augmentation.classes import ClassedData, Matched, match_classes
from unistep.augmentation.memorisation import Memorisation, Nearness
from unistep.augmentation.protocol import Measurement, ProtocolOptions, measure
from unistep.augmentation.synthetic import Synthesis, Synthesizer

__all__ = [
    "ClassedData",
    "Matched",
    "Measurement",
    "Memorisation",
    "Nearness",
    "ProtocolOptions",
    "Synthesis",
    "Synthesizer",
    "match_classes",
    "measure",
]
