"""Fashion-MNIST: 70,000 grey images of clothes of 28 by 28 pixels, in ten classes (Xiao et al. 2017, 1708.07747)."""

from __future__ import annotations

import gzip
import hashlib
import logging
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.request import urlopen

import numpy as np

from unistep.data.options import DataConfig
from unistep.data.sources.base import Item, Source, SourceManifest
from unistep.data.sources.image_items import array_image
from unistep.data.sources.limits import evenly_spaced
from unistep.files import replacing
from unistep.modalities.base import Modality
from unistep.modalities.feature_roles import FeatureRoles
from unistep.modalities.image_options import ImageOptions
from unistep.spelling import nearest_hint

LABELS = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
"""Names of the ten classes, in order."""

CHECKSUMS = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""SHA-256 of the unpacked files, so that a recompressed copy is as good as the published one."""

BUNDLED = Path(__file__).parent / "bundled"
"""The test split, which comes with this package."""
INSTALLED = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package ``dataset-fashion-mnist`` puts the files."""
ORIGIN = (
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/"
    "b2617bb6d3ffa2e429640350f613e3291e10b141/data/fashion/"
)
"""The authors' repository."""

_MOST_BYTES = 64_000_000  # of a download; the largest file has 26 million
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FashionMnist(Source):
    """The built-in data set."""

    modality: ClassVar[str | None] = "image"
    usage: ClassVar[str] = "fashion-mnist"
    splits: ClassVar[tuple[str, ...]] = ("train", "test")

    split: str
    """``train`` (60,000 images) or ``test`` (10,000)."""
    downloads: Path
    """Folder for downloaded files."""

    @classmethod
    def named(cls, rest: str, config: DataConfig, downloads: Path) -> Self:
        """The split after the colon, else the configured one."""
        return cls(split=rest or config.split, downloads=downloads)

    @classmethod
    def feature_roles(cls, modality: Modality) -> FeatureRoles:
        """The classifier of its classes selects; the networks that ship take images of the published size."""
        if modality.shape != (1, 28, 28):
            return modality.feature_roles()
        return FeatureRoles(selection="fashion", reporting=("fashion-vicreg", "random-convolutions:2", "pixels"))

    def __post_init__(self) -> None:
        """Check the split.

        Raises:
            ValueError: If there is no such split.
        """
        if self.split not in ("train", "test"):
            hint = nearest_hint(self.split, ("train", "test"))
            raise ValueError(f"fashion-mnist has the splits train and test, got {self.split!r}{hint}")

    @property
    def name(self) -> str:
        """As a person writes it."""
        return f"fashion-mnist:{self.split}"

    def identity(self) -> dict[str, Any]:
        """The checksums: wherever the files come from, they are the same."""
        return {"fashion-mnist": [total for name, total in CHECKSUMS.items() if name.startswith(self._stem)]}

    def images(self) -> np.ndarray:
        """The images of the split, uint8 ``[n, 28, 28]``, downloaded where they are nowhere on this machine.

        Raises:
            ValueError: If they are not here and cannot be downloaded.
        """
        return parse_idx(self._unpacked(f"{self._stem}-images-idx3-ubyte"))

    def labels(self) -> np.ndarray:
        """Their classes, uint8 ``[n]``.

        Raises:
            ValueError: If they are not here and cannot be downloaded.
        """
        return parse_idx(self._unpacked(f"{self._stem}-labels-idx1-ubyte"))

    @property
    def _stem(self) -> str:
        return "train" if self.split == "train" else "t10k"

    def open(self, config: DataConfig) -> SourceManifest:
        """Read the files, downloading them where they are nowhere on this machine.

        Raises:
            ValueError: If they are not here and cannot be downloaded.
        """
        labels, images = self.labels(), self.images()
        chosen = evenly_spaced(len(images), config.limit)
        options: ImageOptions = config.options_for(self.modality_of(config))
        side = options.size or images.shape[1]
        shape = (options.channels or 1, side, side)

        def items() -> Iterator[Item]:
            for i in chosen:
                yield Item(name=str(i), label=int(labels[i]), read=partial(array_image, images[i], options, shape))

        return SourceManifest(
            modality="image", count=len(chosen), shape=shape, items=items, label_names=LABELS, parallel=False
        )

    def _unpacked(self, name: str) -> bytes:
        """Content of one of the four files, checked."""
        downloaded = self.downloads / "fashion-mnist"
        for folder in (BUNDLED, INSTALLED, downloaded):
            packed = folder / f"{name}.gz"
            if packed.is_file():
                try:
                    return _unpack(packed.read_bytes(), name)
                except (OSError, ValueError) as error:
                    _log.warning("%s is left out: %s", packed, error)
        try:
            content = _download(f"{ORIGIN}{name}.gz")
            unpacked = _unpack(content, name)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"the {self.split} split of fashion-mnist is not on this machine and cannot be downloaded "
                f"({' '.join(str(error).split())}); install Debian's package dataset-fashion-mnist, or use the test "
                "split (fashion-mnist:test), which is bundled"
            ) from error
        try:
            with replacing(downloaded / f"{name}.gz") as unfinished:
                unfinished.write_bytes(content)
        except ValueError as error:  # the data is here all the same; only the next start must download again
            _log.warning("a download is not kept: %s", error)
        return unpacked


def parse_idx(content: bytes) -> np.ndarray:
    """An array from MNIST's IDX format: two zero bytes, the type (8 is uint8), the rank, big-endian sizes, data.

    Raises:
        ValueError: If it is not an IDX file of bytes.
    """
    if content[:3] != b"\x00\x00\x08":
        raise ValueError("not an IDX file of bytes")
    rank = content[3]
    sizes = np.frombuffer(content, ">u4", count=rank, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(tuple(int(s) for s in sizes))


def _unpack(packed: bytes, name: str) -> bytes:
    try:
        content = gzip.decompress(packed)
    except (EOFError, zlib.error) as error:
        raise ValueError(f"{name}.gz is damaged: {error}") from error
    if hashlib.sha256(content).hexdigest() != CHECKSUMS[name]:
        raise ValueError(f"{name}.gz has the wrong checksum")
    return content


def _download(url: str) -> bytes:
    from rich.console import Console
    from rich.progress import wrap_file

    _log.info("downloading %s", url)
    with urlopen(url, timeout=30) as response:
        size = int(response.headers.get("Content-Length") or 0)
        console = Console(stderr=True)
        name, quiet = url.rsplit("/", 1)[-1], not console.is_interactive  # else a bar would leave an empty line
        with wrap_file(response, size, description=name, transient=True, console=console, disable=quiet) as reader:
            content = reader.read(_MOST_BYTES)
    return content
