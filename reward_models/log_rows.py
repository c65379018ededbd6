"""Rows of a log by user and time, as numbers: what is aligned with histories is read from here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

LEAST_TIES, RISING = 20, 0.99
"""Ties, and the share of them by rising (or falling) item id, from which a file counts as sorted by
item."""


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a table of interactions, by user and time; the order of the file decides ties.

    But where ties stand by rising or falling item id, as in a file that was sorted by item, they
    are put in an order by chance, the same whenever the log is read: nobody rates by rising ids,
    and all that learns from the order of events would take it for behaviour. In a table without
    timestamps, sessions and slates all rows of a user are ties.

    Attributes:
        frame: The table, in the order of the file.
        order: Row of the table for each row here, shape (rows,), int64.
        user: Index into the users' names, ascending, shape (rows,), int64.
        item: Index into the items' names, shape (rows,), int64.
    """

    frame: pl.DataFrame
    order: NDArray[np.int64]
    user: NDArray[np.int64]
    item: NDArray[np.int64]

    @classmethod
    def of(cls, frame: pl.DataFrame, user_ids: NDArray[np.str_], item_ids: pl.Series) -> Rows:
        """Sort a table whose users and items are all named."""
        user, item = codes(frame["user_id"], user_ids), codes(frame["item_id"], item_ids)
        timed = "timestamp" in frame.columns
        time = frame["timestamp"].to_numpy() if timed else np.zeros(len(frame))
        order = np.lexsort((time, user))  # stable
        in_parts = not timed and {"session_id", "slate_id"} & set(frame.columns)
        if not in_parts and _sorted_by_item(user[order], time[order], item[order], item_ids):
            order = np.lexsort((_mixed(user * len(item_ids) + item), time, user))
        return cls(frame, order, user[order], item[order])

    def __len__(self) -> int:
        return len(self.order)

    def has(self, name: str) -> bool:
        """Whether the table has the column, and a value in it."""
        return name in self.frame.columns and self.frame[name].null_count() < len(self)

    def numbers(self, name: str) -> NDArray[np.float64]:
        """A column of numbers, NaN where it is blank, shape (rows,)."""
        return self.frame[name].cast(pl.Float64).to_numpy()[self.order]

    def groups(self, name: str) -> NDArray[np.int64]:
        """Number of each row's group, -1 where blank, shape (rows,).

        A group is what shares the user and the value of the column, such as a slate or a session;
        groups are numbered from 0 on, each at its first row.
        """
        labels = self.frame[name].rank("dense").cast(pl.Int64).fill_null(0).to_numpy()[self.order]
        keys = self.user * (int(labels.max(initial=0)) + 1) + labels
        filled = labels > 0
        _, first, inverse = np.unique(keys[filled], return_index=True, return_inverse=True)
        rank = np.empty(len(first), np.int64)
        rank[np.argsort(first)] = np.arange(len(first))
        groups = np.full(len(self), -1, np.int64)
        groups[filled] = rank[inverse]
        return groups


def strings(series: pl.Series) -> NDArray[np.str_]:
    """A column without blanks as NumPy strings."""
    return np.array(series.to_list(), dtype=np.str_)


def _sorted_by_item(
    user: NDArray[np.int64],
    time: NDArray[np.float64],
    item: NDArray[np.int64],
    item_ids: pl.Series,
) -> bool:
    """Whether the ties of sorted rows stand by item id, all but a few: a file's order."""
    tied = (np.diff(user) == 0) & (np.diff(time) == 0) & (np.diff(item) != 0)
    if tied.sum() < LEAST_TIES:
        return False
    numbers = item_ids.cast(pl.Float64, strict=False)
    rank = (item_ids if numbers.null_count() else numbers).rank("dense").cast(pl.Int64).to_numpy()
    rising = (np.diff(rank[item])[tied] > 0).mean()
    return bool(max(rising, 1 - rising) > RISING)


def _mixed(numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Numbers without order, one for each (the finaliser of MurmurHash3, Appleby 2011)."""
    mixed = numbers.astype(np.uint64)
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        mixed = (mixed ^ (mixed >> np.uint64(33))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(33))


def codes(series: pl.Series, names: pl.Series | NDArray[np.str_]) -> NDArray[np.int64]:
    """Where each string stands in `names` (distinct), or -1, shape (strings,)."""
    kind = pl.Enum(pl.Series(names, dtype=pl.String))
    places = series.cast(kind, strict=False).to_physical().cast(pl.Int64).fill_null(-1)
    return places.to_numpy()
