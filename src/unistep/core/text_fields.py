"""The condition that is a text, which a frozen encoder turns into a sequence of vectors."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from unistep.core.fields import ConditionField, ReadSignal
from unistep.core.seeding import derived_seed
from unistep.core.signal_fields import TokensField
from unistep.core.values import Tokens
from unistep.text.encoder import EncodedText, check_texts, encode_one, is_written_in, load_text_encoder

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TextField(TokensField):
    """A field of texts. A value is a text, or what its encoder made of one: an array ``[n, d]``.

    The model holds the encoder's name and not its weights. In training an item may have several texts that say the
    same; which one is read depends on the item's seed.
    """

    kind: ClassVar[str] = "tokens"
    FORMER_KEYS: ClassVar[Mapping[str, str]] = {"judge": "evaluator"}

    encoder: str = "minilm"
    """Name of the encoder."""
    example: str = ""
    """A text that the model was trained on."""
    evaluator: str = ""
    """Name of a text-image network that tells whether a sample fits its text; empty where there is none."""

    def agrees(self, other: ConditionField) -> bool:
        """Whether the other's texts are read by the same encoder."""
        return isinstance(other, TextField) and (self.encoder, self.dim) == (other.encoder, other.dim)

    @property
    def extent(self) -> str:
        """The encoder, for tables."""
        return f"text, {self.encoder}"

    @property
    def choices(self) -> str:
        """The values in words, for help and messages."""
        example = f", such as {self.example!r}" if self.example else ""
        return f"a text that says what the sample should be{example}"

    @property
    def _expected(self) -> str:
        return "a text"

    @property
    def schema(self) -> dict[str, Any]:
        """That it is a text, with an example."""
        return {**super().schema, "kind": "text", "example": self.example}

    @property
    def takes_words(self) -> bool:
        """Any words."""
        return True

    def from_json(self, name: str, given: Any) -> str:
        """A text.

        Raises:
            ValueError: If it is none.
        """
        if not isinstance(given, str):
            raise ValueError(f"{name} must be a text, got {type(given).__name__}")
        return given

    def is_one(self, given: Any) -> bool:
        """Whether it is a text or one array ``[n, d]``."""
        return isinstance(given, str) or getattr(given, "ndim", None) == 2

    def _read(self, name: str, values: Sequence[Any], read: ReadSignal | None) -> Tokens:
        del read
        texts = [value for value in values if isinstance(value, str)]
        read_texts = iter(self._encoded(name, texts))
        found = [next(read_texts) if isinstance(value, str) else self._one(name, value) for value in values]
        return self._padded(found)

    def _padded(self, found: Sequence[Tensor]) -> Tokens:
        """Sequences ``[n, d]`` of any lengths as one batch."""
        if not found:
            return self.null(0)
        tokens = torch.stack([F.pad(vectors, (0, 0, 0, self.length - len(vectors))) for vectors in found])
        return Tokens(tokens, torch.arange(self.length) < torch.tensor([len(vectors) for vectors in found])[:, None])

    def _found(self, name: str, texts: Sequence[str]) -> dict[str, EncodedText]:
        """What the encoder makes of each distinct text.

        Raises:
            ValueError: If a text is empty or too long.
        """
        if not texts:
            return {}
        check_texts(name, texts)
        distinct = list(dict.fromkeys(texts))
        encoder = load_text_encoder(self.encoder)
        if len(distinct) == 1:  # what is drawn again and again, one sample at a time
            return {distinct[0]: encode_one(encoder, distinct[0], self.length)}
        return dict(zip(distinct, encoder.encode(distinct, self.length), strict=True))

    def _encoded(self, name: str, texts: Sequence[str]) -> list[Tensor]:
        """The vectors of texts.

        Raises:
            ValueError: If a text is empty, too long, or has no word that the encoder knows.
        """
        found = self._found(name, texts)
        for text, encoded in found.items():
            if encoded.known == 0:
                raise ValueError(
                    f"{name} has no word that the encoder {self.encoder} knows: {text[:60]!r}; write it in "
                    f"{load_text_encoder(self.encoder).languages}"
                )
        self._say_cut(name, found)
        self._say_foreign(name, found)
        return [found[text].vectors for text in texts]

    def _say_cut(self, name: str, found: Mapping[str, EncodedText]) -> None:
        """Say which texts have more tokens than are read."""
        cut = [text for text, encoded in found.items() if encoded.total >= self.length]
        if cut:
            which = f"{name} has" if len(found) == 1 else f"{len(cut):,} of {len(found):,} values of {name} have"
            _log.warning("%s more than %d tokens; the rest is not read: %.60r…", which, self.length - 1, cut[0])

    def _known(self, name: str, found: Mapping[str, EncodedText]) -> dict[str, EncodedText]:
        """The texts without those that have no word that the encoder knows, of which a warning tells."""
        unknown = [text for text, encoded in found.items() if encoded.known == 0]
        if unknown:
            _log.warning(
                "%d of %d values of %s have no word that the encoder %s knows, and count as none: %.60r; write them "
                "in %s",
                *(len(unknown), len(found), name, self.encoder, min(unknown)),
                load_text_encoder(self.encoder).languages,
            )
        known = {text: encoded for text, encoded in found.items() if encoded.known}
        self._say_foreign(name, known)
        return known

    def _say_foreign(self, name: str, found: Mapping[str, EncodedText]) -> None:
        """Say which texts are in letters that the encoder makes little of."""
        script = load_text_encoder(self.encoder).letters
        foreign = [text for text in found if not is_written_in(script, text)]
        if foreign:
            which = f"{name} is" if len(found) == 1 else f"{len(foreign):,} of {len(found):,} values of {name} are"
            _log.warning(
                "%s not in %s letters, and the encoder %s makes little of other ones: %.60r; write them in %s",
                *(which, script.title(), self.encoder, min(foreign), load_text_encoder(self.encoder).languages),
            )

    def to_columns(self, name: str, given: Sequence[Any]) -> dict[str, np.ndarray]:
        """Arrays for the cache: the vectors of all texts one after the other, in half precision, and how many.

        Args:
            name: Name of the field, for messages.
            given: For each item a text, several that say the same, or ``None``.
        """
        several = [() if v is None else (v,) if isinstance(v, str) else tuple(v) for v in given]
        found = self._known(name, self._found(name, [text for texts in several for text in texts]))
        self._say_cut(name, found)
        several = [tuple(text for text in texts if text in found) for texts in several]
        vectors = [found[text].vectors for texts in several for text in texts]
        return {
            "counts": np.array([len(texts) for texts in several], dtype=np.int32),
            "lengths": np.array([len(v) for v in vectors], dtype=np.int32),
            "vectors": torch.cat([*vectors, torch.zeros(0, self.dim)]).half().numpy(),
        }

    def from_columns(
        self, columns: Mapping[str, np.ndarray], rows: np.ndarray, seeds: Sequence[int] | None = None
    ) -> Tokens:
        """The texts of some items: the first of each, or the one that the item's seed chooses."""
        counts, lengths = columns["counts"], columns["lengths"]
        first, begin = _starts(counts), _starts(lengths)
        found: list[Tensor] = []
        for i, row in enumerate(rows):
            count = int(counts[row])
            if count == 0:
                found.append(torch.zeros(0, self.dim))
                continue
            chosen = int(first[row]) + (0 if seeds is None else derived_seed("text", seeds[i]) % count)
            start = int(begin[chosen])
            part = columns["vectors"][start : start + int(lengths[chosen])]
            found.append(torch.from_numpy(np.array(part)).float())
        return self._padded(found)


def _starts(counts: np.ndarray) -> np.ndarray:
    """Where each part begins, of parts of these sizes."""
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)[:-1]]) if len(counts) else counts
