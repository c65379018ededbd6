"""The items that can be recommended."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

MIN_ITEM_EVENTS = 5
"""Rarer items have no usable estimate of their feedback; only counts decide what is kept."""


@dataclass(frozen=True)
class Catalogue:
    """Items, their text, and how often the fitting users met them.

    Attributes:
        item_ids: Id of each item in the log, shape (items,).
        texts: Text of each item, shape (items,).
        counts: Events of each item among the fitting users, shape (items,), int64.
        mean_feedback: Mean feedback value of each item among the fitting users, shrunk towards
            the mean over all items, shape (items,), float64.
    """

    item_ids: NDArray[np.str_]
    texts: NDArray[np.str_]
    counts: NDArray[np.int64]
    mean_feedback: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.item_ids)

    @cached_property
    def popularity(self) -> NDArray[np.float64]:
        """Share of each item among the fitting users' events, shape (items,); none is 0.

        One pseudo-event is spread over the catalogue.
        """
        counts = self.counts + 1.0 / len(self)
        return counts / counts.sum()

    @cached_property
    def index(self) -> dict[str, int]:
        """Catalogue index of each item id."""
        return {item: i for i, item in enumerate(self.item_ids.tolist())}
