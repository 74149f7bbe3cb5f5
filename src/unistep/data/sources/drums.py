"""Drum samples of installed packages, sorted into classes by the names of their files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from unistep.data.options import DataConfig
from unistep.data.sources.packaged import Packaged
from unistep.data.sources.packages import check_part, missing_package


@dataclass(frozen=True, kw_only=True)
class Collection:
    """Some files of a package."""

    package: str
    """Debian's package."""
    folder: Path
    """Where it puts them."""
    licence: str
    """Under which licence, and whose they are."""
    files: str = "*"
    """Pattern of the names wanted."""
    without: tuple[str, ...] = ()
    """Names that are left out: under another licence, or more than one stroke."""


DRUMS = (
    Collection(
        package="sonic-pi-samples",
        folder=Path("/usr/share/sonic-pi/samples"),
        licence="CC0 (sonic-pi-samples, from freesound.org)",
        files="*.flac",
        without=("bd_mehackit.flac", "loop_tabla.flac", "perc_bell2.flac", "sn_generic.flac"),
    ),
    *(
        Collection(
            package="hydrogen-drumkits",
            folder=Path("/usr/share/hydrogen/data/drumkits") / kit,
            licence=f"{licence} ({kit}, {author}; hydrogen-drumkits)",
        )
        for kit, licence, author in (
            ("Audiophob", "CC0", "audiophobdubstep"),
            ("rumpf_kit_z01_h2", "CC-BY-3.0", "Emanuel Rumpf"),
            ("circAfrique v4", "CC-BY-SA-3.0", "Jim Harney"),
            ("BJA_Pacific", "CC-BY-SA-3.0-us", "Luc Tunguay"),
            ("ElectricEmpireKit", "GPL-2+", "Artemiy Pavlov"),
            ("HardElectro1", "GPL-2+", "Artemiy Pavlov"),
            ("VariBreaks", "GPL-2+", "Artemiy Pavlov"),
            ("ColomboAcousticDrumkit", "GPL-2+ with composition exception", "Marcos Guglielmetti"),
            ("Millo-Drums_v.1", "GPL-2", "Emiliano Grilli"),
            ("Millo_MultiLayered2", "GPL-2", "Emiliano Grilli"),
            ("Millo_MultiLayered3", "GPL-2", "Emiliano Grilli"),
            ("Gimme A Hand 1.0", "GPL-2", "Glen MacArthur"),
            ("The Black Pearl 1.0", "GPL-2", "Glen MacArthur"),
            ("ForzeeStereo", "GPL-2", "Vladimir Sadovnikov and Alexander Belokurov"),
        )
    ),
)
"""Drum samples, the freest first."""

PERMISSIVE = ("CC0", "CC-BY-3.0")
"""Licences that ask for no more than a name; ``drums:permissive`` has only what is under them."""

TUNINGS = (-3, -2, -1, 0, 1, 2, 3)
"""Semitones by which ``tuned`` drums are tuned."""

KINDS = {
    "kick": r"kick|bassdrum|drum_bass|^bd|_bd_|_k_0",
    "snare": r"snare|^sn\d?_|^sd_|_sn_|^sr_",
    "rim": r"(?<![a-z])rim|stick|^rs_",
    "hihat": r"hat|^hh|_hh_|chh|ohh|cymbal_closed|cymbal_pedal|cymbal_open|^ho_",
    "cymbal": r"crash|ride|splash|china|cymbal|^cra_|^cc_|^rc_|^rd\d?_|paiste",
    "tom": r"tom|^ft_|^tm?\d?_",
    "clap": r"clap|snap",
    "bell": r"bell|agogo|triangle|clave|mc_cb|^cb\d?_|woodblock|elec_wood|waterglass",
    "hand drum": r"tabla|djembe|conga|bongo|cajon|dununba|kenkeni|sangban",
    "shaker": r"tambourine|maraca|shake",
}
"""Classes of drums, and what the names of their files hold; the first that fits is taken."""


@dataclass(frozen=True, kw_only=True)
class Drums(Packaged):
    """Drums, all or under permissive licences only, as they are or each tuned in several ways."""

    usage: ClassVar[str] = "drums"

    @classmethod
    def named(cls, rest: str, config: DataConfig, downloads: Path) -> Self:
        """``permissive``, ``tuned``, both or neither.

        Raises:
            ValueError: For any other word, or if no package with drums is installed.
        """
        del config, downloads
        parts = rest.split(":") if rest else []
        for part in parts:
            check_part(part, ("permissive", "tuned"), "drums has permissive and tuned")
        permissive, tuned = "permissive" in parts, "tuned" in parts
        wanted = [c for c in DRUMS if not permissive or c.licence.partition(" (")[0] in PERMISSIVE]
        here = [collection for collection in wanted if collection.folder.is_dir()]
        if not here:
            raise missing_package("drums", "sonic-pi-samples")
        files, licences = [], []
        for collection in here:
            found = [
                (path, kind)
                for path in sorted(collection.folder.glob(collection.files))
                if path.name not in collection.without and path.suffix.lower() in (".wav", ".flac", ".aiff", ".aif")
                if (kind := kind_of_drum(path.name)) is not None
            ]
            if found:
                files += found
                licences.append(collection.licence)
        name = ":".join(["drums", *(["permissive"] if permissive else []), *(["tuned"] if tuned else [])])
        tunings = TUNINGS if tuned else (0,)
        return cls(name_written=name, files=tuple(files), licence="; ".join(licences), tunings=tunings)


def kind_of_drum(name: str) -> str | None:
    """The class that a file's name stands for, or ``None``."""
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, name.lower())), None)
