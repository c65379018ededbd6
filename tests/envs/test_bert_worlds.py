"""What the environments promise, where a transformer answers: its sums hang on the batch."""

import pickle
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_sb3

from audience.envs import RecommendEnv, RecommendVectorEnv
from audience.reward_models.bert_users import BertUserModel

KINDS: list[dict[str, Any]] = [
    {},
    {"slate_size": 3, "mask_in_observation": True},
    {"candidates": 12},
    {"actions": "embedding", "embedding_dim": 4, "slate_size": 2},
    {"sessions_per_episode": 3, "pessimism": 0.5},
]


@pytest.fixture(params=KINDS, ids=lambda kind: "-".join(kind) or "plain")
def settings(request: pytest.FixtureRequest, planted_users: BertUserModel) -> dict[str, Any]:
    return {"users": planted_users, **request.param}


def test_both_checkers_are_silent(settings: dict[str, Any]) -> None:
    check_env(RecommendEnv(**settings), skip_render_check=True)
    check_env_sb3(RecommendEnv(**settings))


def test_copies_and_single_environments_live_the_same_50_steps(settings: dict[str, Any]) -> None:
    """Draws are the same exactly, probabilities to 1e-5, whatever the batch around them."""
    pair = [RecommendVectorEnv(5, **settings) for _ in range(2)]
    singles = [RecommendEnv(**settings) for _ in range(5)]
    seen = [env.reset(seed=7) for env in pair]
    for slot, env in enumerate(singles):
        env.reset(seed=7 + slot)
    pair[0].action_space.seed(1)
    resting, chosen, ended = np.zeros(5, np.bool_), 0, 0
    for _ in range(50):
        assert pickle.dumps(seen[0]) == pickle.dumps(seen[1])
        actions = pair[0].action_space.sample()
        stepped = [env.step(actions) for env in pair]
        seen = [(step[0], step[-1]) for step in stepped]
        _, _, terminated, truncated, info = stepped[0]
        for slot, env in enumerate(singles):
            if resting[slot]:
                env.reset()
                continue
            *_, ends, cut, own = env.step(actions[slot])
            assert (ends, cut) == (terminated[slot], truncated[slot])
            for key in ("user", "choice", "item", "level", "leave", "session"):
                assert own[key] == info[key][slot], key
            for key in ("accept_probability", "disagreement"):
                assert own[key] == pytest.approx(info[key][slot], abs=1e-5), key
            chosen += own["choice"] >= 0
        resting = terminated | truncated
        ended += int(resting.sum())
    assert chosen > 20 and ended > 5
