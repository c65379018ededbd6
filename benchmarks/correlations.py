"""How far the worlds rank the agents alike."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from audience.agents.evaluation import LEVEL
from audience.benchmarks.paired import BySeed, resampled, returns_of

F64 = NDArray[np.float64]

LEAST = 3
"""Agents that a rank correlation needs."""


def rank_correlations(worlds: Mapping[str, Mapping[str, BySeed]]) -> dict[str, Any]:
    """The part `rank_correlation` of results.json.

    Args:
        worlds: By world and agent, sessions with test users.

    Returns:
        By pair of worlds `<one>_<other>`, what `rank_correlation` says of the agents that were in
        both, and of the users that they met in both.
    """
    found = {}
    for one, other in itertools.combinations(worlds, 2):
        agents = [name for name in worlds[one] if name in worlds[other]]
        held = [worlds[world][name] for world in (one, other) for name in agents]
        returns = returns_of(held) if len(agents) >= LEAST else None
        if returns is not None:
            by_agent = np.stack(returns)
            pair = by_agent[: len(agents)], by_agent[len(agents) :]
            found[f"{one}_{other}"] = rank_correlation(*pair)
    return found


def under_masks(seeds: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    """`simulator_replay_same_masks`: what `masked_values` said in each seed, correlated.

    Empty where a seed has none. Beside the correlations, `mean_absolute_error`: the mean distance
    of a policy's two values, in the log's unit.
    """
    held = [seed for seed in seeds if seed]
    if not held or len(held) < len(seeds):
        return {}
    names = [n for n in held[0]["values"] if all(n in seed["values"] for seed in held)]
    # Some seed's catalogue may lack items of a user, who then has too few events.
    shared = reduce(np.intersect1d, [seed["users"] for seed in held])
    if not len(shared):
        return {}
    rows = [np.isin(seed["users"], shared) for seed in held]
    pair = [
        np.array(
            [
                [
                    np.array(seed["values"][name][world])[row]
                    for seed, row in zip(held, rows, strict=True)
                ]
                for name in names
            ]
        )  # (policies, seeds, users)
        for world in (0, 1)
    ]
    error = np.abs(pair[0].mean((1, 2)) - pair[1].mean((1, 2))).mean()
    found = rank_correlation(*pair)
    return {"simulator_replay_same_masks": {**found, "mean_absolute_error": float(error)}}


def rank_correlation(first: F64, second: F64) -> dict[str, Any]:
    """Kendall's tau-b and Spearman's rank correlation of mean values in two worlds.

    Args:
        first: Values of each agent, seed and user in one world, shape (agents, seeds, users).
        second: In the other, the same users.

    Returns:
        `agents`, their number, and `{kendall|spearman}.{mean|low|high}`: of the means, with the
        interval over resamples of users and seeds, which are the same in both worlds. A figure
        is None where all agents are alike in one world.
    """
    means = [values.mean((1, 2))[None] for values in (first, second)]  # (1, agents)
    samples = [resampled(values).T for values in (first, second)]  # (resamples, agents)
    found: dict[str, Any] = {"agents": len(first)}
    for name, measure in (("kendall", _kendall), ("spearman", _spearman)):
        mean, drawn = measure(*means)[0], measure(*samples)
        drawn = drawn[np.isfinite(drawn)]
        if not np.isfinite(mean) or not len(drawn):
            found[name] = None
            continue
        low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        found[name] = {"mean": float(mean), "low": float(low), "high": float(high)}
    return found


def _kendall(first: F64, second: F64) -> F64:
    """Tau-b of each row, (rows, agents) to (rows,); NaN where one world ties all."""
    signs = [np.sign(values[:, :, None] - values[:, None]) for values in (first, second)]
    return _cosine(*(sign.reshape(len(sign), -1) for sign in signs))


def _spearman(first: F64, second: F64) -> F64:
    """Correlation of the ranks of each row, likewise; ties share their mean rank."""
    ranks = [rankdata(values, axis=1) for values in (first, second)]
    return _cosine(*(rank - rank.mean(1, keepdims=True) for rank in ranks))


def _cosine(first: F64, second: F64) -> F64:
    size = np.sqrt(np.square(first).sum(1) * np.square(second).sum(1))
    with np.errstate(invalid="ignore"):
        found: F64 = np.where(size > 0, (first * second).sum(1) / size, np.nan)
    return found
