"""Spoken digits from the prompts of a telephone system, in the languages that are installed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from unistep.data.options import DataConfig
from unistep.data.sources.packaged import Packaged
from unistep.data.sources.packages import check_part, missing_package

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
class SpokenDigits(Packaged):
    """The digits of one language, or of every one that is installed."""

    usage: ClassVar[str] = "spoken-digits"

    @classmethod
    def named(cls, rest: str, config: DataConfig, downloads: Path) -> Self:
        """One language by its code, or all of them.

        Raises:
            ValueError: If there is no such language, or it is not installed.
        """
        del config, downloads
        language = rest
        check_part(rest, ("", *_LANGUAGES), f"spoken-digits has the languages {', '.join(_LANGUAGES)}")
        here = {code: _DIGITS / folder / "digits" for code, (folder, _) in _LANGUAGES.items() if language in ("", code)}
        here = {code: folder for code, folder in here.items() if folder.is_dir()}
        name = f"spoken-digits:{language}" if language else "spoken-digits"
        if not here:
            raise missing_package(name, f"asterisk-core-sounds-{language or 'en'}-wav")
        files = [(folder / f"{digit}.wav", str(digit)) for folder in here.values() for digit in range(10)]
        return cls(
            name_written=name,
            files=tuple((path, label) for path, label in files if path.is_file()),
            licence="; ".join(dict.fromkeys(_LANGUAGES[code][1] for code in here)),
        )
