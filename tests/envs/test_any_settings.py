"""Random configurations, random legal and illegal actions: a clear error or a valid step."""

import re
from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from audience.envs import RecommendVectorEnv
from audience.reward_models.rewards import (
    ChoiceReward,
    DiversityReward,
    DwellReward,
    FeedbackReward,
    LikeReward,
    RepetitionPenalty,
    StayBonus,
)
from audience.reward_models.scripted import ScriptedUsers

REWARDS = [
    None,
    FeedbackReward() + 0.3 * LikeReward() + DwellReward(),
    StayBonus() + ChoiceReward() * -1,
    DiversityReward() + RepetitionPenalty(3),
]

CONFIGURATIONS = st.fixed_dictionaries(
    {
        "num_envs": st.integers(0, 5),
        "slate_size": st.integers(0, 12),
        "step_limit": st.integers(0, 12),
        "start": st.integers(0, 9),
        "history_size": st.one_of(st.none(), st.integers(0, 9)),
        "reward": st.sampled_from(REWARDS),
        "pessimism": st.sampled_from([0.0, 0.5, -1.0, float("nan")]),
        "acceptance": st.sampled_from([None, 0.2, 0.99, 1.0, float("nan")]),
        "leave_after_skip": st.sampled_from([None, 0.0, 1.0, 1.5]),
        "sessions_per_episode": st.integers(0, 3),
        "return_days": st.sampled_from([1.0, 0.0, -1.0]),
        "population": st.sampled_from(["fitting", "test", "nobody", ["test-1"], ["test-1000"]]),
        "in_order": st.booleans(),
        "actions": st.sampled_from(["index", "embedding", "word"]),
        "embedding_dim": st.integers(0, 4),
        "candidates": st.one_of(st.none(), st.integers(0, 31)),
        "mask_in_observation": st.booleans(),
        "autoreset_mode": st.sampled_from([*AutoresetMode, "Sometimes"]),
    }
)


def mostly(draw: Any, configuration: dict[str, Any]) -> dict[str, Any]:
    """A few settings of the configuration, so that not all of them are refused."""
    names = draw(st.lists(st.sampled_from(sorted(configuration)), max_size=7, unique=True))
    return {name: configuration[name] for name in names}


def action(draw: Any, env: RecommendVectorEnv) -> tuple[Any, bool]:
    """An action, and whether it is known to be illegal."""
    legal = env.action_space.sample()
    kind = draw(st.sampled_from(["legal"] * 6 + ["shape", "range", "type", "nan", "ragged"]))
    if kind == "legal":
        return legal, False
    if kind == "shape":
        return legal[..., None], True
    if kind == "range":
        return legal + 10_000, True
    if kind == "type":
        return np.full(legal.shape, "a"), True
    if kind == "nan":
        return np.full(legal.shape, np.nan), True
    return [[1], [2, 3]], True


@pytest.mark.parametrize("kind", ["tiny", "scripted"])
@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_a_clear_error_or_a_valid_step(tiny_users: Any, kind: str, data: Any) -> None:
    users = tiny_users if kind == "tiny" else ScriptedUsers(30, seed=1)
    chosen = mostly(data.draw, data.draw(CONFIGURATIONS))
    vectors = {"item_vectors": np.random.default_rng(0).normal(size=(30, 5))}
    event("tried")
    try:
        env = RecommendVectorEnv(users=users, **vectors, **chosen)
    except ValueError as error:
        # It names a setting that was given, and (but for a conflict) the value received.
        assert re.match(r"[a-z_]+ must", str(error)) and "got" in str(error)
        assert any(str(error).startswith(name) for name in [*chosen, "slate_size"])
        event("refused")
        return
    event("made")
    env.action_space.seed(0)
    observation, info = env.reset(seed=data.draw(st.integers(0, 9)))
    finished = np.zeros(env.num_envs, np.bool_)
    for _ in range(data.draw(st.integers(1, 8))):
        assert observation in env.observation_space
        if finished.any() and env.autoreset_mode is AutoresetMode.DISABLED:
            observation, info = env.reset(options={"reset_mask": finished})
        actions, illegal = action(data.draw, env)
        if illegal:
            with pytest.raises(ValueError, match=r"actions must be .*got"):
                env.step(actions)
            continue
        observation, reward, terminated, truncated, info = env.step(actions)
        finished = terminated | truncated
        assert reward.dtype == np.float64 and np.isfinite(reward).all()
        assert not (terminated & truncated).any()
        assert np.isfinite(info["clock_seconds"]).all()
        took_part = info["_choice"]
        assert (info["choice"][took_part] < env.slate_size).all()
        known = took_part & (info["choice"] >= 0)
        assert np.isfinite(info["feedback"][known]).all()
        parts = [v for k, v in info["reward_parts"].items() if not k.startswith("_")]
        assert sum(parts, np.zeros(env.num_envs)) == pytest.approx(reward)
        assert (env._observed.open.masks().sum(axis=1) == env._observed.open.remaining).all()
