"""The synthetic voices that conversations are made of, and those that training never hears.

A variant of espeak-ng changes pitch and formants of a language's voice; festival's voices are cut from recordings of a person, or
modelled after one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Program = Literal["espeak-ng", "festival", "flite"]

ESPEAK_SECONDS = 120.0
RECORDED_SECONDS = 400.0  # a voice made of recordings varies more

# Every language has its own vowels: an English text sounds like another person, not only higher or lower.
LANGUAGES = (
    "en-us en-gb de fr es it pl pt nl sv en-gb-scotland en-029 en-gb-x-rp ro cs hu tr fi da el".split()  # noqa: SIM905
)
# One for each voice, languages in turn; "" is the language's own voice.
VARIANTS = (
    *("m1", "f1", "m2", "f4", "m4", "f5", "m5", "m6", "m8", "Andy", "Annie", "anika", "aunty", "Denis", "Diogo"),
    *("edward", "Gene", "grandma", "grandpa", "iven", "john", "Lee", "linda", "Mario", "max", "michel", "Michael"),
    *("norbert", "pablo", "paul", "", "robert", "rob", "sandro", "shelby", "steph", "Storm", "travis", "Tweaky"),
    *("victor", "zac", "belinda", "benjamin", "boris", "caleb", "david", "ed", "gustave", "", "", "kaukovalta"),
    *("klatt", "klatt2", "klatt4", "marcelo", "miguel", "", "Mr serious", "Nguyen", "quincy", "RicishayMax"),
    *("UniRobot", "antonio", "anikaRobot"),
)

# Debian's package of each voice of festival.
FESTIVAL_PACKAGES = {
    "ked_diphone": "festvox-kdlpc16k",
    "upc_ca_ona_hts": "festvox-ca-ona-hts",
    "czech_dita": "festvox-czech-dita",
    "czech_krb": "festvox-czech-krb",
    "czech_machac": "festvox-czech-machac",
    "czech_ph": "festvox-czech-ph",
    "hy_fi_mv_diphone": "festvox-suopuhe-mv",
    "suo_fi_lj_diphone": "festvox-suopuhe-lj",
    "lp_diphone": "festvox-italp16k",
    "pc_diphone": "festvox-itapc16k",
    "msu_ru_nsh_clunits": "festvox-ru",
}
# What a voice of festival speaks, where that is not English; units of recordings are found for words of its own language alone.
FESTIVAL_LANGUAGES = {"msu_ru_nsh_clunits": "ru"}
# Voices of festival whose speaker is one of flite's in the benchmark calls: kal16, awb, rms, slt. They stay out.
BENCHMARK_SPEAKERS = ("kal_", "cmu_us_awb", "cmu_us_rms", "cmu_us_slt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """A voice of a program, and how much it is to say. ``share`` is how often it is drawn, relative to the others.

    ``language`` is that of what it is given to say, see `pipeline.diarize.training.texts`.
    """

    program: Program
    name: str
    seconds: float
    share: float = 1.0
    language: str = "en"

    @property
    def file_name(self) -> str:
        """Return the name of the file with what it says, without a suffix."""
        return f"{self.program}_{self.name.replace(' ', '_')}"


def _espeak(name: str) -> Voice:
    return Voice(program="espeak-ng", name=name, seconds=ESPEAK_SECONDS)


def _variant(number: int, variant: str) -> Voice:
    language = LANGUAGES[number % len(LANGUAGES)]
    return _espeak(f"{language}+{variant}" if variant else language)


TRAINING: tuple[Voice, ...] = (
    # Six times as often, or four of five speakers would be espeak-ng, whose voices have one source and one set of formant tables.
    *(
        Voice(
            program="festival",
            name=name,
            seconds=RECORDED_SECONDS,
            share=6.0,
            language=FESTIVAL_LANGUAGES.get(name, "en"),
        )
        for name in FESTIVAL_PACKAGES
    ),
    *(_variant(number, variant) for number, variant in enumerate(VARIANTS)),
)
# The voices of `pipeline.bench.make_calls`: models are measured on speakers that they have not been trained on.
HELD_OUT: tuple[Voice, ...] = (
    *(Voice(program="flite", name=name, seconds=ESPEAK_SECONDS) for name in ("kal16", "awb", "rms", "slt")),
    *(_espeak(name) for name in ("en-us", "en-us+m3", "en-us+m7", "en-us+f2", "en-gb", "en-gb+f3")),
)
SETS: dict[str, tuple[Voice, ...]] = {"training": TRAINING, "held-out": HELD_OUT}
