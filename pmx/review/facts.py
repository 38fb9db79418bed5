"""What the report shows, as plain values: easy to make by hand, and knowing nothing of models or of HTML.

Curves are float64 [time] beside the places `at`, in life units since the first reading of their asset. Texts come from the data as they
are; the page escapes them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pmx.evaluate.interval import Interval

NOBODY: Interval = (np.nan, np.nan, np.nan)


@dataclass(frozen=True)
class Verdict:
    """Whether to deploy.

    Attributes:
        answer: `yes`, `shadow only` or `no`.
        reasons: one sentence each, with its figures, the most weighty first.

    Example:
        >>> Verdict("no", ("Gate parity failed.",)).answer
        'no'
    """

    answer: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Past:
    """An earlier episode that resembles an alarm.

    Attributes:
        asset: where it was.
        when: the end of it, or the failure.
        found: what was found then.
        life: how long the asset had lived, in words; may be empty.
        likeness: cosine of both signatures, −1..1, higher = more alike.
        shared: channels that departed in both, in words.

    Example:
        >>> Past("P3", "2026-01-01 00:00 UTC", "failure", "after 900 h", 0.93, ("flow below normal",)).found
        'failure'
    """

    asset: str
    when: str
    found: str
    life: str
    likeness: float
    shared: tuple[str, ...]


@dataclass(frozen=True)
class Departure:
    """A channel that deviates at an alarm.

    Attributes:
        channel: its name.
        size: mean of its newest scores in standard deviations from normal, signed.
        at, score: its scores around the alarm, float64 [time]; `at` in life units from the moment the alarm was raised.

    Example:
        >>> Departure("flow", -3.2, np.array([0.0]), np.array([-3.0])).size
        -3.2
    """

    channel: str
    size: float
    at: np.ndarray
    score: np.ndarray


@dataclass(frozen=True)
class AlarmFact:
    """One alarm with its own page.

    Attributes:
        asset: its name; `place` is its position among the assets.
        kind: `machine` or `sensor`.
        raised, cleared: in words; empty = still standing at the end.
        right: whether it was right; None = nobody knows.
        lasted: how long it stood, in words.
        sentences: what deviates, by how much, since when.
        next: what to do, where that is known.
        departures: the channels furthest from normal, the furthest first.
        similar: the most similar past episodes, the most alike first.
        channel: of a sensor alarm.

    Example:
        >>> AlarmFact("P1", 0, "machine", "2026-01-01 00:00 UTC", "", None, "6 h", ("flow ...",)).judged
        'nobody knows'
    """

    asset: str
    place: int
    kind: str
    raised: str
    cleared: str
    right: bool | None
    lasted: str
    sentences: tuple[str, ...]
    next: tuple[str, ...] = ()
    departures: tuple[Departure, ...] = ()
    similar: tuple[Past, ...] = ()
    channel: str = ""

    @property
    def judged(self) -> str:
        if self.kind == "sensor":
            return "not judged"
        return {True: "right", False: "false", None: "nobody knows"}[self.right]


@dataclass(frozen=True)
class EventFact:
    """A failure or a labelled episode that counts.

    Attributes:
        asset: its name; `place` is its position among the assets.
        when: in words.
        what: `failure`, or the name of the episode.
        caught: whether an alarm stood in time.
        told: one sentence: when the alarm stood, or how near it came.
        sensors: of a missed one, channel, state and time of each sensor alarm that stood within its horizon, in words.

    Example:
        >>> EventFact("P1", 0, "2026-01-01 00:00 UTC", "failure", False, "No alarm stood.").caught
        False
    """

    asset: str
    place: int
    when: str
    what: str
    caught: bool
    told: str
    sensors: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True)
class AssetFact:
    """One asset of the test part.

    Attributes:
        name: of it.
        at: float64 [time], life units since its first reading.
        verdict: float64 [time], what the alarm watches.
        standing: bool [time], whether the alarm stands.
        ends: float64 [time, 2], lower and upper end of the verdict's interval; empty = it has none.
        truth: float64 [time], the true remaining life where the verdict is one; empty otherwise.
        marks: place and kind (`failure` or `replacement`) of its events.
        bands: begin, end and name of its labelled episodes.
        begins: where its test part begins.
        since, until: first and last time in words.
        channels: name and scores float64 [time] of the channels that deviated most.
        sensors: channel, state, begin and end of each of its sensor alarms, in words.
        caught, missed, false, alarms: how many of them it had.

    Example:
        >>> AssetFact("P1", np.arange(2.0), np.array([9.0, 8.0]), np.zeros(2, bool)).troubled
        False
    """

    name: str
    at: np.ndarray
    verdict: np.ndarray
    standing: np.ndarray
    truth: np.ndarray = field(default_factory=lambda: np.zeros(0))
    marks: tuple[tuple[float, str], ...] = ()
    bands: tuple[tuple[float, float, str], ...] = ()
    begins: float = 0.0
    since: str = ""
    until: str = ""
    ends: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    channels: tuple[tuple[str, np.ndarray], ...] = ()
    sensors: tuple[tuple[str, str, str, str], ...] = ()
    caught: int = 0
    missed: int = 0
    false: int = 0
    alarms: int = 0

    @property
    def troubled(self) -> bool:
        """Whether a failure was missed or an alarm was false here."""
        return bool(self.missed or self.false)


@dataclass(frozen=True)
class Watched:
    """The verdict that the alarm watches.

    Attributes:
        output: its name in the bundle.
        title: in words.
        worse: `below` or `above`.
        limit: where the alarm is raised.
        top: the upper end of the scale.
        unit: of the verdict; empty = none.
        rarity: whether it is drawn as how rare such a reading is among healthy ones, on a logarithmic scale.

    Example:
        >>> Watched("rul", "remaining life", "below", 90.0, 240.0, "h").direction
        'lower is worse'
    """

    output: str
    title: str
    worse: str
    limit: float
    top: float
    unit: str = ""
    rarity: bool = False

    @property
    def direction(self) -> str:
        return "lower is worse" if self.worse == "below" else "higher is worse"


@dataclass(frozen=True)
class Bin:
    """Verdicts of one range, against what happened.

    Attributes:
        low, high: of the stated value.
        n: readings.
        said: mean of the stated value.
        true: mean of what happened; a share for a score.
        middle: the middle 80 % of what happened; NaN for a share.
        coverage: share of readings whose truth lies inside the stated interval; NaN = no interval was stated.

    Example:
        >>> Bin(0, 10, 40, 6.0, 7.0).n
        40
    """

    low: float
    high: float
    n: int
    said: float
    true: float
    middle: tuple[float, float] = (np.nan, np.nan)
    coverage: float = np.nan


@dataclass(frozen=True)
class Point:
    """A candidate on validation: its quality (higher = better) and its cost (lower = better); NaN cost = not measured.

    Example:
        >>> Point("pca", 0.8, 1.2, "ms", chosen=True).name
        'pca'
    """

    name: str
    quality: float
    cost: float
    unit: str
    chosen: bool = False


@dataclass(frozen=True)
class GateFact:
    """What a gate said.

    Example:
        >>> GateFact("parity", True, "all bits equal").passed
        True
    """

    name: str
    passed: bool
    detail: str
    culprit: str = ""
    rule: str = ""
    accepted: str = ""
    findings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Facts:
    """A whole report.

    Attributes:
        name: of the run; `data`, `model` and `noun` (what the assets are) in words.
        verdict: whether to deploy.
        watched: what the alarm looks at.
        unit: life unit in words; `age` says whether the model knows the asset's age.
        workload: alarms per crew-week, or per 1000 life units where there is no calendar: a title, the figure and a note.
        recall: of `events`, with interval; `counts` are caught and counted events.
        what: `failures` or `episodes`.
        rows: heads and cells of the table of the winner and its baselines.
        tables: all measures, as plain text.
        parts: heads and cells of the table of data and splits.
        notes: sentences about the data.
        assets, alarms, events: of the test part; the alarms that have a page.
        left_out: what has no page of its own and why; empty = nothing.
        calibration: the verdict against what happened; `calibrated` says what is compared.
        classes: heads and cells of the table of classes of faults, true against told; `classed` says how well, and from which split.
        points: candidates; shown as a front where their cost was measured.
        contributions: channel, its mean contribution before caught events and in healthy time.
        gates, card, command: as told by the run.
        identity: label and value of digests, versions and the like.

    Example:
        >>> Facts("demo", "pumps", "pca", "pumps", Verdict("no", ()), Watched("rul", "life", "below", 9.0, 99.0, "h"), "hours", "").counts
        (0, 0)
    """

    name: str
    data: str
    model: str
    noun: str
    verdict: Verdict
    watched: Watched
    unit: str
    age: str
    workload: tuple[str, str, str] = ("Alarms", "–", "")
    what: str = "failures"
    counts: tuple[int, int] = (0, 0)
    recall: Interval = NOBODY
    false: int = 0
    judged: int = 0
    rows: tuple[tuple[str, ...], ...] = ()
    tables: tuple[str, ...] = ()
    parts: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()
    assets: tuple[AssetFact, ...] = ()
    alarms: tuple[AlarmFact, ...] = ()
    events: tuple[EventFact, ...] = ()
    left_out: str = ""
    calibration: tuple[Bin, ...] = ()
    calibrated: str = ""
    points: tuple[Point, ...] = ()
    contributions: tuple[tuple[str, float, float], ...] = ()
    gates: tuple[GateFact, ...] = ()
    card: str = ""
    command: str = ""
    identity: tuple[tuple[str, str], ...] = ()
    classes: tuple[tuple[str, ...], ...] = ()
    classed: tuple[str, ...] = ()
