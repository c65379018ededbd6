"""Which items each user may still be recommended."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MARKS = 4096
"""Marks of a slot in place of a bool for each item: an item without one is open, and of a few
dozen closed items hardly another is marked beside them."""


class OpenItems:
    """The open items of each slot: all but those that were closed since it was reset.

    What is closed is listed, so that a reset costs what was closed, not what the catalogue has.

    Args:
        slots: Number of slots.
        n_items: Size of the catalogue.
        whole: Whether to keep a bool for each item, for masks of all items and where the open
            items are given; else a slot takes as much memory in any catalogue.

    Attributes:
        remaining: Number of open items, shape (slots,).
    """

    def __init__(self, slots: int, n_items: int, whole: bool) -> None:
        self.n_items = n_items
        self.remaining = np.full(slots, n_items, np.int64)
        self._bits = np.ones((slots, n_items if whole else MARKS), np.bool_)
        self._whole = whole
        self._closed = np.zeros((slots, 1), np.int64)
        self._count = np.zeros(slots, np.int64)
        self._limited = np.zeros(slots, np.bool_)  # whose open items were given

    def reset(self, slots: NDArray[np.int64], among: NDArray[np.bool_] | None = None) -> None:
        """Open all items of these slots, or those `among` all, shape (len(slots), items)."""
        at, closed = self._listed(slots)
        self._bits[slots[at], self._column(closed)] = True
        self._bits[slots[self._limited[slots]]] = True
        self._count[slots] = 0
        self._limited[slots] = among is not None
        if among is None:
            self.remaining[slots] = self.n_items
        else:
            self._bits[slots] = among
            self.remaining[slots] = among.sum(axis=1)

    def close(self, slots: NDArray[np.int64], items: NDArray[np.int64]) -> None:
        """Close an item for each of these slots, of which one may stand several times."""
        if len(slots) > 1:
            cells = np.sort(slots * self.n_items + items)
            first = np.append(True, cells[1:] != cells[:-1])  # `np.unique` takes ten times as long
            slots, items = np.divmod(cells[first], self.n_items)
        shut = self._are(slots, items)
        slots, items = slots[shut], items[shut]
        counts = np.bincount(slots, minlength=len(self.remaining))
        short = int((self._count + counts).max(initial=0)) - self._closed.shape[1]
        if short > 0:
            more = max(short, self._closed.shape[1])
            self._closed = np.pad(self._closed, ((0, 0), (0, more)))
        nth = np.arange(len(slots)) - (counts.cumsum() - counts)[slots]
        self._closed[slots, self._count[slots] + nth] = items
        self._bits[slots, self._column(items)] = False
        self._count += counts
        self.remaining -= counts

    def are(self, items: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether these items of all slots are open, shape (slots, k)."""
        slots = np.arange(len(items))[:, None]
        at = self._column(items) + slots * self._bits.shape[1]
        found: NDArray[np.bool_] = self._bits.ravel().take(at)
        if not self._whole:
            row, place = np.nonzero(~found)
            found[row, place] = self._are(row, items[row, place])
        return found

    def masks(self, slots: NDArray[np.int64] | None = None) -> NDArray[np.bool_]:
        """Which items are open to these slots, or to all, shape (slots, items); not to change."""
        if self._whole:
            return self._bits if slots is None else self._bits[slots]
        slots = np.arange(len(self.remaining)) if slots is None else slots
        masks = np.ones((len(slots), self.n_items), np.bool_)
        at, closed = self._listed(slots)
        masks[at, closed] = False
        return masks

    def _are(self, slots: NDArray[np.int64], items: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether an item of each of these slots is open, shape of both."""
        if self._whole:
            return self._bits[slots, items]
        used = np.arange(self._closed.shape[1]) < self._count[slots, None]
        return ~((self._closed[slots] == items[:, None]) & used).any(axis=1)

    def _listed(self, slots: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """All that is closed to these slots: places among them, and items."""
        counts = self._count[slots]
        at, place = np.nonzero(np.arange(counts.max(initial=0)) < counts[:, None])
        return at, self._closed[slots[at], place]

    def _column(self, items: NDArray[np.int64]) -> NDArray[np.int64]:
        return items if self._whole else items % MARKS
