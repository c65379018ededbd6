"""Policies valued on real feedback: picks among the items whose feedback is known.

There is no choice and no leave: a policy picks an item, and the feedback on it becomes history.
In the truth it is the real feedback, in the simulator what the user model draws, valued by its
expectation; both worlds have the same users, items and masks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from audience.agents.base import Agent, Observation, histories_of
from audience.reward_models.histories import Histories
from audience.reward_models.scale import FeedbackScale
from audience.reward_models.users import START_EVENTS

F64 = NDArray[np.float64]

PICKS = 10
"""Of each user; at most half of the user's items, for all policies tie when all are taken."""

POOL = 100
"""Items that a user's picks are made among, drawn where more are known: a bound on the work."""

LONG, SHORT = 48, 18
"""Events of users who are replayed: 4 times the picks beside the start; where nobody has as
many, twice."""

CHUNK = 256
"""Users whose feedback is predicted together."""


class FeedbackUsers(Protocol):
    """A user model that can say what feedback it expects."""

    def feedback(self, histories: Histories, items: NDArray[np.int64]) -> NDArray[np.floating]:
        """Probability of each level for items asked after a history: (n, q) to (n, q, levels)."""
        ...


@dataclass(frozen=True)
class Pools:
    """Users, what is known of them, and the items with known feedback to pick from.

    Attributes:
        histories: Events before the first pick.
        rows: User of each pool item, ascending, shape (rows,).
        items: Catalogue index of each pool item, shape (rows,).
        levels: Its real feedback level, shape (rows,).
        values: Its real feedback in the log's unit, shape (rows,).
    """

    histories: Histories
    rows: NDArray[np.int64]
    items: NDArray[np.int64]
    levels: NDArray[np.int64]
    values: F64

    @classmethod
    def of(
        cls,
        histories: Histories,
        rows: NDArray[np.int64],
        items: NDArray[np.int64],
        levels: NDArray[np.int64],
        values: F64,
        seed: int,
    ) -> Pools:
        """Pools of users with at least two items, of at most POOL items drawn by the seed."""
        order = np.lexsort((np.random.default_rng(seed).random(len(rows)), rows))
        counts = np.bincount(rows, minlength=len(histories))
        place = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        users = np.flatnonzero(counts >= 2)
        kept = order[(place < POOL) & (counts >= 2)[rows[order]]]
        return cls(
            histories.take(users),
            np.searchsorted(users, rows[kept]),
            items[kept],
            levels[kept],
            values[kept],
        )

    @classmethod
    def replay(cls, histories: Histories, values: F64, seed: int) -> Pools:
        """The first START_EVENTS events of whole histories shown, the rest to pick from.

        Raises:
            ValueError: No user has SHORT events.
        """
        least = LONG if (histories.lengths >= LONG).any() else SHORT
        users = np.flatnonzero(histories.lengths >= least)
        if not len(users):
            raise ValueError(
                f"a replay needs test users with at least {SHORT} events, but the longest of "
                f"{len(histories)} has {histories.lengths.max(initial=0)}; give a log with more "
                f"events a user, or --truth"
            )
        rows = np.repeat(np.arange(len(histories)), histories.lengths)
        late = np.arange(len(rows)) - histories.offsets[rows] >= START_EVENTS
        kept = late & np.isin(rows, users)
        return cls.of(
            histories.take(users).first(START_EVENTS),
            np.searchsorted(users, rows[kept]),
            histories.items[kept],
            histories.levels[kept],
            values[kept],
            seed,
        )

    @property
    def picks(self) -> NDArray[np.int64]:
        """Picks of each user, shape (users,)."""
        return np.minimum(PICKS, np.bincount(self.rows, minlength=len(self.histories)) // 2)


Rows = NDArray[np.int64]
Respond = Callable[[Rows, Histories, Rows, F64], tuple[Rows, F64]]
"""Level and value of one item for each of some users, given their rows in the pools, histories,
items, and the uniforms that decide what is drawn."""


def values_by_user(
    policy: Agent,
    pools: Pools,
    world: Literal["simulator", "truth"],
    users: FeedbackUsers,
    scale: FeedbackScale,
    n_items: int,
    seed: int,
) -> F64:
    """Mean value of each user's picks, shape (users,).

    Args:
        policy: Who picks.
        pools: What there is to pick.
        world: Whose feedback counts.
        users: The simulator.
        scale: Its levels.
        n_items: Size of the catalogue.
        seed: Of the simulator's draws.
    """
    respond = _real(pools, n_items) if world == "truth" else _simulated(users, scale)
    n, picks = len(pools.histories), pools.picks
    rng = np.random.default_rng(seed)
    items, levels, lengths = pools.histories.padded(int(pools.histories.lengths.max()) + PICKS)
    open_ = np.zeros((n, n_items), np.bool_)
    open_[pools.rows, pools.items] = True
    total, state = np.zeros(n), None
    for step in range(PICKS):
        # Who is done goes on with the last pick's mask, and what is picked then counts for nothing.
        active = picks > step
        observation: Observation = {
            "item": items,
            "feedback": levels,
            "length": lengths[:, None],
            "mask": open_,
        }
        picked, state = policy.predict(
            observation, state=state, episode_start=np.full(n, step == 0), deterministic=True
        )
        own = np.flatnonzero(active)
        item = np.asarray(picked)[own]
        before = Histories.from_padded(items[own], levels[own], lengths[own])
        level, value = respond(own, before, item, rng.random(n)[own])
        total[own] += value
        items[own, lengths[own]], levels[own, lengths[own]] = item, level
        lengths[own] += 1
        open_[own, item] = False
    return total / picks


class ModelFeedbackAgent:
    """Picks what the user model expects the best feedback on; for small pools.

    Args:
        users: The user model.
        scale: Its levels.
    """

    def __init__(self, users: FeedbackUsers, scale: FeedbackScale) -> None:
        self.users, self.scale = users, scale

    def predict(
        self,
        observation: Observation,
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
        action_masks: NDArray[Any] | None = None,
    ) -> tuple[NDArray[np.int64], Any]:
        """See `Agent.predict`; a batch, whose `mask` opens few items."""
        del episode_start, deterministic, action_masks
        histories = Histories.from_padded(*histories_of(observation))
        open_ = np.asarray(observation["mask"], bool)
        counts = open_.sum(axis=1)
        used = np.arange(int(counts.max())) < counts[:, None]  # (n, most open items)
        asked = np.zeros(used.shape, np.int64)
        asked[used] = np.nonzero(open_)[1]
        expected = predicted(self.users, histories, asked) @ np.array(self.scale.values)
        best = np.where(used, expected, -np.inf).argmax(axis=1)
        return asked[np.arange(len(asked)), best], state


def predicted(users: FeedbackUsers, histories: Histories, items: Rows) -> F64:
    """Probability of each level, (n, q) to (n, q, levels), some users at a time."""
    parts = [
        np.asarray(
            users.feedback(histories.take(np.arange(at, min(at + CHUNK, len(items)))), part),
            np.float64,
        )
        for at in range(0, len(items), CHUNK)
        for part in [items[at : at + CHUNK]]
    ]
    return np.concatenate(parts)


def _real(pools: Pools, n_items: int) -> Respond:
    keys = pools.rows * n_items + pools.items
    order = np.argsort(keys)

    def respond(rows: Rows, histories: Histories, items: Rows, uniforms: F64) -> tuple[Rows, F64]:
        at = order[np.searchsorted(keys[order], rows * n_items + items)]
        return pools.levels[at], pools.values[at]

    return respond


def _simulated(users: FeedbackUsers, scale: FeedbackScale) -> Respond:
    def respond(rows: Rows, histories: Histories, items: Rows, uniforms: F64) -> tuple[Rows, F64]:
        shares = predicted(users, histories, items[:, None])[:, 0]  # (n, levels)
        level = (shares.cumsum(axis=1)[:, :-1] <= uniforms[:, None]).sum(axis=1)
        return level, shares @ np.array(scale.values)

    return respond
