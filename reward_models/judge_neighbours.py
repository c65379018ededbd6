"""User neighbours: what fitting users of like feedback said of an item (Resnick et al. 1994)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from audience.reward_models.histories import Histories
from audience.reward_models.judge_channels import rounded
from audience.reward_models.metrics import CELLS

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

NEIGHBOURS = 1000
"""Fitting users compared with, those of most events: each costs a number an item."""

OVERLAPS = (10.0, 30.0)
"""Items in common at which a likeness is halved: one opinion for each."""

SILENT = 0.5
"""Likeness of a neighbour without opinion."""

OWN_PRIOR = 5.0
"""Pseudo-events at 0 that a user's mean residual and its spread are shrunk by."""


@dataclass(frozen=True, eq=False)
class UserNeighbours:
    """Residuals of fitting users, and likeness to them: the positive part of a damped cosine.

    Attributes:
        table: Residual of each fitting user beyond the user's own mean; 0 where there is none,
            shape (items, neighbours).
        met: Whether there is one, 1 or 0, of the same shape.
        spread: Standard deviation of feedback, shape (1,).
    """

    table: F32
    met: F32
    spread: F64

    @classmethod
    def fit(
        cls, histories: Histories, residual: F64, n_items: int, spread: float
    ) -> UserNeighbours:
        """Keep what the most active users said.

        Args:
            histories: Events of the fitting users.
            residual: Feedback of each event beyond its item's mean, shape (events,).
            n_items: Size of the catalogue.
            spread: Standard deviation of feedback.
        """
        users = np.repeat(np.arange(len(histories)), histories.lengths)
        own = np.bincount(users, residual, len(histories)) / (histories.lengths + OWN_PRIOR)
        kept = np.sort(np.argsort(-histories.lengths, kind="stable")[:NEIGHBOURS])
        column = np.full(len(histories), -1)
        column[kept] = np.arange(len(kept))
        of = column[users]
        cell = histories.items[of >= 0], of[of >= 0]
        table = np.zeros((n_items, len(kept)), np.float32)
        met = np.zeros_like(table)
        table[cell], met[cell] = (residual - own[users])[of >= 0], 1.0
        return cls(rounded(table), met, np.array([spread]))

    def before(self, items: I64, residual: F64) -> F64:
        """Opinions on each event of one user from the events before it.

        Args:
            items: Shape (events,).
            residual: Shape (events,).

        Returns:
            Mean opinion in units of the spread, and log of the neighbours' likeness, for each of
            OVERLAPS, shape (events, 2 x overlaps).
        """
        out = np.empty((len(items), 2 * len(OVERLAPS)))
        width = self.table.shape[1]
        sums = np.zeros((4, width), np.float32)
        own = np.zeros(2)
        step = max(1, CELLS // (8 * max(width, 1)))
        for at in range(0, len(items), step):
            part = slice(at, at + step)
            table, met = self.table[items[part]], self.met[items[part]]
            given = residual[part].astype(np.float32)[:, None]
            each = np.stack([table * given, table, met, table * table])  # (4, events, users)
            running = np.concatenate([sums[:, None], each], 1).cumsum(1, dtype=np.float32)
            both = np.stack([residual[part], residual[part] ** 2], -1)
            totals = np.concatenate([own[None], both]).cumsum(0)
            count = np.arange(at, at + len(given), dtype=np.float64)
            like = self._likeness(running[:, :-1], totals[:-1], count)
            out[part] = self._opinions(like, table[:, None], met[:, None])[:, 0]
            sums, own = running[:, -1], totals[-1]
        return out

    def asked(self, items: I64, residual: F64, used: NDArray[np.bool_], query: I64) -> F64:
        """Opinions on items asked about after whole histories.

        Args:
            items: Shape (users, width).
            residual: Shape (users, width).
            used: Which places are events, shape (users, width).
            query: Items asked about, shape (users, q).

        Returns:
            Shape (users, q, 2 x overlaps).
        """
        rows = np.nonzero(used)[0]
        shape, of = (len(items), len(self.table)), items[used]
        given = residual[used].astype(np.float32)

        def events(weight: F32) -> sp.csr_matrix:
            # Sparse, so that the sum over a user's events depends on no other user.
            return sp.csr_matrix((weight, (rows, of)), shape)

        once = events(np.ones(len(of), np.float32))
        sums = np.stack(
            [
                events(given) @ self.table,
                once @ self.table,
                once @ self.met,
                once @ np.square(self.table),
            ]
        )
        powers = residual[used], np.square(residual[used])
        own = np.zeros((len(items), 2))
        for column, power in enumerate(powers):
            own[:, column] = np.bincount(rows, power, len(items))
        like = self._likeness(sums, own, used.sum(1).astype(np.float64))
        out = np.empty((*query.shape, 2 * len(OVERLAPS)))
        step = max(1, CELLS // max(1, query.shape[1] * self.table.shape[1]))
        for at in range(0, len(query), step):
            part = slice(at, at + step)
            table, met = self.table[query[part]], self.met[query[part]]
            out[part] = self._opinions(like[part], table, met)
        return out

    def _likeness(self, sums: F32, own: F64, count: F64) -> F32:
        """Of users (rows) to neighbours, (rows, overlaps, neighbours).

        Args:
            sums: Over common items: residual products, neighbours' residuals, items, squares of
                neighbours' residuals, shape (4, rows, neighbours).
            own: Sums of the user's residuals and their squares, shape (rows, 2).
            count: The user's events, shape (rows,).
        """
        product, theirs, common, squares = sums
        mean = (own[:, 0] / (count + OWN_PRIOR)).astype(np.float32)[:, None]
        prior = OWN_PRIOR * self.spread**2
        variance = ((own[:, 1] + prior) / (count + OWN_PRIOR)).astype(np.float32)[:, None]
        size = np.sqrt(np.maximum(squares * common * variance, 1e-6))
        cosine = np.maximum(product - mean * theirs, 0) / size
        return np.stack([cosine * common / (common + np.float32(k)) for k in OVERLAPS], 1)

    def _opinions(self, like: F32, table: F32, met: F32) -> F64:
        """(rows, overlaps, neighbours) and (rows, q, neighbours) to (rows, q, 2 x overlaps)."""
        said = np.einsum("uon,uqn->uqo", like, table).astype(np.float64)
        weight = np.einsum("uon,uqn->uqo", like, met).astype(np.float64)
        return np.concatenate([said / (weight + SILENT) / self.spread, np.log1p(weight)], -1)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that it consists of."""
        table, met = self.table.astype(np.float16), self.met.astype(np.bool_)
        return {"table": table, "met": met, "spread": self.spread}

    @classmethod
    def of_arrays(cls, arrays: dict[str, NDArray[Any]]) -> UserNeighbours:
        """The inverse of `arrays`."""
        table, met = (arrays[name].astype(np.float32) for name in ("table", "met"))
        return cls(table, met, arrays["spread"])
