"""A baseline must be the best of itself: its settings are chosen on validation users."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from audience.agents.base import ScoringAgent, top_items
from audience.reward_models.catalogue import Catalogue
from audience.reward_models.histories import Histories
from audience.reward_models.scale import FeedbackScale

CUTOFF = 10
"""Ranks that count: NDCG@10."""


class TunedAgent(ScoringAgent):
    """An agent with settings to choose. `tuning` holds the NDCG@10 of each cell that was tried."""

    GRID: ClassVar[dict[str, tuple[Any, ...]]]
    """Values of each argument of `fit` to try, all combinations."""

    settings: dict[str, Any]
    tuning: list[dict[str, Any]]

    @classmethod
    @abstractmethod
    def fit(
        cls,
        histories: Histories,
        catalogue: Catalogue,
        scale: FeedbackScale,
        slate_size: int = 1,
    ) -> Self:
        """Fit to the histories of the fitting users; the settings are further arguments."""

    @classmethod
    def tune(
        cls,
        histories: Histories,
        validation: Histories,
        catalogue: Catalogue,
        scale: FeedbackScale,
        slate_size: int = 1,
        seed: int = 0,
    ) -> Self:
        """Fit every cell of `GRID`; keep the one that ranks validation users' other half best.

        Args:
            histories: Of the fitting users.
            validation: Whole histories of users who are not among them.
            catalogue: Of the items.
            scale: Of the feedback.
            slate_size: Items at a step.
            seed: Of the random halves, the same for every cell.

        Raises:
            ValueError: No validation user has two different items.
        """
        context, target = halves(validation, len(catalogue), seed)
        best: Self | None = None
        table: list[dict[str, Any]] = []
        for cell in itertools.product(*cls.GRID.values()):
            settings = dict(zip(cls.GRID, cell, strict=True))
            agent = cls.fit(histories, catalogue, scale, slate_size, **settings)
            agent.settings = settings
            table.append({**settings, f"ndcg@{CUTOFF}": ndcg(agent, context, target)})
            if table[-1][f"ndcg@{CUTOFF}"] >= max(row[f"ndcg@{CUTOFF}"] for row in table):
                best = agent
        assert best is not None
        best.tuning = table
        return best


def halves(histories: Histories, n_items: int, seed: int) -> tuple[Histories, NDArray[np.bool_]]:
    """A random half of each user's items as context, and the other half as targets.

    Users with fewer than two different items are left out.

    Returns:
        The context's events in their old order, and the targets, shape (users, n_items).

    Raises:
        ValueError: No user is left.
    """
    owner = np.repeat(np.arange(len(histories)), histories.lengths)
    # One random number a (user, item): all events with an item fall on the same side.
    pairs, pair = np.unique(owner * n_items + histories.items, return_inverse=True)
    pair_owner = pairs // n_items
    order = np.lexsort((np.random.default_rng(seed).random(len(pairs)), pair_owner))
    items = np.bincount(pair_owner, minlength=len(histories))
    place = np.empty(len(pairs), np.int64)
    place[order] = np.arange(len(pairs)) - np.repeat(np.cumsum(items) - items, items)
    in_context = place < (items // 2)[pair_owner]
    target = np.zeros((len(histories), n_items), np.bool_)
    target[pair_owner[~in_context], pairs[~in_context] % n_items] = True
    keep = in_context[pair]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owner[keep], minlength=len(histories)))])
    context = Histories(
        histories.users, offsets.astype(np.int64), histories.items[keep], histories.levels[keep]
    )
    usable = np.flatnonzero(items >= 2)
    if not len(usable):
        raise ValueError(
            f"validation must hold a user with at least two different items of the catalogue, "
            f"got {len(histories)} users without; give more users, or lower min_events"
        )
    return context.take(usable), target[usable]


def ndcg(agent: ScoringAgent, context: Histories, target: NDArray[np.bool_]) -> float:
    """Mean NDCG@10 of the agent's full ranking, the context's items left out.

    Args:
        agent: Its slate size does not matter.
        context: What the agent sees of each user.
        target: What each user has besides, shape (users, items); at least one a user.
    """
    items, levels, lengths = context.padded()
    consumed = np.zeros(target.shape, np.bool_)
    consumed[np.repeat(np.arange(len(context)), context.lengths), context.items] = True
    cutoff = min(CUTOFF, target.shape[1])
    ranked = top_items(agent.scores(items, levels, lengths), ~consumed, cutoff)
    gain = 1 / np.log2(np.arange(cutoff) + 2)
    found = (np.take_along_axis(target, ranked, 1) * gain).sum(1)
    ideal = np.cumsum(gain)[np.minimum(target.sum(1), cutoff) - 1]
    return float((found / ideal).mean())
