"""What became of every file of a source, for a person to read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    """Whether its name or content says that it is of the modality; other files in the folder do not count as bad."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Counts of good and bad items, the skipped files by name, and what was done to the good ones."""

    source: str
    """The source, with its split."""
    good: int
    """Items in the data set."""
    noun: str
    """What one item is called."""
    each: str
    """The shape of one item in words."""
    skipped: tuple[Skipped, ...] = ()
    """Every file that was left out, with the reason."""
    notes: tuple[tuple[str, int], ...] = ()
    """Remarks on good ones, with counts, such as how many were turned upright."""
    examples: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """The names of the first few that a remark is on."""
    classes: tuple[tuple[str, int], ...] = ()
    """Labels, with counts."""
    files: int | None = None
    """Number of files looked at, where one may hold several items."""
    listing: str = ""
    """File that names all of :attr:`skipped`, where there is one."""

    @property
    def bad(self) -> int:
        """Number of files that could not be used."""
        return sum(item.bad for item in self.skipped)

    @property
    def other(self) -> int:
        """Number of files that are of another kind, by their names and content."""
        return len(self.skipped) - self.bad

    def lines(self, shown: int = _SHOWN) -> list[str]:
        """The summary as plain lines, at most ``shown`` of them for skipped files."""
        text = [f"{self.source}: {_counted(self.good, self.noun)} of {self.each}"]
        if self.classes:
            some = ", ".join(f"{name} {count:,}" for name, count in self.classes[:10])
            more = f", and {len(self.classes) - 10} more" if len(self.classes) > 10 else ""
            text.append(f"labels: {some}{more}")
        text += [self._note(note, count) for note, count in self.notes]
        if self.skipped:
            share = self.bad / max(1, self.files or self.good + self.bad)
            bad, other = _counted(self.bad, f"bad {self.noun}"), _counted(self.other, "other file")
            text.append(f"skipped: {bad} ({share:.1%}), {other}")
            text += [f"  {line}" for line in self.skipped_lines()[:shown]]
            if len(self.skipped) > shown:
                reasons = Counter(item.reason for item in self._bad_first()[shown:])
                most = ", ".join(f"{reason} {count:,}" for reason, count in reasons.most_common(3))
                most += ", and others" if len(reasons) > 3 else ""
                text.append(f"  and {len(self.skipped) - shown:,} more ({most})")
                text += [f"all of them: {self.listing}"] if self.listing else []
        return text

    def skipped_lines(self) -> list[str]:
        """A line for each skipped file, the bad ones first."""
        return [f"{item.name}: {item.reason}" for item in self._bad_first()]

    def _note(self, note: str, count: int) -> str:
        names = dict(self.examples).get(note, ())
        shown = f" ({', '.join(names)}{', …' if count > len(names) else ''})" if names else ""
        return f"{note}: {count:,}{shown}"

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


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def with_article(noun: str) -> str:
    """``an image``, ``a sound``."""
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def from_stored(stored: Mapping[str, Any], path: Path) -> Summary:
    """A summary from the description of a cached data set.

    Args:
        stored: The summary in JSON's types.
        path: The folder of the cache.
    """
    from unistep.data.cache import skipped_listing

    listing = skipped_listing(path)
    return Summary(
        source=stored["source"],
        good=stored["good"],
        noun=stored["noun"],
        each=stored["each"],
        listing=str(listing) if listing.is_file() else "",
        examples=tuple((note, tuple(named)) for note, named in stored["examples"]),
        files=stored["files"],
        skipped=tuple(Skipped(**item) for item in stored["skipped"]),
        notes=tuple((note, count) for note, count in stored["notes"]),
        classes=tuple((label, count) for label, count in stored["classes"]),
    )
