"""Event histories of several users in one block of columns, and padded views of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Histories:
    """Events of several users, ragged, oldest first.

    Attributes:
        users: Name of each user, shape (users,).
        offsets: Where each user's events begin, and the end, shape (users + 1,), int64.
        items: Catalogue index of each event, shape (events,), int64.
        levels: Feedback level of each event, an index into the scale, shape (events,), int64.
    """

    users: NDArray[np.str_]
    offsets: NDArray[np.int64]
    items: NDArray[np.int64]
    levels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.users)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of events of each user, shape (users,)."""
        return np.diff(self.offsets)

    @classmethod
    def from_lists(
        cls, events: list[list[tuple[int, int]]], users: list[str] | None = None
    ) -> Histories:
        """Build from one list of (item index, level) a user."""
        flat = np.array([e for user in events for e in user], np.int64).reshape(-1, 2)
        offsets = np.concatenate([[0], np.cumsum([len(user) for user in events])]).astype(np.int64)
        names = users if users is not None else [str(i) for i in range(len(events))]
        return cls(np.array(names, dtype=np.str_), offsets, flat[:, 0].copy(), flat[:, 1].copy())

    @classmethod
    def from_padded(
        cls, items: NDArray[np.int64], levels: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> Histories:
        """Build from left-aligned rows: items and levels (users, width), lengths (users,)."""
        lengths = np.asarray(lengths, np.int64)
        used = np.arange(items.shape[1]) < lengths[:, None]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        names = np.arange(len(lengths)).astype(np.str_)
        return cls(names, offsets, items[used].astype(np.int64), levels[used].astype(np.int64))

    def padded(
        self, width: int | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Left-aligned rows (items, levels, lengths) of each user's last `width` events.

        Places from `lengths` on are 0. `width` defaults to the longest history.
        """
        width = int(self.lengths.max(initial=0)) if width is None else width
        lengths = np.minimum(self.lengths, width)
        place = np.arange(width)
        used = place < lengths[:, None]  # (users, width)
        source = (self.offsets[1:] - lengths)[:, None] + place
        items = np.zeros((len(self), width), np.int64)
        levels = np.zeros((len(self), width), np.int64)
        items[used], levels[used] = self.items[source[used]], self.levels[source[used]]
        return items, levels, lengths

    @classmethod
    def joined(cls, parts: list[Histories]) -> Histories:
        """The users of several, one after another; of none, no users."""
        parts = [cls.from_lists([]), *parts]
        lengths = np.concatenate([part.lengths for part in parts])
        return cls(
            np.concatenate([part.users for part in parts]),
            np.concatenate([[0], lengths.cumsum()]).astype(np.int64),
            np.concatenate([part.items for part in parts]),
            np.concatenate([part.levels for part in parts]),
        )

    def take(self, rows: NDArray[np.int64]) -> Histories:
        """The histories of these rows, in this order; a row may stand more than once."""
        rows = np.asarray(rows, np.int64)
        lengths = self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        source = np.repeat(self.offsets[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Histories(self.users[rows], offsets, self.items[source], self.levels[source])

    def events(self, kept: NDArray[np.bool_]) -> Histories:
        """These events alone, shape (events,); users may be left with none."""
        below = np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)
        return Histories(self.users, below[self.offsets], self.items[kept], self.levels[kept])

    def first(self, events: int) -> Histories:
        """Each user's first `events` events, or fewer where there are fewer."""
        keep = np.arange(len(self.items)) - np.repeat(self.offsets[:-1], self.lengths) < events
        offsets = np.concatenate([[0], np.cumsum(np.minimum(self.lengths, events))])
        return Histories(self.users, offsets.astype(np.int64), self.items[keep], self.levels[keep])

    def at_least(self, events: int) -> Histories:
        """The users who have at least `events` events."""
        return self.take(np.flatnonzero(self.lengths >= events))

    def without_repeats(self) -> tuple[Histories, NDArray[np.int64]]:
        """Only the first event of each user with each item, and which events were kept."""
        users = np.repeat(np.arange(len(self)), self.lengths)
        pairs = users * (int(self.items.max(initial=0)) + 1) + self.items
        keep = np.sort(np.unique(pairs, return_index=True)[1])
        offsets = np.searchsorted(users[keep], np.arange(len(self) + 1)).astype(np.int64)
        return Histories(self.users, offsets, self.items[keep], self.levels[keep]), keep
