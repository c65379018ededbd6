"""The parts of an environment that its settings choose: actions, candidates, reward, repeats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audience.envs.actions import (
    ACTION_KINDS,
    ActionKind,
    EmbeddingActions,
    IndexActions,
    reduced,
)
from audience.envs.candidates import CANDIDATES, LARGE, Candidates, Generator
from audience.envs.checks import one_of, whole
from audience.reward_models.rewards import (
    FeedbackReward,
    RewardContext,
    RewardFunction,
    UncertaintyPenalty,
)
from audience.reward_models.users import Response, UserModel


def checked_repeats(repeats: str, users: UserModel) -> str:
    """The setting, where it is what the users do."""
    one_of("repeats", repeats, ("never", "allowed"))
    allowed = bool(getattr(users, "allows_repeats", False))
    if allowed != (repeats == "allowed"):
        raise ValueError(
            f"repeats must be {'allowed' if allowed else 'never'!r} with these users, who "
            f"{'choose' if allowed else 'never choose'} consumed items again, got {repeats!r}"
        )
    return repeats


def new_candidates(
    count: int | None,
    generator: Generator | None,
    users: UserModel,
    num_envs: int,
    slate_size: int,
) -> Candidates | None:
    """The candidates, where the settings or the size of the catalogue ask for them."""
    n_items = len(users.catalogue)
    if generator is not None and not callable(generator):
        raise TypeError(f"candidate_generator must be callable, got {generator!r}")
    if count is None:
        if n_items <= LARGE and generator is None:
            return None
        count = min(CANDIDATES, n_items)
    whole("candidates", count, slate_size, n_items)
    return Candidates(num_envs, count, users.catalogue.popularity, generator)


def new_actions(
    kind: ActionKind,
    slate_size: int,
    n_choices: int,
    among_candidates: bool,
    dim: int,
    find_vectors: Callable[[], NDArray[np.float32] | None],
) -> IndexActions | EmbeddingActions:
    """The kind of actions asked for.

    Args:
        kind: As the environment has it.
        slate_size: Items of a slate.
        n_choices: Items, or candidates, to index.
        among_candidates: Which of the two.
        dim: Most dimensions of an embedding.
        find_vectors: Gives the items' vectors, shape (items, any width).
    """
    one_of("actions", kind, ACTION_KINDS)
    if kind == "embedding":
        vectors = find_vectors()
        if vectors is None:
            raise ValueError(
                "actions must be 'index', for 'embedding' looks items up by their vectors, but "
                "the users have no text_vectors: pass item_vectors of shape (items, dim); got "
                "'embedding'"
            )
        return EmbeddingActions(reduced(vectors, dim), slate_size)
    if among_candidates:
        return IndexActions(n_choices, slate_size, "places among the candidates")
    return IndexActions(n_choices, slate_size)


def checked_reward(
    reward: RewardFunction | None, pessimism: float, context: RewardContext
) -> RewardFunction:
    """The reward with its penalty, where it can answer a step at which nothing was chosen.

    Args:
        reward: As the environment has it.
        pessimism: Likewise.
        context: Of such a step.
    """
    if reward is not None and not callable(reward):
        raise TypeError(
            f"reward must be callable with (response, context), such as FeedbackReward(), got "
            f"{reward!r}"
        )
    own: RewardFunction = FeedbackReward() if reward is None else reward
    slots = len(context.slates)
    nothing, none = np.full(slots, -1, np.int64), np.zeros(slots)
    response = Response(nothing, nothing, nothing, none > 0, none, none + np.nan, none)
    parts: Any = own(response, context)
    wrong: dict[Any, Any] = {"": parts}
    if isinstance(parts, dict):
        wrong = {name: part for name, part in parts.items() if np.shape(part) != (slots,)}
    for name, part in wrong.items():
        raise ValueError(
            f"reward must give a dict of named arrays of shape ({slots},), got {name!r}: {part!r}"
        )
    return own + UncertaintyPenalty(pessimism) if pessimism else own
