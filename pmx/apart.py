"""Values that are set apart from wide rows, which go on without them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from pmx.rule import Rule

Read = Callable[[str, np.ndarray], np.ndarray]  # a channel and rows, int64 [row], to what the channel has there, [row]


class Apart:
    """The values of wide rows that break a rule about their channel.

    Args:
        own: the rules; values are told by a rule's index and by their row.

    Example:
        A sensor reads -9999: the first row has another value, the second has none.

        >>> from pmx.contract import Channel, Contract
        >>> from pmx.rule import rules
        >>> own = rules(Contract((Channel("flow", "l/s", low=0.0), Channel("heat", "°C")), "h", "life"))
        >>> values = {"flow": np.array([-9999.0, -9999.0]), "heat": np.array([20.0, np.nan])}
        >>> apart, first = Apart(own), np.array([-1, -1])
        >>> apart.add(next(k for k, rule in enumerate(own) if rule.name == "out_of_range"), values["flow"] < 0)
        >>> apart.settle(first, lambda name, row: values[name][row], lambda name, row: np.zeros(len(row), bool))
        >>> [(own[k].name, int(row), alone) for row, k, alone in zip(*map(np.ndarray.tolist, apart.listed(first)))]
        [('out_of_range', 0, True), ('out_of_range', 1, False)]
    """

    def __init__(self, own: Sequence[Rule]) -> None:
        self.own = own
        self._at: dict[int, np.ndarray] = {}  # rule -> int64 [value], rows in ascending order

    def add(self, k: int, where: np.ndarray) -> None:
        """Adds the values that break the k-th rule, bool [row]; those that broke an earlier one of their channel are filed there."""
        at = np.flatnonzero(where)
        for earlier in [e for e in self._at if self.own[e].column == self.own[k].column]:
            at = np.setdiff1d(at, self._at[earlier], assume_unique=True)
        if len(at):
            self._at[k] = at

    def settle(self, first: np.ndarray, value: Read, torn: Read) -> None:
        """Refuses the rows of which nothing is left, and those whose line ended too soon: there the value before the end may be cut as well.

        Args:
            first: index of the rule that refuses each row, int [row], -1 = none; what is refused now is filed under the first rule it breaks.
            value: float64, NaN where there is none.
            torn: bool, whether a text that is no number is `CUT`.
        """
        if not self._at:
            return
        rows = np.unique(np.concatenate(list(self._at.values())))
        left, lost = np.zeros(len(rows), bool), np.zeros(len(rows), bool)
        for name in dict.fromkeys(rule.column for rule in self.own if rule.of_value):
            there = ~np.isnan(value(name, rows))
            for k in [k for k in self._at if self.own[k].column == name]:
                at = np.searchsorted(rows, self._at[k])
                there[at] = False
                if self.own[k].test == "broken":
                    lost[at] |= torn(name, self._at[k])
            left |= there
        empty = rows[lost | ~left]
        for k in sorted(self._at, reverse=True):
            first[np.intersect1d(self._at[k], empty, assume_unique=True)] = k

    def kept(self, first: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Channels, and accepted rows, int64 [value], in which a value of theirs is set apart; `first` as in `settle`."""
        for k, at in self._at.items():
            yield self.own[k].column, at[first[at] < 0]

    def listed(self, first: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What is set apart, in the order of rows and rules: int64 [breach] its row and its rule, and bool, whether it is a value alone.

        A refused row, `first` as in `settle`, is listed once, whatever its values are.
        """
        refused = np.flatnonzero(first >= 0)
        at = {k: rows[first[rows] < 0] for k, rows in self._at.items()}
        row = np.concatenate([refused, *at.values()])
        rule = np.concatenate([first[refused].astype(np.int64), *(np.full(len(rows), k) for k, rows in at.items())])
        order = np.lexsort((rule, row))
        return row[order], rule[order], order >= len(refused)
