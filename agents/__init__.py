"""Who recommends: RL policies and their training, and the baselines to beat.

Everything here is anything with `predict` (`Agent`). What needs torch is imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audience.agents.base import Agent, ScoringAgent
    from audience.agents.baselines import (
        ALSAgent,
        EASEAgent,
        MeanFeedbackAgent,
        PopularityAgent,
        RandomAgent,
    )
    from audience.agents.callbacks import EvaluationCallback, UsersCallback
    from audience.agents.distribution import PlackettLuceDistribution
    from audience.agents.evaluation import Evaluation, evaluate
    from audience.agents.greedy import GreedyAgent
    from audience.agents.policies import ItemScoringPolicy
    from audience.agents.training import PPO_DEFAULTS, TrainSettings, train
    from audience.agents.vec_env import SB3VecEnv, make_sb3_env

__all__ = [
    "PPO_DEFAULTS",
    "ALSAgent",
    "Agent",
    "EASEAgent",
    "Evaluation",
    "EvaluationCallback",
    "GreedyAgent",
    "ItemScoringPolicy",
    "MeanFeedbackAgent",
    "PlackettLuceDistribution",
    "PopularityAgent",
    "RandomAgent",
    "SB3VecEnv",
    "ScoringAgent",
    "TrainSettings",
    "UsersCallback",
    "evaluate",
    "make_sb3_env",
    "train",
]

_HOMES = {
    "Agent": "base",
    "ScoringAgent": "base",
    "ALSAgent": "baselines",
    "EASEAgent": "baselines",
    "MeanFeedbackAgent": "baselines",
    "PopularityAgent": "baselines",
    "RandomAgent": "baselines",
    "EvaluationCallback": "callbacks",
    "UsersCallback": "callbacks",
    "PlackettLuceDistribution": "distribution",
    "Evaluation": "evaluation",
    "evaluate": "evaluation",
    "GreedyAgent": "greedy",
    "ItemScoringPolicy": "policies",
    "PPO_DEFAULTS": "training",
    "TrainSettings": "training",
    "train": "training",
    "SB3VecEnv": "vec_env",
    "make_sb3_env": "vec_env",
}
"""Module of each name."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
