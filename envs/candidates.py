"""Candidates: the part of a large catalogue that the actions of a step index."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from audience.envs.observations import ObservedHistories

LARGE = 20_000
"""Items above which an environment offers candidates: masks and observations of more would cost
more than the users do."""

CANDIDATES = 500
"""Candidates of a step, by default."""

FIRST_COLUMN = 16
"""Of the draws of candidates, after those of users and responses."""

LEAST_SPARE = 8
"""Draws beyond the candidates, in place of those that fall out; a quarter where that is more."""

Generator: TypeAlias = Callable[
    [NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]],
    NDArray[np.int64],
]
"""Catalogue indices (slots, count) from the items, levels (slots, history) and lengths (slots,)
of the observed events, and uniforms (slots, count)."""

Draw: TypeAlias = Callable[[NDArray[np.int64]], NDArray[np.float64]]
"""Uniforms (slots, columns) of these columns at each slot's step."""


class Candidates:
    """The candidates of each slot.

    Args:
        slots: Number of slots.
        count: Candidates of a step, C.
        popularity: Shares of the catalogue's items, shape (items,), all above 0.
        generator: Proposes candidates in place of draws by popularity.

    Attributes:
        items: Catalogue indices, shape (slots, C), int64.
        fresh: Where no earlier candidate of the slot is the same item, likewise.
    """

    def __init__(
        self,
        slots: int,
        count: int,
        popularity: NDArray[np.float64],
        generator: Generator | None = None,
    ) -> None:
        self.items = np.zeros((slots, count), np.int64)
        self.fresh = np.ones((slots, count), np.bool_)
        self._n_items = len(popularity)
        spare = max(LEAST_SPARE, count // 4)
        order, below = strata(popularity, min(count + spare, len(popularity)))
        self._width = round(below[-1])
        # Where the search for a point begins: four times as many marks as items.
        self._marks = -(-4 * len(popularity) // self._width)
        marks = np.arange(self._width * self._marks) / self._marks
        # In a large catalogue each look-up costs a miss of the cache: where an item ends and which
        # it is stand together, (items, 2), and the guide takes half the bytes.
        self._line = np.stack([below.view(np.int64), order], axis=1)
        self._guide = np.searchsorted(below, marks, side="right").astype(np.int32)
        self._rank = np.empty(len(popularity), np.int64)
        self._rank[np.argsort(-popularity, kind="stable")] = np.arange(len(popularity))
        self._generator = generator

    def renew(self, observed: ObservedHistories, draw: Draw) -> None:
        """Draw the candidates of the next step, for all slots.

        Raises:
            ValueError: The generator gives something else than catalogue indices (slots, C).
        """
        if self._generator is None:
            self.items = self._popular(observed, draw)
            return
        slots, count = self.items.shape
        uniforms = draw(FIRST_COLUMN + np.arange(count))
        events = observed.items.copy(), observed.levels.copy(), observed.lengths.copy()
        given = np.asarray(self._generator(*events, uniforms))
        fits = given.shape == (slots, count) and given.dtype.kind in "iu"
        if not fits or given.min() < 0 or given.max() >= self._n_items:
            raise ValueError(
                f"candidate_generator must give catalogue indices from 0 to "
                f"{self._n_items - 1} of shape {(slots, count)}, got {given.dtype} of shape "
                f"{given.shape}" + (f", {given.min()} to {given.max()}" if fits else "")
            )
        self.items = given.astype(np.int64)
        order = np.argsort(self.items, axis=1, kind="stable")
        ordered = np.take_along_axis(self.items, order, axis=1)
        again = np.zeros_like(self.fresh)
        again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
        np.put_along_axis(self.fresh, order, ~again, axis=1)

    def mask(self, observed: ObservedHistories) -> NDArray[np.bool_]:
        """Which candidates are open, shape (slots, C)."""
        return observed.open.are(self.items) & self.fresh

    def _popular(self, observed: ObservedHistories, draw: Draw) -> NDArray[np.int64]:
        """Open items by popularity, without replacement.

        One item is drawn from each stratum; what is not open, or was drawn in the stratum
        before, falls out, and of the rest C are kept, from a drawn one on.
        """
        slots, count = self.items.shape
        width = self._width
        uniforms = draw(FIRST_COLUMN + np.arange(width + 1))
        # Unit by unit of the line: what all slots look up of one lies together in memory.
        points = np.arange(width)[:, None] + uniforms[:, :width].T
        drawn = np.ascontiguousarray(self._find(points).T)  # (slots, width)
        usable = observed.open.are(drawn)
        usable[:, 1:] &= drawn[:, 1:] != drawn[:, :-1]
        turn = usable.cumsum(axis=1) - 1
        found = turn[:, -1:] + 1  # (slots, 1)
        first = (uniforms[:, width:] * found).astype(np.int64)
        kept = usable & ((turn - first) % np.maximum(found, 1) < count)
        items = np.zeros((slots, count), np.int64)
        enough = found[:, 0] >= count
        items[enough] = drawn[kept & enough[:, None]].reshape(-1, count)
        short = np.flatnonzero(~enough)
        if len(short):
            # Rare in large catalogues: what was found, the most popular open items, closed ones.
            priority = self._rank + np.where(observed.open.masks(short), 0, self._n_items)
            at, where = np.nonzero(usable[short])
            priority[at, drawn[short][at, where]] -= 2 * self._n_items
            items[short] = np.argsort(priority, axis=1)[:, :count]
        return items

    def _find(self, points: NDArray[np.float64]) -> NDArray[np.int64]:
        """The item on which each point of the line lies, shape of points.

        A guide table (Chen and Asau, "On generating random variates from an empirical
        distribution", AIIE Transactions 1974) does what a binary search does in time that hardly
        grows with the catalogue.
        """
        wanted = points.ravel()
        place = self._guide.take((wanted * self._marks).astype(np.int64), mode="clip")
        found = self._line.take(place, axis=0, mode="clip")  # the last item ends at the width
        ahead = np.flatnonzero((_ends(found) <= wanted) & (place < self._n_items - 1))
        while len(ahead):
            place[ahead] += 1
            on = found[ahead] = self._line[place[ahead]]
            ahead = ahead[(_ends(on) <= wanted[ahead]) & (place[ahead] < self._n_items - 1)]
        return found[:, 1].reshape(points.shape)


def _ends(found: NDArray[np.int64]) -> NDArray[np.float64]:
    ends: NDArray[np.float64] = found.view(np.float64)[:, 0]
    return ends


def strata(
    popularity: NDArray[np.float64], draws: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Lay the items along a line, so that one point in each unit of it draws by popularity.

    An item's length is its probability to be drawn at all: in proportion to popularity, but at
    most 1 (Madow, "On the theory of systematic sampling, II", Annals of Mathematical Statistics
    1949). Items of length 1 come first, so that they fill their units; the order of the others
    is random, but fixed.

    Args:
        popularity: All above 0, shape (items,).
        draws: Units of the line, at most the number of items.

    Returns:
        The items in their order, shape (items,), and where each ends, likewise; the last at
        `draws`.
    """
    n_items = len(popularity)
    order = np.argsort(-popularity, kind="stable")
    shares = popularity[order]
    rest = shares[::-1].cumsum()[::-1]  # of this item and all less popular ones
    scale = (draws - np.arange(n_items)) / rest
    certain = int((scale * shares < 1).argmax()) if draws < n_items else n_items
    length = np.ones(n_items)
    if certain < n_items:
        length[certain:] = np.minimum(scale[certain] * shares[certain:], 1.0)
    shuffled = certain + np.random.default_rng(0).permutation(n_items - certain)
    places = np.concatenate([np.arange(certain), shuffled])
    below = length[places].cumsum()
    return order[places], below * (draws / below[-1])
