"""Reproductions of the shipped model of phrases: streaming generation, conditioned on the previous chunk."""

from __future__ import annotations

from dataclasses import replace

from unistep.codecs.spectrum import SpectrumConfig
from unistep.core.timesteps import LogNormal
from unistep.data import data_config
from unistep.generation.history import Context
from unistep.modalities.audio import AudioModality
from unistep.objectives.denoising import DenoisingConfig
from unistep.recipes import consistency_methods
from unistep.recipes.shipped_notes import NETWORK as NOTES
from unistep.recipes.shipped_notes import TUNED_SOUNDS
from unistep.training.run_config import RunConfig

CHUNK = 32
"""Frames of a chunk: 0.512 s."""
SPECTRA = SpectrumConfig(dims=1, multiple=2, chunk=CHUNK)
CHUNKS = AudioModality(sample_rate=16_000, samples=2 * CHUNK * SPECTRA.hop)
CONTEXT = Context(frames=16)
"""A quarter of a second of the previous chunk."""
NETWORK = replace(NOTES, basis_functions=0, position_sizes=(CHUNK,), context=CONTEXT.frames, margin=4)
"""The network of notes, over 32 frames, the 16 before them and 4 empty ones after them, so that a chunk boundary is not
at the network's border."""
PHRASES = data_config("phrases", modality="audio", seconds=CHUNKS.seconds, cut="windows")


def denoising() -> RunConfig:
    """A denoiser of the next half second of sound, given the previous one: the teacher of `phrases`.

    The previous chunk gets context noise of a random level, so that a stream does not drift. As with notes, much is
    learned at high noise.

    Data: 5,760 pairs of chunks from phrases of six instruments at 16 kHz, rendered from Debian's fluid-soundfont-gm
    (MIT), or your recordings, of any length, with ``--data folder:PATH``.
    Hardware: one core of a CPU with AMX, bfloat16, compiled.
    Time: 26 minutes for 201,152 pairs.
    Expected: 2.5 dB from one call to the true next chunk, within 10 % (`benchmarks/stream.py`), as measured without the
    margin.
    Paper: Karras et al. 2022 (arXiv 2206.00364); `objectives/denoising.py`. Muon in place of Adam. The noised context
    as in Valevski et al. 2024 (arXiv 2408.14837), spectra as in Pasini et al. 2024 (arXiv 2408.06500).
    """
    method = replace(
        consistency_methods.denoising(),
        objective=DenoisingConfig(times=LogNormal(mean=1.0, std=2.0), label_dropout=0.05),
        batch_size=32,
        budget="30m",
    )
    return method.run("phrases/denoising", PHRASES, CHUNKS, NETWORK, codec=SPECTRA, context=CONTEXT)


def ect() -> RunConfig:
    """Easy consistency tuning of the phrases' teacher: a stream, one network call for each half second.

    The next chunk is almost determined by the condition and the previous chunk, so the widest gap between noise levels
    works well: from levels above 2 to an eighth of them, and from those below to the data, all with the same weight, at
    a third of the usual rates. Between levels closer to each other, noise that is left over in the output at one
    becomes the target of the next.

    Data: 5,760 pairs of chunks from phrases of six instruments at 16 kHz, rendered from Debian's fluid-soundfont-gm
    (MIT), or your recordings, of any length, with ``--data folder:PATH``.
    Needs a teacher: yes; one is trained first, or name it with ``--teacher``.
    Hardware: one core of a CPU with AMX, bfloat16, compiled.
    Time: 16 minutes for 101,088 pairs; 17 more for the 115,200 with which the shipped model went on.
    Expected: 2.5 dB from one call to the true next chunk, within 10 % (`benchmarks/stream.py`).
    Paper: Geng et al. 2024 (arXiv 2406.14548), algorithm 1; `objectives/ect.py`. The noised context as in Valevski et
    al. 2024 (arXiv 2408.14837), spectra as in Pasini et al. 2024 (arXiv 2408.06500).
    """
    return replace(TUNED_SOUNDS, budget="20m").run(
        "phrases/ect", PHRASES, CHUNKS, NETWORK, codec=SPECTRA, context=CONTEXT
    )
