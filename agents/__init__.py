"""Who recommends: RL policies and their training, and the baselines to beat.

Everything here is anything with `predict` (`Agent`). What needs torch is imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audience.agents.algorithms import PPO_DEFAULTS
    from audience.agents.base import Agent, ScoringAgent
    from audience.agents.baselines import (
        BASELINES,
        ALSAgent,
        BPRAgent,
        EASEAgent,
        EASEFeedbackAgent,
        ExplicitALSAgent,
        FollowersAgent,
        ItemKNNAgent,
        LinUCBAgent,
        MeanFeedbackAgent,
        PopularityAgent,
        RandomAgent,
        TextKNNAgent,
        ThompsonAgent,
        UserKNNAgent,
    )
    from audience.agents.callbacks import UsersCallback
    from audience.agents.distribution import PlackettLuceDistribution
    from audience.agents.diversified import DiversifiedAgent
    from audience.agents.evaluation import Evaluation, evaluate
    from audience.agents.greedy import ChoiceAgent, GreedyAgent
    from audience.agents.policies import ItemScoringPolicy
    from audience.agents.recommender import Recommendations, Recommender
    from audience.agents.saving import load_agent, save_agent
    from audience.agents.training import train
    from audience.agents.training_settings import TrainSettings
    from audience.agents.vec_env import SB3VecEnv, make_sb3_env
    from audience.agents.watching import EvaluationCallback

__all__ = [
    "BASELINES",
    "PPO_DEFAULTS",
    "ALSAgent",
    "Agent",
    "BPRAgent",
    "ChoiceAgent",
    "DiversifiedAgent",
    "EASEAgent",
    "EASEFeedbackAgent",
    "Evaluation",
    "EvaluationCallback",
    "ExplicitALSAgent",
    "FollowersAgent",
    "GreedyAgent",
    "ItemKNNAgent",
    "ItemScoringPolicy",
    "LinUCBAgent",
    "MeanFeedbackAgent",
    "PlackettLuceDistribution",
    "PopularityAgent",
    "RandomAgent",
    "Recommendations",
    "Recommender",
    "SB3VecEnv",
    "ScoringAgent",
    "TextKNNAgent",
    "ThompsonAgent",
    "TrainSettings",
    "UserKNNAgent",
    "UsersCallback",
    "evaluate",
    "load_agent",
    "make_sb3_env",
    "save_agent",
    "train",
]

_HOMES = {
    "Agent": "base",
    "ScoringAgent": "base",
    "ALSAgent": "baselines",
    "EASEAgent": "baselines",
    "BASELINES": "baselines",
    "BPRAgent": "baselines",
    "ChoiceAgent": "greedy",
    "EASEFeedbackAgent": "baselines",
    "ExplicitALSAgent": "baselines",
    "FollowersAgent": "baselines",
    "ItemKNNAgent": "baselines",
    "LinUCBAgent": "baselines",
    "TextKNNAgent": "baselines",
    "ThompsonAgent": "baselines",
    "UserKNNAgent": "baselines",
    "MeanFeedbackAgent": "baselines",
    "PopularityAgent": "baselines",
    "RandomAgent": "baselines",
    "EvaluationCallback": "watching",
    "UsersCallback": "callbacks",
    "PlackettLuceDistribution": "distribution",
    "DiversifiedAgent": "diversified",
    "Evaluation": "evaluation",
    "evaluate": "evaluation",
    "GreedyAgent": "greedy",
    "ItemScoringPolicy": "policies",
    "Recommendations": "recommender",
    "Recommender": "recommender",
    "load_agent": "saving",
    "save_agent": "saving",
    "PPO_DEFAULTS": "algorithms",
    "TrainSettings": "training_settings",
    "train": "training",
    "SB3VecEnv": "vec_env",
    "make_sb3_env": "vec_env",
}
"""Module of each name."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
