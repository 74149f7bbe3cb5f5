"""Emoji in colour with their names: 3,655 pictures from Debian's fonts-noto-color-emoji and unicode-data."""

from __future__ import annotations

import csv
import hashlib
import re
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from unistep.core.text_fields import TextField
from unistep.data.options import DataConfig
from unistep.data.sources.base import Item, Source, SourceManifest
from unistep.data.sources.image_items import transparent_image
from unistep.data.sources.limits import evenly_spaced
from unistep.data.sources.packages import check_part, missing_package
from unistep.modalities.feature_roles import FeatureRoles
from unistep.modalities.image_options import ImageOptions

if TYPE_CHECKING:
    from PIL import Image

    from unistep.modalities.base import Decoded, Modality

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
"""The font, of Debian's package fonts-noto-color-emoji."""
TABLE = Path("/usr/share/unicode/emoji/emoji-test.txt")
"""All emoji with their names, of Debian's package unicode-data."""
EXCERPT = Path(__file__).parent / "bundled" / "emoji"
"""64 emoji that come with this package, for tests and first trials."""
LICENCE = "art Apache-2.0, font OFL-1.1 (Google Inc., Noto Emoji)"
SIDE = 64
"""Side of the images by default, in pixels."""
LENGTH = 32
"""Most vectors of a name."""
EXAMPLE = "a smiling cat with heart-eyes"
"""A text for help and messages."""
TONES = ("light skin tone", "medium-light skin tone", "medium skin tone", "medium-dark skin tone", "dark skin tone")
"""Skin tones as Unicode names them."""
PHRASINGS = ("{name}", "an emoji of {name}", "{name}, {subgroup}")
"""What training calls an emoji."""
OTHER_PHRASINGS = ("a drawing of {name}", "this picture shows {name}", "{group}: {name}")
"""What training never calls it: for networks that evaluate whether an image fits its text."""

