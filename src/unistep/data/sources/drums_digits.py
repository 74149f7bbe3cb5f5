"""Sounds that operating systems ship, or can make: notes, drums and spoken digits, from Debian's packages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unistep.data.options import DataConfig
from unistep.data.source import Item, Source, SourceManifest, evenly_spaced
from unistep.data.sources.sounds import sound_contents, sound_item


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

_DIGITS = Path("/usr/share/asterisk/sounds")
_LANGUAGES = {
    "en": ("en_US_f_Allison", "CC-BY-SA-3.0 (Allison Smith, Digium)"),
    "es": ("es_MX_f_Allison", "CC-BY-SA-3.0 (Allison Smith, Digium)"),
    "fr": ("fr_CA_f_June", "CC-BY-SA-3.0 (June Wallack, Digium)"),
    "it": ("it_IT_m_Carlo", "CC-BY-3.0 (Carlo Flora)"),
    "ru": ("ru_RU_f_IvrvoiceRU", "CC-BY-3.0 (Maxim Topal, ivrvoice.ru)"),
}
"""Folders of asterisk-core-sounds-LANGUAGE-wav, and their licences."""


@dataclass(frozen=True, kw_only=True)
class Packaged(Source):
    """Files of installed packages, sorted into classes by their names."""

    asked: str
    """The source as a person writes it."""
    files: tuple[tuple[Path, str], ...]
    """Each file with its class."""
    licence: str
    """Under which licences they are."""
    tunings: tuple[int, ...] = (0,)
    """Semitones by which each is tuned, once for each, as a drummer tunes a drum."""

    @property
    def name(self) -> str:
        """As a person writes it."""
        return self.asked

    def identity(self) -> dict[str, Any]:
        """Names, lengths and classes of the files."""
        files = [[str(path), path.stat().st_size, label] for path, label in self.files]
        return {self.asked: files} | ({"tunings": list(self.tunings)} if self.tunings != (0,) else {})

    def open(self, config: DataConfig) -> SourceManifest:
        """Get ready to read the files.

        Raises:
            ValueError: If the libraries that read sounds are not installed.
        """
        all_of_them = [(*file, tuning) for file in self.files for tuning in self.tunings]
        chosen = [all_of_them[i] for i in evenly_spaced(len(all_of_them), config.limit)]

        def items() -> Iterator[Item]:
            for path, label, tuning in chosen:
                name = "/".join(path.parts[-3:]) + (f" {tuning:+d}" if tuning else "")
                yield sound_item(path, name, label, config, speed=2 ** (tuning / 12))

        return sound_contents(config, len(chosen), items, licence=self.licence)


def open_packaged(prefix: str, rest: str, config: DataConfig) -> Source | None:
    """The source ``prefix:rest``, or ``None`` if it is not one of these.

    Raises:
        ValueError: If its package is not installed, or it has no such part.
    """
    if prefix == "notes":
        from unistep.data.sources.notes import open_notes

        return open_notes(rest, config)
    if prefix == "phrases":
        from unistep.data.sources.phrases import open_phrases

        return open_phrases(rest, config)
    if prefix == "drums":
        parts = rest.split(":") if rest else []
        for part in parts:
            _only(part, ("permissive", "tuned"), "drums has permissive and tuned")
        return _drums(permissive="permissive" in parts, tuned="tuned" in parts)
    if prefix == "spoken-digits":
        _only(rest, ("", *_LANGUAGES), f"spoken-digits has the languages {', '.join(_LANGUAGES)}")
        return _spoken_digits(rest)
    return None


def kind_of_drum(name: str) -> str | None:
    """The class that a file's name stands for, or ``None``."""
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, name.lower())), None)


def missing_package(what: str, package: str) -> ValueError:
    """What to say where a package of the system is not installed."""
    return ValueError(f"{what} needs Debian's package {package}, which is not installed: apt-get install {package}")


def _only(part: str, known: tuple[str, ...], said: str) -> None:
    if part not in known:
        raise ValueError(f"{said}, got {part!r}")


def _drums(*, permissive: bool, tuned: bool) -> Packaged:
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
    asked = ":".join(["drums", *(["permissive"] if permissive else []), *(["tuned"] if tuned else [])])
    tunings = TUNINGS if tuned else (0,)
    return Packaged(asked=asked, files=tuple(files), licence="; ".join(licences), tunings=tunings)


def _spoken_digits(language: str) -> Packaged:
    """The digits of one language, or of every one that is installed."""
    here = {name: _DIGITS / folder / "digits" for name, (folder, _) in _LANGUAGES.items() if language in ("", name)}
    here = {name: folder for name, folder in here.items() if folder.is_dir()}
    asked = f"spoken-digits:{language}" if language else "spoken-digits"
    if not here:
        raise missing_package(asked, f"asterisk-core-sounds-{language or 'en'}-wav")
    files = [(folder / f"{digit}.wav", str(digit)) for folder in here.values() for digit in range(10)]
    return Packaged(
        asked=asked,
        files=tuple((path, label) for path, label in files if path.is_file()),
        licence="; ".join(dict.fromkeys(_LANGUAGES[name][1] for name in here)),
    )
