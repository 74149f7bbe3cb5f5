"""What became of every file of a source, for a person to read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

_SHOWN = 12  # files named in a printed summary


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A file that is not in the data set."""

    name: str
    """Its name within the source."""
    reason: str
    """Why not."""
    bad: bool = True
    """Whether it should have been a picture; other files in the folder do not count against it."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Counts of good and bad pictures, the skipped files by name, and what the good ones needed."""

    source: str
    """The source, with its split."""
    good: int
    """Pictures in the data set."""
    shape: tuple[int, int, int]
    """Channels, height and width of each."""
    skipped: tuple[Skipped, ...] = ()
    """Every file that was left out, with the reason."""
    notes: tuple[tuple[str, int], ...] = ()
    """Remarks on good pictures, with counts, such as how many were turned upright."""
    classes: tuple[tuple[str, int], ...] = ()
    """Labels, with counts."""

    @property
    def bad(self) -> int:
        """Number of pictures that could not be used."""
        return sum(item.bad for item in self.skipped)

    @property
    def other(self) -> int:
        """Number of files that are no pictures and did not claim to be."""
        return len(self.skipped) - self.bad

    def lines(self, shown: int = _SHOWN) -> list[str]:
        """The summary as plain lines, at most ``shown`` of them for skipped files."""
        channels, height, width = self.shape
        kind = "grey" if channels == 1 else "RGB"
        text = [f"{self.source}: {self.good:,} pictures of {width} x {height} pixels, {kind}"]
        if self.classes:
            some = ", ".join(f"{name} {count:,}" for name, count in self.classes[:10])
            more = f", and {len(self.classes) - 10} more" if len(self.classes) > 10 else ""
            text.append(f"labels: {some}{more}")
        text += [f"{note}: {count:,}" for note, count in self.notes]
        if self.skipped:
            share = self.bad / max(1, self.good + self.bad)
            text.append(f"skipped: {self.bad:,} bad pictures ({share:.1%}), {self.other:,} other files")
            text += [f"  {item.name}: {item.reason}" for item in self._bad_first()[:shown]]
            if len(self.skipped) > shown:
                reasons = Counter(item.reason for item in self._bad_first()[shown:])
                most = ", ".join(f"{reason} {count:,}" for reason, count in reasons.most_common(3))
                text.append(f"  and {len(self.skipped) - shown:,} more ({most})")
        return text

    def _bad_first(self) -> list[Skipped]:
        return sorted(self.skipped, key=lambda item: not item.bad)

    def __str__(self) -> str:
        """The summary as plain text."""
        return "\n".join(self.lines())

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The same lines, with the first one bold and the skipped files dim; names are never read as markup."""
        from rich.text import Text

        for number, line in enumerate(self.lines()):
            yield Text(line, style="bold" if number == 0 else "dim" if line.startswith("  ") else "")


def printable(name: str) -> str:
    """A file name that any terminal takes: bytes that are not UTF-8, and control characters, are escaped."""
    text = name.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
