"""Text encoders: frozen networks, shared by all models of a process, that turn texts into sequences of vectors."""

from __future__ import annotations

import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, ClassVar

from torch import Tensor, nn

from unistep import registry

LONGEST = 1000
"""Characters of a text; a longer one is refused, as hardly any of it would have an effect."""


@dataclass(frozen=True, kw_only=True)
class EncodedText:
    """What an encoder makes of one text."""

    vectors: Tensor
    """One vector for the whole text, then one for each of its tokens: float32, shape ``[n, dim]``."""
    known: int
    """Tokens that the encoder has learned a vector for."""
    total: int
    """All tokens of the text, of which ``n - 1`` have vectors."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TextProgram:
    """An encoder in two parts that other programs can have: words to numbers, and numbers to vectors."""

    network: nn.Module
    """The vectors ``[n, dim]`` of one text, for the numbers ``[n]`` of its tokens, marks included; the last, of the
    closing mark, is left out."""
    tokenizer: Mapping[str, Any]
    """How a text becomes numbers, as JSON holds it; ``kind`` says by which method."""


class TextEncoder(ABC):
    """A frozen network from texts to vectors, registered as a ``text_encoder``; never part of a model.

    A model holds the encoder's name alone, so a file of weights stays small and all models share one encoder.
    """

    dim: ClassVar[int]
    """Features of a vector."""
    longest: ClassVar[int]
    """Most tokens of a text that it can take."""
    languages: ClassVar[str]
    """Languages of the texts that it was trained on, in words."""
    letters: ClassVar[str] = ""
    """The script that these are written in, as Unicode begins the names of its letters; empty for any."""

    @abstractmethod
    def encode(self, texts: Sequence[str], longest: int) -> list[EncodedText]:
        """The vectors of some texts; safe to call from several threads.

        Args:
            texts: The texts, none of them empty.
            longest: Most vectors of each; those of tokens further back are left out, though the others know of them.
        """

    def program(self) -> TextProgram:
        """The encoder for other programs.

        Raises:
            ValueError: If there is none of it.
        """
        raise ValueError(f"the text encoder {type(self).__name__} has no form for programs without Python")


def is_written_in(script: str, text: str) -> bool:
    """Whether at least half of the letters of a text are of a script; true for a text without letters.

    Args:
        script: How Unicode begins the names of its letters, such as ``LATIN``; empty for any.
        text: The text.
    """
    found = [unicodedata.name(c, "").startswith(script) for c in text if c.isalpha()]
    return 2 * sum(found) >= len(found)


@cache
def load_text_encoder(name: str) -> TextEncoder:
    """The encoder of that name, loaded once in a process.

    Args:
        name: A name registered as a ``text_encoder``.

    Raises:
        ValueError: If there is none, or its weights are not installed; says what to install.
    """
    make: Callable[[], TextEncoder] = registry.lookup("text_encoder", name)
    return make()


@lru_cache(maxsize=256)
def encode_one(encoder: TextEncoder, text: str, longest: int) -> EncodedText:
    """What an encoder makes of a text by itself, which is remembered: it takes a third of the time of one sample.

    Texts that come together are not: the last digits of their vectors depend on each other's lengths, and those of a
    sample must not depend on what was drawn before.

    Args:
        encoder: The encoder.
        text: The text, not empty.
        longest: Most vectors.
    """
    return encoder.encode([text], longest)[0]


def check_texts(name: str, texts: Sequence[str]) -> None:
    """Refuse what is no text that an encoder can do something with.

    Args:
        name: What the texts are for, for the message.
        texts: The texts.

    Raises:
        ValueError: For an empty text, or one of more than :data:`LONGEST` characters.
    """
    for text in texts:
        if not text.strip():
            raise ValueError(f"{name} is empty; write what the sample should be, or leave it out for no condition")
        if len(text) > LONGEST:
            raise ValueError(f"{name} must have at most {LONGEST:,} characters, got {len(text):,}: {text[:30]!r}…")
