"""A baseline must be the best of itself: its settings are chosen on validation users.

By their return in the simulator where there is one, as RL agents learn there and with no more
user-steps than they have; else by how well they rank what validation users met besides.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from audience.agents.base import ScoringAgent, top_items
from audience.reward_models.catalogue import Catalogue
from audience.reward_models.histories import Histories
from audience.reward_models.scale import FeedbackScale

if TYPE_CHECKING:
    from audience.agents.trials import Trials

CUTOFF = 10
"""Ranks that count: NDCG@10."""


class TunedAgent(ScoringAgent):
    """An agent with settings to choose. `tuning` holds what each cell that was tried gave."""

    GRID: ClassVar[dict[str, tuple[Any, ...]]]
    """Values of each setting to try, all combinations: arguments of `fit`."""

    SCORING: ClassVar[frozenset[str]] = frozenset()
    """Settings that only scoring reads, as arguments of the constructor: they need no fit."""

    USES_TEXT: ClassVar[bool] = False
    """Whether `fit` takes `text_vectors`, shape (items, dim)."""

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
        trials: Trials | None = None,
        **given: Any,
    ) -> Self:
        """Fit every cell of `GRID`; keep the one of the highest return, or NDCG@10.

        Args:
            histories: Of the fitting users.
            validation: Whole histories of users who are not among them.
            catalogue: Of the items.
            scale: Of the feedback.
            slate_size: Items at a step.
            seed: Of the random halves, the same for every cell.
            trials: The simulator to try the cells in. Without one, or with a grid of a single
                cell, the ranking of validation users' other half decides.
            **given: Further arguments of `fit`, such as `text_vectors`.

        Raises:
            ValueError: No validation user has two different items.
        """
        context, target = halves(validation, len(catalogue), seed)
        agents: list[Self] = []
        for settings, agent in cls._cells(histories, catalogue, scale, slate_size, given):
            agent.settings = settings
            agents.append(agent)
        table: list[dict[str, Any]] = [
            {**agent.settings, f"ndcg@{CUTOFF}": ndcg(agent, context, target)} for agent in agents
        ]
        if trials is not None and len(agents) > 1:
            for row, found in zip(table, trials.race(agents), strict=True):
                row.update(found)
            order = [(row["sessions"], row["return"]) for row in table]
        else:
            order = [(0, row[f"ndcg@{CUTOFF}"]) for row in table]
        best = agents[max(range(len(order)), key=lambda cell: (*order[cell], -cell))]
        made = cls(**best.parameters())  # its own draws, if it has any, begin anew
        made.settings, made.tuning = best.settings, table
        return made

    @classmethod
    def _cells(
        cls,
        histories: Histories,
        catalogue: Catalogue,
        scale: FeedbackScale,
        slate_size: int,
        given: dict[str, Any],
    ) -> list[tuple[dict[str, Any], Self]]:
        """Settings and agent of every cell; one fit for cells that only score differently."""
        fitted = {k: v for k, v in cls.GRID.items() if k not in cls.SCORING}
        scoring = {k: v for k, v in cls.GRID.items() if k in cls.SCORING}
        cells = []
        for values in itertools.product(*fitted.values()):
            settings = dict(zip(fitted, values, strict=True))
            agent = cls.fit(histories, catalogue, scale, slate_size, **settings, **given)
            for others in itertools.product(*scoring.values()):
                chosen = dict(zip(scoring, others, strict=True))
                cells.append((settings | chosen, cls(**(agent.parameters() | chosen))))
        return cells


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
