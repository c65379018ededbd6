"""Going back to an earlier moment: the state of an environment as a dict of copies."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audience.envs.vector import RecommendVectorEnv

OWN = (
    "steps",
    "session",
    "clock",
    "user_names",
    "last_step",
    "candidates",
    "_finished",
    "_episode_parts",
    "_streams",
    "_observed",
    "_np_random",
    "_np_random_seed",
)
"""Attributes of an environment that change from step to step, beside its sessions."""


def state_of(env: RecommendVectorEnv) -> dict[str, Any]:
    """See `RecommendVectorEnv.get_state`."""
    sessions = env._sessions
    if not hasattr(sessions, "get_state"):
        raise TypeError(
            f"{type(sessions).__name__} cannot tell its state (it has no get_state and "
            f"set_state), so the environment can be neither saved nor copied while sessions run"
        )
    return {
        "of": _shape(env),
        "own": deepcopy({name: getattr(env, name) for name in OWN}),
        "sessions": sessions.get_state(),
    }


def restore(env: RecommendVectorEnv, state: dict[str, Any]) -> None:
    """See `RecommendVectorEnv.set_state`."""
    if not isinstance(state, dict) or set(state) != {"of", "own", "sessions"}:
        raise ValueError("state must be what get_state() of an environment gave")
    if state["of"] != _shape(env):
        raise ValueError(
            f"state must be that of an environment of the same settings, {_shape(env)}, got one "
            f"of {state['of']}"
        )
    sessions: Any = env._sessions
    sessions.set_state(state["sessions"])
    for name, value in deepcopy(state["own"]).items():
        setattr(env, name, value)


def _shape(env: RecommendVectorEnv) -> dict[str, int]:
    """What a state must have in common with the environment that it is put into."""
    return {
        "num_envs": env.num_envs,
        "slate_size": env.slate_size,
        "history_size": env.history_size,
        "items": len(env.users.catalogue),
        "candidates": 0 if env.candidates is None else env.candidates.items.shape[1],
    }
