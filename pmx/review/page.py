"""The report as one HTML file: it asks for nothing from outside, needs no script, and shows text from the data as text."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pmx.contract import shown
from pmx.edge.table import replacing
from pmx.review import draw
from pmx.review.facts import AlarmFact, AssetFact, Bin, Facts

FULL = 40  # assets drawn
MOST_BYTES = 3_000_000
TONES = {"yes": "good", "shadow only": "care", "no": "fail"}
FEW = 24  # links on the first screen
CARD = 20_000  # characters of the model card


def page(facts: Facts) -> str:
    """The whole page as text, at most `MOST_BYTES` long: where all alarms do not fit, fewer of them get a page of their own."""
    alarms = list(facts.alarms)
    while True:
        text = _rendered(facts, alarms)
        if len(text.encode()) <= MOST_BYTES or not alarms:
            return text
        alarms = _fewer(alarms)


def write_page(path: Path, facts: Facts) -> None:
    """Writes it as a whole, or not at all."""
    with replacing(path) as part:
        part.write_text(page(facts), encoding="utf-8")


def _fewer(alarms: list[AlarmFact]) -> list[AlarmFact]:
    """Half of them: false machine alarms stay longest, sensor alarms go first."""
    rank = sorted(range(len(alarms)), key=lambda k: (alarms[k].kind == "sensor", alarms[k].right is not False, k))
    kept = set(rank[: len(alarms) // 2])
    return [a for k, a in enumerate(alarms) if k in kept]


def _rendered(facts: Facts, alarms: list[AlarmFact]) -> str:
    order = sorted(range(len(facts.assets)), key=lambda k: _weight(facts.assets[k]))
    drawn = order[:FULL]
    lost = len(facts.alarms) - len(alarms)
    left_out = [facts.left_out] if facts.left_out else []
    left_out += [f"{lost:,} more have none, so that the file stays small."] if lost else []
    first: dict[int, int] = {}  # an asset's first alarm page
    for number, a in enumerate(alarms, 1):
        if a.kind == "machine":
            first.setdefault(a.place, number)
    return (
        _environment()
        .get_template("report.html")
        .render(
            f=facts,
            tone=TONES[facts.verdict.answer],
            drawn=[(k, facts.assets[k]) for k in drawn],
            listed=list(enumerate(facts.assets)),
            shown_in_full=set(drawn),
            alarms=list(enumerate(alarms, 1)),
            wrong=[(n, a) for n, a in enumerate(alarms, 1) if a.kind == "machine" and a.right is False],
            missed=[e for e in facts.events if not e.caught],
            first=first,
            sensor_page={(a.place, a.channel, a.raised): number for number, a in enumerate(alarms, 1) if a.kind == "sensor"},
            few=FEW,
            left_out=" ".join(left_out),
            style=Markup((Path(__file__).parent / "templates" / "style.css").read_text(encoding="utf-8")),
            card=shown(facts.card, CARD) if len(facts.card) > CARD else facts.card,
            interval=_interval(facts),
            covered=any(b.coverage == b.coverage for b in facts.calibration),
            front=Markup(draw.front(facts.points)) if any(p.cost == p.cost for p in facts.points) else "",
            contributions=Markup(draw.bars(facts.contributions[:16])),
            calibration=Markup(draw.calibration(facts.calibration, facts.watched)),
            trajectory=lambda a: Markup(draw.trajectory(a, facts.watched)),
            channel=lambda name, score: Markup(draw.channel(name, score)),
            around=lambda d: Markup(draw.around(d)),
            value=_value,
        )
    )


def _weight(asset: AssetFact) -> tuple[int, int, int, int]:
    """Missed events first, then false alarms, then what was caught, then what stayed quiet."""
    return (-asset.missed, -asset.false, -asset.caught, -asset.alarms)


def _interval(facts: Facts) -> str:
    return "" if facts.recall[1] != facts.recall[1] else f"[{facts.recall[1]:.2f}, {facts.recall[2]:.2f}]"


def _value(b: Bin, number: float) -> str:
    if number != number:
        return "–"
    return f"{number:.3g}" if b.middle[0] == b.middle[0] else f"{number:.1%}"


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["short"] = lambda text: shown(str(text), 80)
    return made
