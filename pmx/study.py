"""The trials of a sweep in one SQLite file: what is proposed, what runs, what is finished; it outlives any process.

A trial is stored whole in one transaction before it runs, and keeps its number and its settings until it has a result. Proposals
depend on the seed, the number and the results of earlier rounds alone: a study that was interrupted goes on as if it had not been.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pmx.contract import UsageError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

MOST_ATTEMPTS = 8  # a trial that took its process down so often is given up
STARTUP = 8  # trials at random before the estimator of good settings begins
RETRIES = 20  # to propose settings that were not tried yet


@dataclass
class SweepConfig:
    """The settings of `pmx sweep`.

    Attributes:
        trials: how many at most; fewer where every combination is tried once.
        jobs: how many run at a time, each in a process of its own with one thread.
        cost: what the device pays, to be made small: `p50_ms`, `p99_ms`, `bytes` or `resident_mb`.
        space: key -> values in Hydra's words for sweeps, such as "7,15,31" or "tag(log, interval(0.01, 0.1))".
    """

    trials: int = 30
    jobs: int = 1
    cost: str = "p50_ms"
    space: dict[str, str] | None = None


@dataclass(frozen=True)
class Dimension:
    """One setting that a sweep varies.

    Attributes:
        key: as on the command line.
        choices: its values as words of the command line; empty for an interval.
        ordered: whether neighbours among the choices resemble each other.
        low: of an interval.
        high: of an interval, included.
        log: whether ratios count, not differences.

    Example:
        >>> Dimension("model.lightgbm.num_leaves", ("7", "15")).word(1)
        'model.lightgbm.num_leaves=15'
        >>> Dimension("model.lightgbm.learning_rate", low=0.01, high=0.1, log=True).word(0.05)
        'model.lightgbm.learning_rate=0.05'
    """

    key: str
    choices: tuple[str, ...] = ()
    ordered: bool = False
    low: float = 0.0
    high: float = 0.0
    log: bool = False

    def word(self, value: float) -> str:
        """The override for a value: the index of a choice, or a number of the interval."""
        return f"{self.key}={self.choices[int(value)] if self.choices else repr(value)}"

    @property
    def first(self) -> float:
        return 0 if self.choices else self.low

    @property
    def last(self) -> float:
        return len(self.choices) - 1 if self.choices else self.high

    def distribution(self) -> BaseDistribution:
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.choices:
            last = len(self.choices) - 1
            return IntDistribution(0, last) if self.ordered else CategoricalDistribution(list(range(last + 1)))
        if isinstance(self.low, int) and isinstance(self.high, int):
            return IntDistribution(self.low, self.high, log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)


def grid(space: list[Dimension], most: int) -> list[dict[str, int]]:
    """Every combination of choices; none where there is an interval, or where there are more than `most`.

    Example:
        >>> grid([Dimension("a", ("x", "y")), Dimension("b", ("1",))], 30)
        [{'a': 0, 'b': 0}, {'a': 1, 'b': 0}]
    """
    if not all(d.choices for d in space) or math.prod(len(d.choices) for d in space) > most:
        return []
    return [dict(zip((d.key for d in space), c, strict=True)) for c in itertools.product(*(range(len(d.choices)) for d in space))]


@dataclass(frozen=True)
class Row:
    """One trial as it is told of.

    Attributes:
        number: from 0.
        state: `finished`, `failed` or `open`.
        words: the overrides that make it.
        attempts: how often it was begun.
        record: what it found; empty while it is open.
    """

    number: int
    state: str
    words: list[str]
    attempts: int
    record: dict[str, Any]

    def json(self) -> dict[str, Any]:
        plain = asdict(self)
        return plain | plain.pop("record")


class Study:
    """A sweep's trials on disk. One process at a time may write; `pmx.tune` holds a lock for it.

    Args:
        file: the SQLite file, made where it is missing.
        space: what varies.
        trials: how many at most.
        jobs: how many make a round: none of a round knows another's result.
        seed: of the proposals.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "sweep.db"
        >>> study = Study(file, [Dimension("depth", ("3", "5"))])
        >>> for round in study.rounds():
        ...     for row in round:
        ...         study.finish(row.number, -float(row.number), 1.0, {})
        >>> [row.words for row in Study(file, study.space).rows()]
        [['depth=3'], ['depth=5']]
    """

    def __init__(self, file: Path, space: list[Dimension], trials: int = 30, jobs: int = 1, seed: int = 0) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.jobs, self.seed = space, jobs, seed
        self.grid = grid(space, trials)
        self.total = len(self.grid) or trials
        self.storage = optuna.storages.RDBStorage(f"sqlite:///{Path(file).resolve()}")
        self._study = optuna.create_study(
            storage=self.storage, study_name=Path(file).resolve().parent.name, directions=["maximize", "minimize"], load_if_exists=True
        )

    def rows(self) -> list[Row]:
        return [self._row(t) for t in self._study.get_trials(deepcopy=False)]

    def rounds(self) -> Iterator[list[Row]]:
        """The trials that have no result yet, a round of `jobs` at a time; each is stored before it is given."""
        for begin in range(0, self.total, self.jobs):
            for number in range(len(self._study.get_trials(deepcopy=False)), min(self.total, begin + self.jobs)):
                self._propose(number, begin)
            rows = self.rows()[begin : begin + self.jobs]
            if todo := [self._begin(row) for row in rows if row.state == "open" and not self._given_up(row)]:
                yield todo

    def finish(self, number: int, quality: float, cost: float, record: dict[str, Any]) -> None:
        """Keeps what a trial found; from here on it is never run again."""
        self._set(number, "record", record)
        self._study.tell(number, [quality, cost])

    def fail(self, number: int, record: dict[str, Any]) -> None:
        """Keeps why a trial has no value."""
        from optuna.trial import TrialState

        self._set(number, "record", record)
        self._study.tell(number, state=TrialState.FAIL)

    def close(self) -> None:
        """Lets the file go."""
        self.storage.engine.dispose()

    def _propose(self, number: int, known: int) -> None:
        """Stores the next trial by what the trials before number `known` gave."""
        from optuna.trial import TrialState, create_trial

        distributions = {d.key: d.distribution() for d in self.space}
        params = self.grid[number] if self.grid else self._sample(number, known, distributions)
        words = [d.word(params[d.key]) for d in self.space]
        state, kept = TrialState.RUNNING, {"words": words, "attempts": 0}
        # not `ask`, which stores a trial and each of its settings apart: killed between, it would be half a proposal
        self._study.add_trial(create_trial(state=state, params=params, distributions=distributions, user_attrs=kept))

    def _sample(self, number: int, known: int, distributions: dict[str, BaseDistribution]) -> dict[str, Any]:
        import optuna

        trials = self._study.get_trials(deepcopy=False)
        taken, params = [t.params for t in trials], {}
        for attempt in range(RETRIES):
            seed = int(np.random.SeedSequence([self.seed, number, attempt]).generate_state(1)[0])
            sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP)
            memory = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
            memory.add_trials([t for t in trials[:known] if t.state == optuna.trial.TrialState.COMPLETE])
            params = memory.ask(distributions).params
            if params not in taken:
                break
        return params

    def _begin(self, row: Row) -> Row:
        self._set(row.number, "attempts", row.attempts + 1)
        return row

    def _given_up(self, row: Row) -> bool:
        if row.attempts < MOST_ATTEMPTS:
            return False
        self.fail(row.number, {"error": f"begun {row.attempts} times, and each time its process ended before it did; given up"})
        return True

    def _set(self, number: int, key: str, value: Any) -> None:
        self.storage.set_trial_user_attr(self._study.get_trials(deepcopy=False)[number]._trial_id, key, value)

    def _row(self, trial: FrozenTrial) -> Row:
        state = {"COMPLETE": "finished", "FAIL": "failed"}.get(trial.state.name, "open")
        kept = trial.user_attrs
        return Row(trial.number, state, kept["words"], kept["attempts"], kept.get("record", {}) if state != "open" else {})


def dimension(key: str, low: float, high: float, log: bool) -> Dimension:
    """An interval, checked."""
    if not low < high or (log and low <= 0):
        raise UsageError(f"{key}: interval({low}, {high}) is empty{' or not positive, as log needs it' * log} -> a lower first number")
    return Dimension(key, low=low, high=high, log=log)
