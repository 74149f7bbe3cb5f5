"""U-Net shapes that are known to work, from 2 to 60 million parameters, for signals of 28 to 64 pixels a side.

===========  ==========  ========  ======  ============================
name         parameters  widths    blocks  attention besides the middle
===========  ==========  ========  ======  ============================
``tiny``     1,906,484   48, 128   1, 1    none
``fashion``  2,812,852   48, 128   1, 2    none
``small``    5,999,428   64, 192   2, 2    none
``medium``   18,564,932  96, 320   2, 2    coarse level
``large``    60,957,220  160, 448  3, 4    coarse level
===========  ==========  ========  ======  ============================

The counts are of the shapes as they stand: one channel, and no classes except for ``fashion``, which has ten. Three
channels and classes change the first and last layer and the label table only, less than 2 % in every case.
"""

from __future__ import annotations

from unistep.nets.conditioned_config import ConditionedConfig
from unistep.nets.dit_config import DiTConfig
from unistep.nets.unet_config import UNetConfig

PARAMETERS = {
    "tiny": 1_906_484,
    "fashion": 2_812_852,
    "small": 5_999_428,
    "medium": 18_564_932,
    "large": 60_957_220,
}
"""Parameters of each preset, counted by building it."""


def presets() -> dict[str, UNetConfig]:
    """Shapes by name, smallest first.

    All fold 2 x 2 blocks of pixels into channels and have two levels, so that sides must be multiples of 4: 28, 32, 48
    and 64 all do. Adapt one with :func:`dataclasses.replace`, as the trainer does with the channels and classes of the
    data.
    """
    return {
        "tiny": UNetConfig(widths=(48, 128), blocks=(1, 1)),
        "fashion": UNetConfig(widths=(48, 128), blocks=(1, 2), num_classes=10),
        "small": UNetConfig(widths=(64, 192), blocks=(2, 2)),
        "medium": UNetConfig(widths=(96, 320), blocks=(2, 2), attention=(1,), embedding_dim=512),
        "large": UNetConfig(widths=(160, 448), blocks=(3, 4), attention=(1,), embedding_dim=512),
    }


COLOUR_PARAMETERS = {
    "colour-64": 3_061_251,
    "colour-64-fine": 6_604_616,
    "colour-128": 6_427_936,
    "colour-128-fine": 10_650_144,
    "dit-64": 7_512_960,
    "dit-128": 9_880_192,
}
"""Parameters of each colour preset, counted by building it."""


def colour_presets() -> dict[str, ConditionedConfig]:
    """Shapes for colour images of 64 and 128 pixels, by name.

    All have the gated skip, which lets noise pass by the normalising layers, and attention at the coarsest level only,
    8 or 16 positions a side there. The fine ones take patches of half the side, at about three times the cost. The
    transformers have 64 and 256 tokens.
    """
    return {
        "colour-64": UNetConfig(channels=3, patch=4, widths=(64, 128), blocks=(1, 2), gated_skip=True, fine_width=24),
        "colour-64-fine": UNetConfig(channels=3, patch=2, widths=(48, 128, 192), blocks=(1, 1, 2), gated_skip=True),
        "colour-128": UNetConfig(channels=3, patch=8, widths=(96, 192), blocks=(1, 2), gated_skip=True),
        "colour-128-fine": UNetConfig(channels=3, patch=4, widths=(64, 128, 256), blocks=(1, 1, 2), gated_skip=True),
        "dit-64": DiTConfig(channels=3, patch=8, width=256, depth=6, gated_skip=True),
        "dit-128": DiTConfig(channels=3, patch=8, width=256, depth=8, gated_skip=True),
    }
