"""What an agent sees: each user's last events, and which items may still be recommended."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from audience.reward_models.histories import Histories
from audience.reward_models.users import Response

Observation = dict[str, NDArray[np.generic]]
Rows = NDArray[np.int64] | slice
ALL = slice(None)


def observation_space(
    n_items: int, n_levels: int, history_size: int, with_mask: bool
) -> spaces.Dict:
    """The space of one user's observation, as specified by `RecommendVectorEnv`."""
    # A scale of one level still needs two numbers: Gymnasium warns of a Box with low == high.
    top = max(n_levels - 1, 1)
    parts: dict[str, spaces.Space[NDArray[np.generic]]] = {
        "item": spaces.Box(0, n_items - 1, (history_size,), np.int64),
        "feedback": spaces.Box(0, top, (history_size,), np.int64),
        "length": spaces.Box(0, history_size, (1,), np.int64),
    }
    if with_mask:
        parts["mask"] = spaces.MultiBinary(n_items)
    return spaces.Dict(parts)


class ObservedHistories:
    """A window of each slot's last events, and the items that it consumed so far.

    Attributes:
        items: Catalogue indices, oldest first, left-aligned, 0 past the end, shape (slots, window).
        levels: Their feedback levels, likewise.
        lengths: Events in the window, shape (slots,).
        consumed: Which items stand in the whole history, shape (slots, items).
        remaining: Number of items not consumed, shape (slots,).
    """

    def __init__(self, slots: int, n_items: int, window: int, with_mask: bool) -> None:
        self.items = np.zeros((slots, window), np.int64)
        self.levels = np.zeros((slots, window), np.int64)
        self.lengths = np.zeros(slots, np.int64)
        self.consumed = np.zeros((slots, n_items), np.bool_)
        self.remaining = np.full(slots, n_items, np.int64)
        self._with_mask = with_mask

    def start(self, slots: NDArray[np.int64], histories: Histories) -> None:
        """Forget what these slots held; show one history a slot."""
        window = self.items.shape[1]
        self.items[slots], self.levels[slots], self.lengths[slots] = histories.padded(window)
        self.consumed[slots] = False
        self.consumed[np.repeat(slots, histories.lengths), histories.items] = True
        self.remaining[slots] = (~self.consumed[slots]).sum(axis=1)

    def append(self, response: Response) -> None:
        """Add what was chosen, where something was; a full window drops its oldest event."""
        slots = np.flatnonzero(response.choice >= 0)
        window = self.items.shape[1]
        full = slots[self.lengths[slots] == window]
        self.items[full, :-1] = self.items[full, 1:]
        self.levels[full, :-1] = self.levels[full, 1:]
        self.lengths[full] -= 1
        place, item = self.lengths[slots], response.item[slots]
        self.items[slots, place], self.levels[slots, place] = item, response.level[slots]
        self.lengths[slots] += 1
        self.remaining[slots] -= ~self.consumed[slots, item]
        self.consumed[slots, item] = True

    def mask(self, rows: Rows = ALL) -> NDArray[np.int8]:
        """1 where an item may be recommended, shape (rows, items); a new array."""
        return (~self.consumed[rows]).view(np.int8)

    def observe(self, rows: Rows = ALL) -> Observation:
        """The observation of these rows, batched; new arrays, which later steps leave alone."""
        observation: Observation = {
            "item": np.array(self.items[rows]),
            "feedback": np.array(self.levels[rows]),
            "length": np.array(self.lengths[rows, None]),
        }
        if self._with_mask:
            observation["mask"] = self.mask(rows)
        return observation
