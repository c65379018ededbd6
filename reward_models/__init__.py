"""The users: log, item text, behaviour model, fitting, rewards, quality.

Names are loaded when they are asked for, so that what needs no torch imports none.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audience.reward_models.behaviour import BehaviourModel
    from audience.reward_models.bert_users import BertUserModel
    from audience.reward_models.configuration import BehaviourConfig
    from audience.reward_models.errors import LogError, TextEncoderError, UserModelError
    from audience.reward_models.histories import Histories
    from audience.reward_models.log import InteractionLog
    from audience.reward_models.mixed import MixedUsers
    from audience.reward_models.replay import ReplayUsers
    from audience.reward_models.rewards import (
        ChoiceReward,
        DiversityReward,
        DwellReward,
        FeedbackReward,
        LikeReward,
        RepetitionPenalty,
        Reward,
        RewardContext,
        StayBonus,
        UncertaintyPenalty,
    )
    from audience.reward_models.text import BertTextEncoder
    from audience.reward_models.users import Assumptions, UserModel, load_users

_HOMES = {
    "Assumptions": "users",
    "BehaviourConfig": "configuration",
    "BehaviourModel": "behaviour",
    "BertTextEncoder": "text",
    "BertUserModel": "bert_users",
    "ChoiceReward": "rewards",
    "DiversityReward": "rewards",
    "DwellReward": "rewards",
    "FeedbackReward": "rewards",
    "Histories": "histories",
    "InteractionLog": "log",
    "LikeReward": "rewards",
    "LogError": "errors",
    "MixedUsers": "mixed",
    "RepetitionPenalty": "rewards",
    "ReplayUsers": "replay",
    "Reward": "rewards",
    "RewardContext": "rewards",
    "StayBonus": "rewards",
    "TextEncoderError": "errors",
    "UncertaintyPenalty": "rewards",
    "UserModel": "users",
    "UserModelError": "errors",
    "load_users": "users",
}

__all__ = [
    "Assumptions",
    "BehaviourConfig",
    "BehaviourModel",
    "BertTextEncoder",
    "BertUserModel",
    "ChoiceReward",
    "DiversityReward",
    "DwellReward",
    "FeedbackReward",
    "Histories",
    "InteractionLog",
    "LikeReward",
    "LogError",
    "MixedUsers",
    "RepetitionPenalty",
    "ReplayUsers",
    "Reward",
    "RewardContext",
    "StayBonus",
    "TextEncoderError",
    "UncertaintyPenalty",
    "UserModel",
    "UserModelError",
    "load_users",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
