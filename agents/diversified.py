"""An agent's recommendations re-ranked, so that they are less alike."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from audience.agents.base import (
    Observation,
    allowed_choices,
    histories_of,
    top_items,
)
from audience.reward_models.rewards import unit_rows

SHORTLIST = 100
"""Items that are re-ranked, the agent's best: what it holds worse is not shown for variety."""

RECENT = 5
"""Last events that a recommendation is compared with, as in `RepetitionPenalty`."""


class Scorer(Protocol):
    """What is re-ranked: every `ScoringAgent`, and every trained policy as a `TrainedScorer`."""

    def scores(
        self, items: NDArray[np.int64], levels: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> NDArray[np.floating[Any]]:
        """See `ScoringAgent.scores`."""
        ...


class DiversifiedAgent:
    """Maximal marginal relevance (Carbonell & Goldstein, SIGIR 1998) over an agent's best items.

    The item at place r of the agent's n best, r from 0, is worth `1 - r / n`, whatever unit its
    scores have. `weight` times how near the item is to what went before is taken off: the mean
    cosine, 0 where negative, to the user's last RECENT events and to the places above it in the
    slate. With a weight of 0 the agent recommends what it did before.

    Args:
        scorer: The agent.
        vectors: Of the items' texts, shape (items, dim).
        weight: Of nearness, at least 0.
        slate_size: Items at a step.

    Raises:
        ValueError: The weight is negative, or the vectors are no numbers of this shape.
    """

    def __init__(
        self, scorer: Scorer, vectors: NDArray[np.floating], weight: float, slate_size: int = 1
    ) -> None:
        if not weight >= 0 or not np.isfinite(weight):
            raise ValueError(f"weight must be a finite number of at least 0, got {weight!r}")
        self.scorer, self.vectors, self.weight = scorer, unit_rows(vectors), weight
        self.slate_size = slate_size

    def predict(
        self,
        observation: Observation,
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
        action_masks: NDArray[Any] | None = None,
    ) -> tuple[NDArray[np.int64], Any]:
        """See `Agent.predict`; the agent's scores decide, not its draws."""
        del episode_start, deterministic
        items, levels, lengths = histories_of(observation)
        n_items = len(self.vectors)
        scores = np.asarray(self.scorer.scores(items, levels, lengths))
        allowed = allowed_choices(observation, items, lengths, n_items, action_masks)
        names = None
        if "candidates" in observation:
            names = np.atleast_2d(np.asarray(observation["candidates"], np.int64))
            scores = np.take_along_axis(scores, names, axis=1)
        best = top_items(scores, allowed, min(SHORTLIST, scores.shape[1]))  # (n, shortlist)
        shown = best if names is None else np.take_along_axis(names, best, axis=1)
        worth = np.where(
            np.take_along_axis(allowed, best, axis=1), 1 - np.arange(best.shape[1]) / SHORTLIST, -9
        )
        places = self._places(worth, *self._near(shown, items, lengths), self.vectors[shown])
        actions = np.take_along_axis(best, places, axis=1)
        if self.slate_size == 1:
            actions = actions[:, 0]
        return (actions if np.ndim(observation["item"]) == 2 else actions[0, ...]), state

    def _near(
        self, shown: NDArray[np.int64], items: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
        """Sum of the cosines to the last events, (n, shortlist), and how many these are, (n,)."""
        place = lengths[:, None] - 1 - np.arange(RECENT)
        events = self.vectors[np.take_along_axis(items, np.maximum(place, 0), axis=1)]
        near = np.maximum(self.vectors[shown] @ events.transpose(0, 2, 1), 0.0)
        used = place >= 0
        return (near * used[:, None]).sum(2), used.sum(1)

    def _places(
        self,
        worth: NDArray[np.floating],
        near: NDArray[np.floating],
        counted: NDArray[np.int64],
        vectors: NDArray[np.floating],
    ) -> NDArray[np.int64]:
        """Places in the shortlist of each slate's items, best first, shape (n, slate)."""
        rows, chosen = np.arange(len(worth)), []
        for above in range(self.slate_size):
            value = worth - self.weight * near / np.maximum(counted + above, 1)[:, None]
            place = value.argmax(1)
            chosen.append(place)
            worth = worth.copy()
            worth[rows, place] = -np.inf
            alike = np.einsum("nsd,nd->ns", vectors, vectors[rows, place])
            near = near + np.maximum(alike, 0.0)
        return np.stack(chosen, axis=1).astype(np.int64)