_GLYPH = (136, 128)  # pixels of the font's only size
_POINTS = 109  # at which FreeType gives that size
_LINE = re.compile(r"([0-9A-F ]+?)\s*; fully-qualified\s*# \S+ E[\d.]+ (.*)$")
_drawing = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One emoji."""

    text: str
    """Its characters."""
    name: str
    """Its name, such as ``woman health worker: medium skin tone``."""
    group: str
    """Its group, such as ``People & Body``."""
    subgroup: str
    """Its subgroup, such as ``person-role``."""

    def captions(self, phrasings: Sequence[str] = PHRASINGS) -> tuple[str, ...]:
        """What it is called, in several phrasings."""
        name = self.name.replace(": ", ", ")
        words = {"name": name, "group": self.group.lower(), "subgroup": self.subgroup.replace("-", " ")}
        return tuple(dict.fromkeys(phrasing.format(**words) for phrasing in phrasings))

    @property
    def kin(self) -> str | None:
        """Its name without skin tones, where it has some; ``None`` for one that stands alone."""
        base, _, details = self.name.partition(": ")
        return base if any(tone in details for tone in TONES) else None


@cache
def pictures() -> tuple[Picture, ...]:
    """Every fully qualified emoji, in Unicode's order.

    Raises:
        ValueError: If the table is not installed.
    """
    if not TABLE.is_file():
        raise missing_package("emoji", "unicode-data")
    found: list[Picture] = []
    group = subgroup = ""
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        if line.startswith("# group: "):
            group = line.removeprefix("# group: ").strip()
        elif line.startswith("# subgroup: "):
            subgroup = line.removeprefix("# subgroup: ").strip()
        elif match := _LINE.match(line):
            text = "".join(chr(int(code, 16)) for code in match[1].split())
            found.append(Picture(text=text, name=match[2], group=group, subgroup=subgroup))
    return tuple(found)


def is_held_out(name: str, names: frozenset[str]) -> bool:
    """Whether an emoji belongs to the test split: one in five combinations of a person, what it does and a skin tone.

    Every person is seen with every role, every role with every tone and every tone with every person, but these three
    never together.

    Args:
        name: Its name.
        names: The names of all emoji.
    """
    base, _, tone = name.partition(": ")
    person = next((i for i, word in enumerate(("man ", "woman ")) if base.startswith(word)), 2)
    role = base if person == 2 else base.split(" ", 1)[1]
    role = role.removeprefix("person ")
    if tone not in TONES or not {f"man {role}", f"woman {role}"} <= names:
        return False
    return (zlib.crc32(role.encode()) + 2 * person + TONES.index(tone)) % 5 == 0


@dataclass(frozen=True, kw_only=True)
class Emoji(Source):
    """The emoji of the installed font, each with its name as a text."""

    modality: ClassVar[str | None] = "image"
    usage: ClassVar[str] = "emoji"
    splits: ClassVar[tuple[str, ...]] = ("train", "test", "excerpt")

    split: str
    """``train``, ``test`` (combinations that are held out) or ``excerpt`` (64 that come with this package)."""

    @classmethod
    def named(cls, rest: str, config: DataConfig, downloads: Path) -> Self:
        """The split after the colon, else the configured one.

        Raises:
            ValueError: If there is no such split, or what it needs is not installed.
        """
        del downloads
        split = rest or config.split
        check_part(split, cls.splits, "emoji has the splits train, test and excerpt")
        if split != "excerpt":
            for path, package in ((FONT, "fonts-noto-color-emoji"), (TABLE, "unicode-data")):
                if not path.is_file():
                    raise missing_package("emoji (but for emoji:excerpt, 64 of them)", package)
        return cls(split=split)

    @classmethod
    def feature_roles(cls, modality: Modality) -> FeatureRoles:
        """Fixed features select; the networks that ship take images in colour of the source's own size."""
        if modality.shape != (3, SIDE, SIDE):
            return modality.feature_roles()
        return FeatureRoles(selection="random-convolutions:1", reporting=("emoji-vicreg", "emoji-text", "pixels"))

    @property
    def name(self) -> str:
        """As a person writes it."""
        return f"emoji:{self.split}"

    def identity(self) -> dict[str, Any]:
        """The texts, and the length of the font's file, which changes with its version."""
        if self.split == "excerpt":
            return {
                "emoji": "excerpt",
                "length": LENGTH,
                "files": [path.stat().st_size for path in sorted(EXCERPT.iterdir())],
            }
        texts = "\n".join("\t".join((p.text, *p.captions())) for p in self.chosen())
        text_hash = hashlib.sha256(texts.encode()).hexdigest()
        return {"emoji": text_hash, "length": LENGTH, "font": FONT.stat().st_size, "kin": "without tones"}

    def chosen(self) -> list[Picture]:
        """The emoji of this split, in Unicode's order."""
        if self.split == "excerpt":
            return list(excerpt())
        every = pictures()
        names = frozenset(picture.name for picture in every)
        return [p for p in every if is_held_out(p.name, names) == (self.split == "test")]

    def open(self, config: DataConfig) -> SourceManifest:
        """Get ready to draw."""
        options: ImageOptions = config.options_for(self.modality_of(config))
        side = options.size or SIDE
        shape = (options.channels or 3, side, side)
        every = self.chosen()
        chosen = evenly_spaced(len(every), config.limit)
        draw = _from_excerpt if self.split == "excerpt" else draw_emoji

        def items() -> Iterator[Item]:
            for i in chosen:
                picture = every[i]
                read = partial(_read, partial(draw, picture.text), options, shape)
                yield Item(
                    name=picture.name, label=None, read=read, kin=picture.kin, condition={"text": picture.captions()}
                )

        return SourceManifest(
            modality="image",
            count=len(chosen),
            shape=shape,
            items=items,
            parallel=False,
            fields={
                "text": TextField(length=LENGTH, dim=384, encoder="minilm", example=EXAMPLE, evaluator="emoji-text")
            },
            licence=LICENCE,
        )


def draw_emoji(text: str) -> Image.Image:
    """An emoji as the font has it, RGBA, 136 by 136 pixels."""
    from PIL import Image, ImageDraw

    side = max(_GLYPH)
    canvas = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    with _drawing:  # FreeType's faces are not to be used by several threads at once
        place = ((side - _GLYPH[0]) // 2, (side - _GLYPH[1]) // 2)
        ImageDraw.Draw(canvas).text(place, text, font=_font(), embedded_color=True)
    return canvas


@cache
def _font() -> Any:
    from PIL import ImageFont

    return ImageFont.truetype(str(FONT), _POINTS)


@cache
def excerpt() -> tuple[Picture, ...]:
    """The 64 emoji that come with this package, in the order of their sheet."""
    with (EXCERPT / "emoji.tsv").open(encoding="utf-8", newline="") as file:
        return tuple(Picture(**row) for row in csv.DictReader(file, delimiter="\t"))  # type: ignore[arg-type]


@cache
def _sheet() -> Image.Image:
    from PIL import Image

    return Image.open(EXCERPT / "emoji.png").convert("RGBA")


def _from_excerpt(text: str) -> Image.Image:
    """An emoji of the excerpt, RGBA, 64 by 64 pixels; the sheet has eight in a row."""
    row, column = divmod([picture.text for picture in excerpt()].index(text), 8)
    return _sheet().crop((column * SIDE, row * SIDE, (column + 1) * SIDE, (row + 1) * SIDE))


def _read(draw: Callable[[], Image.Image], options: ImageOptions, shape: tuple[int, int, int]) -> Decoded:
    return transparent_image(draw(), options, shape)
