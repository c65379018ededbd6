"""Environments of MovieLens users, which bring their own user model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from audience.envs.default_users import movielens_users
from audience.envs.single import RecommendEnv
from audience.envs.vector import RecommendVectorEnv
from audience.reward_models.users import UserModel


class MovieLensEnv(RecommendEnv):
    """`RecommendEnv` whose `users` are, by default, those fitted to MovieLens on first use."""

    def __init__(self, *, users: str | Path | UserModel | None = None, **settings: Any) -> None:
        super().__init__(users=movielens_users() if users is None else users, **settings)


class MovieLensVectorEnv(RecommendVectorEnv):
    """`RecommendVectorEnv` with the same default `users` as `MovieLensEnv`."""

    def __init__(
        self, num_envs: int = 1, *, users: str | Path | UserModel | None = None, **settings: Any
    ) -> None:
        super().__init__(num_envs, users=movielens_users() if users is None else users, **settings)
