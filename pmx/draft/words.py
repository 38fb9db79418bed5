"""Names as people write them, folded so that umlauts, dots, blanks and letter case do not matter, and what they tell."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

_LETTERS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "µ": "u", "°": "deg"})
RESERVED = {"file", "row", "asset", "time", "tick", "channel", "value", "quality"}
SPELLINGS = {
    **{"°c": "°C", "degc": "°C", "deg c": "°C", "c": "°C", "celsius": "°C", "°f": "°F", "degf": "°F", "f": "°F", "k": "K", "kelvin": "K"},
    **{"bar": "bar", "mbar": "mbar", "barg": "bar", "bara": "bar", "pa": "Pa", "kpa": "kPa", "mpa": "MPa", "psi": "psi", "psig": "psi"},
    **{
        "mm/s": "mm/s",
        "mms": "mm/s",
        "mm_s": "mm/s",
        "in/s": "in/s",
        "g": "g",
        "m/s2": "m/s2",
        "m/s²": "m/s2",
        "um": "um",
        "mm": "mm",
        "m": "m",
    },
    **{
        "rpm": "rpm",
        "1/min": "rpm",
        "u/min": "rpm",
        "min-1": "rpm",
        "hz": "Hz",
        "khz": "kHz",
        "m/s": "m/s",
        "l/s": "l/s",
        "ml": "ml",
        "ml/h": "ml/h",
    },
    **{
        "m3/h": "m3/h",
        "m³/h": "m3/h",
        "m3h": "m3/h",
        "l/min": "l/min",
        "lpm": "l/min",
        "l/h": "l/h",
        "kg/h": "kg/h",
        "t/h": "t/h",
        "kg/s": "kg/s",
    },
    **{
        "a": "A",
        "ma": "mA",
        "v": "V",
        "mv": "mV",
        "kv": "kV",
        "w": "W",
        "kw": "kW",
        "mw": "MW",
        "kwh": "kWh",
        "mwh": "MWh",
        "wh": "Wh",
        "kvar": "kvar",
    },
    **{
        "nm": "Nm",
        "n": "N",
        "kn": "kN",
        "%": "%",
        "percent": "%",
        "ppm": "ppm",
        "l": "l",
        "m3": "m3",
        "kg": "kg",
        "t": "t",
        "s": "s",
        "h": "h",
        "min": "min",
    },
    **{"-": "-", "1": "-", "none": "-", "count": "-", "stk": "-", "ph": "-", "us/cm": "uS/cm"},
}
# Suffixes such as `_c` or `_s` are more often part of a name than a unit.
AS_SUFFIX = {u for u in SPELLINGS if len(u) > 1 and u not in ("min", "ph", "count", "none", "mm", "um", "deg c", "ml", "kg", "percent")}
# What a name is about -> the unit that is usual for it; only a guess that a question goes with.
TOPICS = {
    "°C": ("temp", "tmp"),
    "mm/s": ("vib", "schwing"),
    "bar": ("press", "druck", "prs"),
    "m3/h": ("flow", "durchfluss", "volumenstrom", "foerdermenge"),
    "kWh": ("energy", "energie"),
    "kW": ("power", "leistung"),
    "A": ("current", "strom"),
    "V": ("volt", "spannung"),
    "rpm": ("speed", "drehzahl", "rpm"),
    "%": ("level", "fuellstand", "humid", "feuchte", "valve", "ventil", "load", "auslastung"),
    "Nm": ("torque", "drehmoment"),
    "Hz": ("freq",),
    "h": ("betriebsstunden", "hours", "runtime", "laufzeit"),
}
SETTINGS = (
    "setpoint",
    "sollwert",
    "soll",
    "sp",
    "speed",
    "drehzahl",
    "rpm",
    "mode",
    "modus",
    "recipe",
    "rezept",
    "valve",
    "ventil",
    "state",
    "step",
    "n",
)
MEASURED = ("temp", "vib", "press", "druck", "flow", "durchfluss", "strom", "current", "volt", "spannung", "level", "power", "leistung")
COUNTERS = (
    "total",
    "counter",
    "zaehler",
    "energy",
    "energie",
    "cumulative",
    "summe",
    "betriebsstunden",
    "odometer",
    "count",
    "hours",
    "cycles",
)
NEVER_BELOW_ZERO = {"mm/s", "in/s", "rpm", "Hz", "kHz", "K", "kWh", "MWh", "Wh", "ppm", "l", "m3", "kg", "t", "h", "uS/cm"}
NEVER_BELOW_ZERO_WORDS = ("vib", "flow", "durchfluss", "level", "fuellstand", "drehzahl", "leak", "leckage", "current", "strom")


def plain(text: str) -> str:
    """ASCII with German umlauts spelt out, in the same letter case."""
    spelt = text.translate(_LETTERS)
    return unicodedata.normalize("NFKD", spelt).encode("ascii", "ignore").decode()


def folded(text: str) -> str:
    """Lower-case ASCII letters and digits alone: `Störungs-Beginn.` and `stoerungsbeginn` are one word."""
    return re.sub(r"[^a-z0-9]", "", plain(text).lower())


def words_of(text: str) -> list[str]:
    """The words of a name: `BearingTemp_DE` -> bearing, temp, de."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", plain(text))
    return [w for w in re.split(r"[^a-z0-9]+", spaced.lower()) if w]


def has_word(name: str, wanted: Iterable[str]) -> bool:
    """Whether a name has one of these words; words of four letters and more may be part of a longer one."""
    words = words_of(name)
    return any(w == x or (len(x) >= 4 and x in w) for x in wanted for w in words)


def unit_in(name: str) -> tuple[str, str]:
    """Name without its unit, and the unit: in brackets, or the last word; empty = none was found."""
    name = " ".join(name[:200].split())  # a header may be anything, and the pattern below backtracks over blanks
    if found := re.search(r"\s*[\[\(\{<]\s*([^\[\]\(\){}<>]*?)\s*[\]\)\}>]\s*$", name):
        inside = found[1].strip()
        if not inside or inside.lower() in SPELLINGS or re.fullmatch(r"[A-Za-z%°µ³²/·*^0-9. -]{1,10}", inside):
            return name[: found.start()].strip(), SPELLINGS.get(inside.lower(), inside or "-")
    for mark in ("_", " "):
        stem, _, last = name.rpartition(mark)
        if stem and last.lower() in AS_SUFFIX:
            return stem, SPELLINGS[last.lower()]
    return name, ""


def usual_unit(name: str) -> str:
    """The unit that is usual for what a name is about; empty = no idea."""
    return next(
        (unit for unit, topics in TOPICS.items() if has_word(name, topics) or any(w.startswith(topics) for w in words_of(name))), ""
    )


def channel_names(names: Iterable[str]) -> list[str]:
    """Snake-case names that pmx can take, each once, in the same order."""
    made: list[str] = []
    for name in names:
        word = re.sub(r"_+", "_", re.sub(r"[^a-z0-9]+", "_", "_".join(words_of(name)))).strip("_") or "signal"
        word = f"s{word}" if word[0].isdigit() else word
        word = f"{word}_signal" if word in RESERVED else word
        unique, n = word, 1
        while unique in made:
            n += 1
            unique = f"{word}_{n}"
        made.append(unique)
    return made
