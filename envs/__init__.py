"""Gymnasium environments around a user model. Importing this registers their ids.

`audience/Recommend-v0` takes any `users`; `audience/MovieLens-v0` (one item a step) and
`audience/MovieLensSlate-v0` (slates of 10) bring users fitted to MovieLens. All take the
settings of `RecommendVectorEnv`. `audience/Scripted-v0` brings closed-form users whose best
policy is known, without a fit; `audience/Replay-v0` real users of a log, whose real feedback is
the response. torch is first imported when a learned user model is loaded.
"""

from __future__ import annotations

from typing import Any

from gymnasium.envs.registration import register

from audience.envs.flat import FlatHistory, FlatHistoryVector
from audience.envs.single import RecommendEnv
from audience.envs.vector import RecommendVectorEnv

__all__ = ["FlatHistory", "FlatHistoryVector", "RecommendEnv", "RecommendVectorEnv"]


def _register(name: str, module: str, single: str, vector: str, **settings: Any) -> None:
    # The step limit is a setting of our own: one registered here would reach the vector
    # constructor as an argument that it does not know.
    register(
        id=f"audience/{name}-v0",
        entry_point=f"audience.envs{module}:{single}",
        vector_entry_point=f"audience.envs{module}:{vector}",
        kwargs=settings,
    )


_register("Recommend", "", "RecommendEnv", "RecommendVectorEnv")
_register("MovieLens", ".movielens", "MovieLensEnv", "MovieLensVectorEnv")
_register("MovieLensSlate", ".movielens", "MovieLensEnv", "MovieLensVectorEnv", slate_size=10)
_register("Scripted", ".scripted", "ScriptedEnv", "ScriptedVectorEnv")
_register("Replay", ".replay", "ReplayEnv", "ReplayVectorEnv")
