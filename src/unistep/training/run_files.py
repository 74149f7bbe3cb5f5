"""What a run writes into its folder while it trains: checkpoints, the model, samples."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from unistep.codecs.base import Codec
from unistep.files import write_text
from unistep.generation.model_config import ModelConfig
from unistep.hub.save import CARD, save
from unistep.nets.lora import lora_tensors
from unistep.provenance import Provenance, mark_file
from unistep.training.checkpoint import Snapshot, prune, save_checkpoint
from unistep.weights import in_half


class Previews(Protocol):
    """What shows samples: a modality."""

    def save_preview(self, x: Tensor, folder: Path, name: str) -> None:
        """Write files that show samples."""


class RunFiles:
    """Writes into the folder of a run.

    Args:
        out: The folder.
        keep: Number of checkpoints that stay.
        identity: Hashes of what the run depends on, such as its ``data`` and its ``teacher``; part of each checkpoint.
        model: The model to write, with a title and where it comes from; without, only checkpoints are written.
        title: Heading of the model's card.
        provenance: Where the model comes from, for its configuration and card.
        codec: The model's codec, whose weights, if it has any, lie beside the model's.
    """

    def __init__(
        self,
        out: Path,
        keep: int = 2,
        identity: Mapping[str, Any] | None = None,
        model: ModelConfig | None = None,
        title: str = "",
        provenance: Mapping[str, str] | None = None,
        codec: Codec | None = None,
    ) -> None:
        self.out, self.keep, self.identity = out, keep, dict(identity or {})
        self.model, self.title, self.provenance, self.codec = model, title, dict(provenance or {}), codec

    def checkpoint(self, snapshot: Snapshot, progress: Mapping[str, Any]) -> None:
        """Write a checkpoint and delete the oldest.

        Args:
            snapshot: The state.
            progress: Counters; ``step`` names the checkpoint.

        Raises:
            OSError: If the disk is full or cannot be written; earlier checkpoints are untouched.
        """
        save_checkpoint(snapshot, self.out / "checkpoints", {**progress, **self.identity})
        prune(self.out / "checkpoints", self.keep)

    def weights(self, net: nn.Module, average: Mapping[str, Tensor], described: Mapping[str, str]) -> None:
        """Write the model with averaged weights, where there is one to write.

        Args:
            net: The network, for what is no parameter of it.
            average: The averaged parameters by their number.
            described: How far the training is, for the model's provenance.

        Raises:
            ValueError: If it cannot be written.
        """
        if self.model is None:
            return
        averaged = {id(p): average[str(i)] for i, p in enumerate(net.parameters())}
        # A weight that two layers share has a name in each.
        named = {name: averaged[id(p)] for name, p in net.named_parameters(remove_duplicate=False)}
        weights = net.state_dict() | named
        adapter, front = self.model.adapter, ""
        if adapter is not None:
            weights = {name: in_half(value) for name, value in lora_tensors(weights).items()}
            front = f"base_model: {adapter.base}\ntags: [lora]\n"
        provenance = {**self.provenance, **({"adapter": adapter.described} if adapter else {}), **described}
        lines = "\n".join(f"- {name}: {value}" for name, value in provenance.items())
        card = f"---\nlibrary_name: unistep\n{front}---\n# {self.title}\n\nTrained with Unistep.\n\n{lines}\n"
        save(replace(self.model, provenance=provenance), weights, self.out / "model", card, codec=self.codec)

    def note(self, name: str, text: str) -> None:
        """Add a line to the card of the model that was written, where there is one.

        Raises:
            ValueError: If it cannot be written.
        """
        card = self.out / "model" / CARD
        if self.model is not None and card.is_file():
            write_text(card, card.read_text(encoding="utf-8") + f"- {name}: {text}\n")

    def samples(self, x: Tensor, modality: Previews, step: int) -> None:
        """Write samples of the averaged weights, whose files say that a model in training made them.

        Raises:
            OSError: If the disk is full.
            ValueError: If they cannot be written.
        """
        folder = self.out / "samples"
        folder.mkdir(parents=True, exist_ok=True)
        known = Provenance(model=f"{self.title or 'model'} after {step} steps", model_hash="")
        with tempfile.TemporaryDirectory(prefix=".", dir=folder) as temporary:
            modality.save_preview(x, Path(temporary), f"{step:08d}")
            for file in Path(temporary).iterdir():
                mark_file(file, known)
                file.replace(folder / file.name)
