"""Environments of real users, whose real feedback is replayed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from audience.envs.single import RecommendEnv
from audience.envs.vector import RecommendVectorEnv
from audience.reward_models.replay import PICKS, ReplayUsers
from audience.reward_models.users import UserModel

if TYPE_CHECKING:
    from audience.reward_models.log import InteractionLog


class ReplayEnv(RecommendEnv):
    """`RecommendEnv` over real users: no model is in the loop.

    The users are those of a log with at least `REPLAY_EVENTS` events. The first 8 are shown;
    then come 10 steps, at each of which one of the items that this user really rated is
    recommended, and answered with the real feedback. The mask opens just these items, less those
    shown; any other is shown but not chosen. Nothing is ever declined otherwise, nobody leaves,
    and draws decide nothing but who comes.

    Args:
        log: Name of a log, or an `InteractionLog`.
        half: Whose split decides who is a fitting and who a validation user: that of a fit on
            "a" or "b", or on all (None).
        seed: Of the split, as given to the fit.
        users: `ReplayUsers` in place of the three before.
        step_limit: Items recommended to each user.
        **settings: Further settings of `RecommendEnv`, among them `population`. What is assumed
            of simulated users changes nothing.
    """

    def __init__(
        self,
        *,
        log: str | InteractionLog = "movielens",
        half: Literal["a", "b"] | None = None,
        seed: int = 0,
        users: str | Path | UserModel | None = None,
        step_limit: int = PICKS,
        **settings: Any,
    ) -> None:
        found = ReplayUsers.of(log, half, seed) if users is None else users
        super().__init__(users=found, step_limit=step_limit, **settings)


class ReplayVectorEnv(RecommendVectorEnv):
    """`RecommendVectorEnv` with the users and settings of `ReplayEnv`."""

    def __init__(
        self,
        num_envs: int = 1,
        *,
        log: str | InteractionLog = "movielens",
        half: Literal["a", "b"] | None = None,
        seed: int = 0,
        users: str | Path | UserModel | None = None,
        step_limit: int = PICKS,
        **settings: Any,
    ) -> None:
        found = ReplayUsers.of(log, half, seed) if users is None else users
        super().__init__(num_envs, users=found, step_limit=step_limit, **settings)
