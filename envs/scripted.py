"""Environments of scripted users, which need neither a log nor a fit."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from audience.envs.single import RecommendEnv
from audience.envs.vector import RecommendVectorEnv
from audience.reward_models.scripted import ScriptedUsers
from audience.reward_models.users import UserModel


@cache
def scripted_users() -> ScriptedUsers:
    """The default scripted users, shared by the environments of a process."""
    return ScriptedUsers()


class ScriptedEnv(RecommendEnv):
    """`RecommendEnv` whose `users` are, by default, `ScriptedUsers()`.

    Those bring their own choice, skip and leave: `acceptance`, `popularity_discount`,
    `leave_after_choice` and `leave_after_skip` change nothing.
    """

    def __init__(self, *, users: str | Path | UserModel | None = None, **settings: Any) -> None:
        super().__init__(users=scripted_users() if users is None else users, **settings)


class ScriptedVectorEnv(RecommendVectorEnv):
    """`RecommendVectorEnv` with the same default `users` as `ScriptedEnv`."""

    def __init__(
        self, num_envs: int = 1, *, users: str | Path | UserModel | None = None, **settings: Any
    ) -> None:
        super().__init__(num_envs, users=scripted_users() if users is None else users, **settings)
