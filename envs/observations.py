"""What an agent sees: each user's last events, and which items may still be recommended."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from audience.envs.open_items import OpenItems
from audience.reward_models.histories import Histories
from audience.reward_models.users import Response

Observation = dict[str, NDArray[np.generic]]
Rows = NDArray[np.int64] | slice
ALL = slice(None)


def observation_space(
    n_items: int,
    n_levels: int,
    history_size: int,
    with_mask: bool,
    candidates: int | None = None,
) -> spaces.Dict:
    """The space of one user's observation, as specified by `RecommendVectorEnv`."""
    # A scale of one level still needs two numbers: Gymnasium warns of a Box with low == high.
    top = max(n_levels - 1, 1)
    parts: dict[str, spaces.Space[NDArray[np.generic]]] = {
        "item": spaces.Box(0, n_items - 1, (history_size,), np.int64),
        "feedback": spaces.Box(0, top, (history_size,), np.int64),
        "length": spaces.Box(0, history_size, (1,), np.int64),
    }
    if candidates is not None:
        parts["candidates"] = spaces.Box(0, n_items - 1, (candidates,), np.int64)
    if with_mask:
        parts["mask"] = spaces.MultiBinary(n_items if candidates is None else candidates)
    return spaces.Dict(parts)


class ObservedHistories:
    """A window of each slot's last events, and the items that are still open to it.

    Args:
        slots: Number of slots.
        n_items: Size of the catalogue.
        window: Events of the window.
        repeats: Whether what was consumed stays open.
        whole: See `OpenItems`.

    Attributes:
        items: Catalogue indices, oldest first, left-aligned, 0 past the end, shape (slots, window).
        levels: Their feedback levels, likewise.
        lengths: Events in the window, shape (slots,).
        open: Which items may be recommended.
    """

    def __init__(
        self, slots: int, n_items: int, window: int, repeats: bool = False, whole: bool = True
    ) -> None:
        self.items = np.zeros((slots, window), np.int64)
        self.levels = np.zeros((slots, window), np.int64)
        self.lengths = np.zeros(slots, np.int64)
        self.open = OpenItems(slots, n_items, whole)
        self._repeats = repeats

    def start(
        self,
        slots: NDArray[np.int64],
        histories: Histories,
        among: NDArray[np.bool_] | None = None,
    ) -> None:
        """Forget what these slots held; show one history a slot.

        Args:
            slots: Which.
            histories: One a slot.
            among: The only items that are open to each, shape (len(slots), items); None: all.
        """
        window = self.items.shape[1]
        self.items[slots], self.levels[slots], self.lengths[slots] = histories.padded(window)
        self.open.reset(slots, among)
        if not self._repeats:
            self.open.close(np.repeat(slots, histories.lengths), histories.items)

    def append(self, response: Response) -> None:
        """Add what was chosen, where something was; a full window drops its oldest event."""
        slots = np.flatnonzero(response.choice >= 0)
        if not len(slots):
            return
        place, item = self.lengths[slots], response.item[slots]
        full = slots[place == self.items.shape[1]]
        if len(full):
            self.items[full, :-1] = self.items[full, 1:]
            self.levels[full, :-1] = self.levels[full, 1:]
            self.lengths[full] -= 1
            place = self.lengths[slots]
        self.items[slots, place], self.levels[slots, place] = item, response.level[slots]
        self.lengths[slots] += 1
        if not self._repeats:
            self.open.close(slots, item)

    def observe(self, rows: Rows = ALL) -> Observation:
        """The events of these rows, batched; new arrays, which later steps leave alone."""
        return {
            "item": np.array(self.items[rows]),
            "feedback": np.array(self.levels[rows]),
            "length": np.array(self.lengths[rows, None]),
        }
