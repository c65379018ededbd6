"""Rows of a log by user and time, as numbers: what is aligned with histories is read from here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a table of interactions, by user and time; the order of the file decides ties.

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
        time = (frame["timestamp"].to_numpy(),) if "timestamp" in frame.columns else ()
        order = np.lexsort((*time, user))  # stable
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


def codes(series: pl.Series, names: pl.Series | NDArray[np.str_]) -> NDArray[np.int64]:
    """Where each string stands in `names` (distinct), or -1, shape (strings,)."""
    kind = pl.Enum(pl.Series(names, dtype=pl.String))
    places = series.cast(kind, strict=False).to_physical().cast(pl.Int64).fill_null(-1)
    return places.to_numpy()
