"""Collect the images that `base-64` is trained on from Debian packages, as files of 64 x 64 pixels in a folder.

    apt-get download PACKAGE...; for f in *.deb; do dpkg -x $f tree; done
    python benchmarks/base_images.py --root / --root tree --out base-images
    unistep train denoising --data folder:base-images --data.size 64 --init base-64 --data.augment flip --budget 60m

Emoji and clip art come from the sources of the same names, without what `emoji:test` and `clipart:test` hold out.
Images are laid on white; icons and sprites are shrunk to 64 pixels and never enlarged; of photographs, large drawings
and sheets random squares are taken. What looks like an image that is already there is left out. Prints how many there
are of each package, with its licence.
"""

from __future__ import annotations

import argparse
import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageStat, UnidentifiedImageError

SIDE = 64
SMALLEST, LARGEST = 40, 288
"""Sides of what is taken whole; what is larger is cropped."""
CROPS = 50
"""Most squares of one large image."""
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})


@dataclass(frozen=True)
class Package:
    """Images of one package."""

    name: str
    licence: str
    folders: tuple[str, ...]
    """Below the root; patterns."""
    crops: int = 4
    """Squares of each large image."""
    sheets: bool = False
    """Whether large images are sheets of small ones, of which no square is shrunk to less than half."""


PACKAGES = (
    Package("tuxpaint-stamps-default", "GPL-2", ("usr/share/tuxpaint/stamps",)),
    Package("oxygen-icon-theme", "LGPL-3 or later", ("usr/share/icons/oxygen/base/128x128",)),
    Package("faenza-icon-theme", "GPL-3 or later", ("usr/share/icons/Faenza/*/96",)),
    Package(
        "elementary-xfce-icon-theme",
        "GPL-2 or later, LGPL-2 or later and CC-BY-SA-2.0",
        ("usr/share/icons/elementary-xfce/*/128", "usr/share/icons/elementary-xfce/*/96"),
    ),
    Package("gnome-icon-theme", "GPL-2 or later and GPL-3 or later", ("usr/share/icons/gnome/256x256",)),
    Package(
        "endless-sky-data",
        "CC-BY-SA-4.0, CC-BY-SA-3.0, CC-BY-4.0, GPL-3 or later, public domain",
        ("usr/share/games/endless-sky/images",),
    ),
    Package(
        "hedgewars-data",
        "GPL-2, GFDL-1.3 and permissive ones",
        ("usr/share/games/hedgewars/Data/Graphics", "usr/share/games/hedgewars/Data/Themes"),
    ),
    Package("pingus-data", "GPL-2 or later", ("usr/share/games/pingus/data/images",)),
    Package(
        "supertux-data",
        "GPL-2 or later, GPL-3 or later and permissive ones",
        ("usr/share/games/supertux2/images",),
        sheets=True,
    ),
    Package("freeciv-data", "GPL-2 or later", ("usr/share/games/freeciv",), sheets=True),
    Package("flare-game", "CC-BY-SA-3.0 or later", ("usr/share/games/flare",), crops=12, sheets=True),
    Package("mate-backgrounds", "GPL-2 or later and CC-BY-SA-4.0", ("usr/share/backgrounds/mate",), crops=CROPS),
    Package("plasma-workspace-wallpapers", "GPL-2 or later", ("usr/share/wallpapers",), crops=CROPS),
    Package("gnome-backgrounds", "CC-BY-SA-3.0", ("usr/share/backgrounds/gnome",), crops=CROPS),
)


def opened(path: Path) -> Image.Image | None:
    """The image on white; ``None`` where it cannot be read, or nothing of it is seen."""
    try:
        with Image.open(path) as image:
            image.load()
            rgba = image.convert("RGBA")
    except (OSError, UnidentifiedImageError, ValueError):
        return None
    box = rgba.getchannel("A").getbbox()
    if box is None:
        return None
    ground = Image.new("RGBA", rgba.size, "white")
    ground.alpha_composite(rgba)
    return ground.convert("RGB")


def squares(image: Image.Image, package: Package, choice: random.Random) -> Iterator[Image.Image]:
    """What is taken of an image: itself, in the middle of a white square, or random squares of a large one."""
    width, height = image.size
    if max(width, height) <= LARGEST:
        if max(width, height) < SMALLEST:
            return
        side = max(SIDE, width, height)
        whole = Image.new("RGB", (side, side), "white")
        whole.paste(image, ((side - width) // 2, (side - height) // 2))
        yield whole.resize((SIDE, SIDE), Image.Resampling.LANCZOS) if side > SIDE else whole
        return
    largest = min(width, height, 2 * SIDE if package.sheets else width)
    for _ in range(package.crops if largest >= SIDE else 0):
        side = choice.randint(SIDE, largest)
        x, y = choice.randint(0, width - side), choice.randint(0, height - side)
        yield image.crop((x, y, x + side, y + side)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)


class Folder:
    """Writes images that are not there yet.

    Args:
        out: Where to.
    """

    def __init__(self, out: Path) -> None:
        out.mkdir(parents=True, exist_ok=False)
        self.out, self.seen, self.count = out, set[str](), 0

    def add(self, image: Image.Image, name: str) -> bool:
        """Write an image unless it is nearly of one colour, or looks like another."""
        if max(ImageStat.Stat(image).stddev) < 8:
            return False
        small = (
            image.resize((16, 16), Image.Resampling.BOX).quantize(16, method=Image.Quantize.MEDIANCUT).convert("RGB")
        )
        key = hashlib.sha256(small.tobytes()).hexdigest()
        if key in self.seen:
            return False
        self.seen.add(key)
        image.save(self.out / f"{self.count:06d}-{name}.png")
        self.count += 1
        return True


def own_sources(folder: Folder) -> None:
    """Emoji and clip art, as the sources of the same names draw them."""
    from unistep.data import data_config, prepare

    for source in ("emoji:train", "clipart:train"):
        data = prepare(data_config(source, size=SIDE), progress=False)
        taken = 0
        for start in range(0, len(data), 256):
            stored, _ = data.batch(range(start, min(start + 256, len(data))), None)
            for values in data.modality.quantised(data.modality.to_signal(stored)):
                pixels = ((values + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
                taken += folder.add(Image.fromarray(pixels), source.partition(":")[0])
        print(f"{taken:6,} {source}: {data.licence}", flush=True)


def main() -> None:
    """Collect, and print how many."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, action="append", required=True, help="where packages are unpacked")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    folder = Folder(args.out)
    own_sources(folder)
    for package in PACKAGES:
        choice, taken = random.Random(package.name), 0
        found = {
            path
            for root in args.root
            for pattern in package.folders
            for top in root.glob(pattern)
            for path in top.rglob("*")
        }
        for path in sorted(found):
            image = (
                opened(path) if path.suffix.lower() in SUFFIXES and path.is_file() and not path.is_symlink() else None
            )
            if image is not None:
                taken += sum(folder.add(square, package.name) for square in squares(image, package, choice))
        print(f"{taken:6,} {package.name}: {package.licence}", flush=True)
    print(f"{folder.count:6,} in {args.out}")


if __name__ == "__main__":
    main()
