"""What is kept of running users between steps."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from audience.reward_models.incremental import Cache
from audience.reward_models.parts import part_count, side_by_side
from audience.reward_models.user_statistics import Statistics

LEAST = 32
"""Users of a part, at least, that are copied side by side."""


@dataclass
class UserStates:
    """What is kept of some users between steps, one a row.

    Attributes:
        statistics: Sums over all their events.
        cache: Keys and values of the summary and the window's events.
        interests: Decayed sums of the vectors of their items, shape (rows, interests, d).
        hidden: Output of each row's latest event, shape (rows, d).
        mixed: What the present state weighs the sides of items by (see `Choosing`), and how far
            EASE and what comes expect them, two numbers; and the logarithm of the sum over the
            catalogue that makes its utilities probabilities; shape (rows, sides + 3).
        stale: Whether the state has changed since, shape (rows,), bool.
        names: Of the users, shape (rows,), str.
        noted: Their first events, those among which notes are looked up: notes are of real
            events, not of simulated ones with the same item, shape (rows,).
        context: User features, shape (rows, context_dim).
        note_sum: What `note_sums` keeps of the notes, shape (rows, note_dim).
        note_weight: Likewise, shape (rows,).
        note_last: Likewise, shape (rows, note_dim).
    """

    statistics: Statistics
    cache: Cache
    interests: Tensor
    hidden: Tensor
    mixed: Tensor
    stale: Tensor
    names: NDArray[np.object_]
    noted: NDArray[np.int64]
    context: Tensor
    note_sum: Tensor
    note_weight: Tensor
    note_last: Tensor

    def put(self, rows: Tensor, other: UserStates, theirs: Tensor) -> None:
        """Overwrite these rows with another's rows, shapes (m,)."""
        at, of = rows.cpu().numpy(), theirs.cpu().numpy()
        self.names[at], self.noted[at] = other.names[of], other.noted[of]
        self.statistics.reserve(other.statistics.items.shape[1])  # no part may move what all share

        def copied(part: tuple[Tensor, Tensor]) -> None:
            self._put(part[0], other, part[1])

        count = part_count(len(rows), rows.device, LEAST)
        parts = list(zip(rows.chunk(count), theirs.chunk(count), strict=True))
        side_by_side(copied, parts)

    def _put(self, rows: Tensor, other: UserStates, theirs: Tensor) -> None:
        self.statistics.put(rows, other.statistics.take(theirs))
        self.cache.put(rows, other.cache, theirs)
        for field in fields(self):
            mine = getattr(self, field.name)
            if isinstance(mine, Tensor):
                mine.index_copy_(0, rows, getattr(other, field.name).index_select(0, theirs))
