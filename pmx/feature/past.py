"""The feature vectors of some ticks together with those that led up to them, for models that read more than the newest."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Past:
    """Rows of a feature table, each with the rows before it in the same life. It holds the table once, however many rows look back.

    Attributes:
        table: float32 [tick, feature], each life's ticks together and in order.
        begins: int64 [tick], position of the first tick of the life that a tick lies in.
        rows: int64 [row], positions that are looked at.
        names: of the features.

    Example:
        >>> past = Past.of(np.array([[1.0], [2.0], [3.0], [4.0]], np.float32), np.array([0, 0, 0, 1]), ["load"])
        >>> past[np.array([2, 3])].sequences(3, [0])[:, :, 0].tolist()
        [[1.0, 2.0, 3.0], [nan, nan, 4.0]]
    """

    table: np.ndarray
    begins: np.ndarray
    rows: np.ndarray
    names: list[str]

    @staticmethod
    def of(table: np.ndarray, life: np.ndarray, names: list[str]) -> Past:
        """Every row of a feature table float32 [tick, feature], whose ticks lie in these lives, int64 [tick]."""
        first = np.flatnonzero(np.diff(life, prepend=life[:1] - 1))
        begins = np.repeat(first, np.diff(np.append(first, len(life))))
        return Past(table, begins, np.arange(len(table)), names)

    @staticmethod
    def alone(table: np.ndarray, names: list[str]) -> Past:
        """Rows float32 [row, feature] that each are the first tick of a life."""
        return Past(table, np.arange(len(table)), np.arange(len(table)), names)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: np.ndarray) -> Past:
        """Some of the rows, by a mask or by their indices."""
        return replace(self, rows=self.rows[rows])

    @property
    def now(self) -> np.ndarray:
        """The newest feature vector of each row, float32 [row, feature]."""
        whole = len(self.rows) == len(self.table) and bool((self.rows == np.arange(len(self.rows))).all())
        return self.table if whole else self.table[self.rows]

    def sequences(self, length: int, columns: list[int]) -> np.ndarray:
        """The last `length` values of some features, float32 [row, length, column], oldest first; NaN before a life began."""
        at = self.rows[:, None] - np.arange(length - 1, -1, -1)
        before = at < self.begins[self.rows][:, None]
        found = self.table[np.where(before, 0, at)[:, :, None], np.asarray(columns)]
        found[before] = np.nan
        return found
