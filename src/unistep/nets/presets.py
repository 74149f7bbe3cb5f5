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
