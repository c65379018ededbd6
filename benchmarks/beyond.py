"""What agents recommend beside what they earn, and for whom they earn it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audience.agents.evaluation import Evaluation
from audience.agents.measures import calibration, diversity, novelty, return_from
from audience.benchmarks.paired import BySeed, figures, returns_of
from audience.reward_models.histories import Histories
from audience.reward_models.rewards import unit_rows


@dataclass(frozen=True)
class Known:
    """What is known of a seed's items and test users, and no agent is asked for.

    Attributes:
        popularity: Share of each item among the fitting users' events, shape (items,).
        worth: Reward of each feedback level, shape (levels,).
        vectors: Of the items' texts, of norm 1 or 0, shape (items, dim); None where there are none.
        starts: The events that test users' sessions start from.
        events: Real events of each test user with items of the catalogue, by pseudonym.
    """

    popularity: NDArray[np.float64]
    worth: NDArray[np.float64]
    vectors: NDArray[np.floating] | None
    starts: Histories
    events: Mapping[str, int]

    @classmethod
    def of(cls, users: Any, test: Histories) -> Known:
        """Of a simulator, and the whole histories of its test users."""
        vectors = getattr(users, "text_vectors", None)
        if vectors is not None and vectors.any():
            vectors = unit_rows(vectors)
        else:
            vectors = None
        events = {f"test-{user}": int(count) for user, count in enumerate(test.lengths)}
        return cls(
            users.catalogue.popularity, users.scale.scaled, vectors, users.starts("test"), events
        )

    @property
    def rare(self) -> NDArray[np.bool_]:
        """The half of the catalogue with the fewest events, shape (items,)."""
        order = np.argsort(self.popularity, kind="stable")
        rare = np.zeros(len(order), np.bool_)
        rare[order[: len(order) // 2]] = True
        return rare


def beyond(sessions: Evaluation, known: Known) -> dict[str, float]:
    """`novelty` of test users' sessions; where there are texts, `diversity` and `calibration`."""
    shown = sessions.recommended.reshape(len(sessions.users), -1)
    found = {"novelty": novelty(shown, known.popularity)}
    if known.vectors is not None:
        profile = _profiles(known.starts, sessions.users)
        found["diversity"] = diversity(shown, known.vectors)
        found["calibration"] = calibration(shown, profile, known.vectors)
    return {name: value for name, value in found.items() if np.isfinite(value)}


def segments_of(
    worlds: Mapping[str, BySeed], known: Mapping[int, Known]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Returns by kind of user and item, `<segment>.<world>.return.{mean|low|high}`.

    Args:
        worlds: An agent's sessions with test users, by world and seed.
        known: By seed.

    Returns:
        `new_users` and `heavy_users`: the third of the test users with the fewest real events,
        and that with the most; `rare_items`: the part of the return that was earned with the half
        of the catalogue that has the fewest events.
    """
    events = {
        user: np.mean([one.events[user] for one in known.values() if user in one.events])
        for user in set().union(*(one.events for one in known.values()))
    }
    if not events:
        return {}
    few, many = np.quantile(list(events.values()), [1 / 3, 2 / 3])
    groups = {
        "new_users": [user for user, count in events.items() if count <= few],
        "heavy_users": [user for user, count in events.items() if count > many],
    }
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for world, by_seed in worlds.items():
        for name, users in groups.items():
            returns = returns_of([by_seed], users)
            if returns is not None:
                found.setdefault(name, {})[world] = {"return": figures(returns[0])}
        earned = returns_of([{seed: _of_rare(one, known[seed]) for seed, one in by_seed.items()}])
        if earned is not None:
            found.setdefault("rare_items", {})[world] = {"return": figures(earned[0])}
    return found


def _of_rare(sessions: Evaluation, known: Known) -> Evaluation:
    """The sessions, with what was earned with rare items as their return."""
    earned = return_from(known.rare, sessions.chosen, sessions.levels, known.worth)
    return dataclasses.replace(sessions, return_=earned)


def _profiles(starts: Histories, users: NDArray[np.str_]) -> NDArray[np.int64]:
    """The start events of each session's user, -1 in unused places, shape (sessions, events)."""
    items, _, lengths = starts.padded()
    items = np.where(np.arange(items.shape[1]) < lengths[:, None], items, -1)
    order = np.argsort(starts.users)
    return items[order[np.searchsorted(starts.users, users, sorter=order)]]
