"""What processes of the tests begin with: a server imports it once, and each process is a copy of the server."""

from __future__ import annotations

import gc
import importlib

gc.disable()  # all of this lasts: looking through it for garbage would take long, here and in each copy

for name in (
    "worker",
    "unistep.cli.main",
    "unistep.cli.sample",
    "unistep.data.building",
    "unistep.data.sources.npz",
    "unistep.modalities.contact_sheet",
    "torch._dynamo",
    "torch._decomp.decompositions_for_jvp",  # which takes longer than a tiny run of four steps
    "PIL.JpegImagePlugin",
    "PIL.PngImagePlugin",
):
    importlib.import_module(name)

gc.freeze()
gc.enable()
