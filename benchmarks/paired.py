"""Returns of the same users under the same draws, and bootstrap intervals of their means."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import trim_mean

from audience.agents.evaluation import LEVEL, RESAMPLES, Evaluation

F64 = NDArray[np.float64]
BySeed = Mapping[int, Evaluation]
"""The sessions of one agent in one world, by seed."""


def returns_of(
    held: Sequence[BySeed],
    users: Collection[str] | None = None,
) -> list[F64] | None:
    """Mean return of each user in each seed, for each of several agents or worlds.

    Users and seeds are those that all of them have met: rare users have no event with an item of
    some seed's catalogue, and no session there; a replay has fewer users than a simulator.

    Args:
        held: Sessions of each.
        users: Pseudonyms of the users that count; by default all.

    Returns:
        Of each, shape (seeds, users); None where they share no seed or no user.
    """
    seeds = sorted(set.intersection(*(set(by_seed) for by_seed in held)))
    if not seeds:
        return None
    names = [one[seed].users[: one[seed].n_users] for one in held for seed in seeds]
    shared = reduce(np.intersect1d, names)
    if users is not None:
        shared = np.intersect1d(shared, np.array(sorted(users), np.str_))
    if not len(shared):
        return None
    return [np.stack([_of_users(one[seed], shared) for seed in seeds]) for one in held]


def interval(values: F64, seed: int = 0) -> dict[str, float]:
    """95 % bootstrap interval of the mean over users and seeds, both resampled.

    Args:
        values: Shape (seeds, users); one seed is not resampled.
        seed: Of the resamples, the same users for all agents.

    Returns:
        `low` and `high`.
    """
    low, high = np.quantile(resampled(values, seed), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {"low": float(low), "high": float(high)}


def resampled(values: F64, seed: int = 0) -> F64:
    """Means over resamples of users and seeds, (..., seeds, users) to (..., RESAMPLES)."""
    rng = np.random.default_rng(seed)
    n_seeds, n_users = values.shape[-2:]
    # How often each is drawn is multinomial: two matrix products give all the means.
    users = rng.multinomial(n_users, np.full(n_users, 1 / n_users), RESAMPLES) / n_users
    seeds = (
        rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), RESAMPLES) / n_seeds
        if n_seeds > 1
        else np.ones((RESAMPLES, 1))
    )
    means: F64 = ((seeds @ values) * users).sum(-1)
    return means


def figures(values: F64) -> dict[str, float]:
    """`mean`, `low` and `high` of values of shape (seeds, users)."""
    return {"mean": float(values.mean()), **interval(values)}


def return_figures(by_seed: BySeed) -> dict[str, Any]:
    """`{mean|iqm|low|high|per_seed}` of an agent's return in a world."""
    found = returns_of([by_seed])
    assert found is not None  # a population has users
    returns = found[0]
    return {
        "mean": float(returns.mean()),
        "iqm": float(trim_mean(returns.ravel(), 0.25)),
        **interval(returns),
        "per_seed": returns.mean(1).tolist(),
    }


def difference(
    ours: BySeed, theirs: BySeed, users: Collection[str] | None = None
) -> dict[str, float] | None:
    """Mean paired difference of returns, with its interval."""
    found = returns_of([ours, theirs], users)
    return None if found is None else figures(found[0] - found[1])


def _of_users(sessions: Evaluation, users: NDArray[np.str_]) -> F64:
    """Mean return of each of these users, shape (users,)."""
    names = sessions.users[: sessions.n_users]
    order = np.argsort(names)
    place = order[np.searchsorted(names, users, sorter=order)]
    return sessions.user_returns()[place]
