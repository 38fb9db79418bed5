"""Names of the CWRU files: the numbers under which they stand at their home, and the longer names that others gave them.

At the Bearing Data Center a file is called `105.mat`, and a table there says which bearing it shows at which load; copies are
called `IR007_0.mat`, `OR007@6_1.mat` or, with the number behind, `OR007_6_1_136.mat` and `Time_Normal_1_098.mat`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

NORMAL = "normal"
ANY = "any record"  # the healthy files belong to every one
# record -> bearing -> the number of its file at load 0 to 3 hp; 0 = there is none
NUMBERS: dict[str, dict[str, tuple[int, int, int, int]]] = {
    ANY: {NORMAL: (97, 98, 99, 100)},
    "12k_Drive_End": {
        "IR007": (105, 106, 107, 108), "B007": (118, 119, 120, 121),
        "OR007@6": (130, 131, 132, 133), "OR007@3": (144, 145, 146, 147), "OR007@12": (156, 158, 159, 160),
        "IR014": (169, 170, 171, 172), "B014": (185, 186, 187, 188), "OR014@6": (197, 198, 199, 200),
        "IR021": (209, 210, 211, 212), "B021": (222, 223, 224, 225),
        "OR021@6": (234, 235, 236, 237), "OR021@3": (246, 247, 248, 249), "OR021@12": (258, 259, 260, 261),
        "IR028": (3001, 3002, 3003, 3004), "B028": (3005, 3006, 3007, 3008),
    },
    "48k_Drive_End": {
        "IR007": (109, 110, 111, 112), "B007": (122, 123, 124, 125),
        "OR007@6": (135, 136, 137, 138), "OR007@3": (148, 149, 150, 151), "OR007@12": (161, 162, 163, 164),
        "IR014": (174, 175, 176, 177), "B014": (189, 190, 191, 192), "OR014@6": (201, 202, 203, 204),
        "IR021": (213, 214, 215, 217), "B021": (226, 227, 228, 229),
        "OR021@6": (238, 239, 240, 241), "OR021@3": (250, 251, 252, 253), "OR021@12": (262, 263, 264, 265),
    },
    "12k_Fan_End": {
        "IR007": (278, 279, 280, 281), "B007": (282, 283, 284, 285),
        "OR007@6": (294, 295, 296, 297), "OR007@3": (298, 299, 300, 301), "OR007@12": (302, 305, 306, 307),
        "IR014": (274, 275, 276, 277), "B014": (286, 287, 288, 289), "OR014@6": (313, 0, 0, 0), "OR014@3": (310, 309, 311, 312),
        "IR021": (270, 271, 272, 273), "B021": (290, 291, 292, 293), "OR021@6": (315, 0, 0, 0), "OR021@3": (0, 316, 317, 318),
    },
}  # fmt: skip
PLACES = {
    number: (record, bearing, load)
    for record, bearings in NUMBERS.items()
    for bearing, numbers in bearings.items()
    for load, number in enumerate(numbers)
    if number
}


@dataclass(frozen=True)
class Named:
    """What a file's own name says: `bearing` (`normal` without a fault), `load` in hp and `number`, 0 = not told.

    Example:
        >>> named("OR007_6_1_136", "48k_Drive_End")
        Named(bearing='OR007@6', load=1, number=136)
    """

    bearing: str
    load: int
    number: int


def named(stem: str, record: str) -> Named | None:
    """What a name without folders says of a file of this record; None where it says nothing, or is the name of another record's file."""
    if number := re.fullmatch(r"0*(\d+)", stem):
        return _at(int(number[1]), record)
    long = re.fullmatch(r"(?:Time_)?(?:(Normal)|(IR|B|OR)(\d{3})(?:[@_](3|6|12))?)_(\d)(?:_0*(\d+))?", stem, re.IGNORECASE)
    if not long:
        return None
    bearing = NORMAL if long[1] else long[2].upper() + long[3] + (f"@{long[4]}" if long[4] else "")
    if long[6]:  # the number decides: the same bearing at the same load was recorded at 12 and at 48 kHz
        at = _at(int(long[6]), record)
        return at if at and at.bearing == bearing else None
    load = int(long[5])
    own = NUMBERS[ANY if long[1] else record].get(bearing, ())
    return Named(bearing, load, own[load] if load < len(own) else 0)


def _at(number: int, record: str) -> Named | None:
    place = PLACES.get(number)
    return Named(place[1], place[2], number) if place and place[0] in (record, ANY) else None
