from typing import Any

import numpy as np
import pytest

from audience.envs import RecommendEnv, RecommendVectorEnv
from audience.reward_models.scripted import ScriptedUsers

DAY = 86_400.0


def first_open(info: dict[str, Any]) -> np.ndarray:
    return info["action_mask"].argmax(axis=1)


def test_the_clock_adds_steps_and_dwell_times(tiny_users: Any) -> None:
    env = RecommendVectorEnv(6, users=tiny_users, seconds_per_step=2.5, step_limit=6)
    _, info = env.reset(seed=0)
    expected = np.zeros(6)
    for _ in range(30):
        _, _, terminated, truncated, info = env.step(first_open(info))
        took_part = info["_choice"]
        dwell = np.where(info["_dwell_seconds"], info["dwell_seconds"], 0.0)
        assert (info["_dwell_seconds"] == (took_part & (info["choice"] >= 0))).all()
        expected = np.where(took_part, expected + 2.5 + dwell, 0.0)
        assert info["clock_seconds"] == pytest.approx(expected)
    assert (info["clock_seconds"] > 2.5).any()


def test_several_sessions_make_an_episode(tiny_users: Any) -> None:
    settings: dict[str, Any] = {
        "users": tiny_users,
        "leave_after_choice": 0.12,
        "leave_after_skip": 0.2,
        "seconds_per_step": 1.0,
    }
    env = RecommendVectorEnv(16, **settings, sessions_per_episode=3, return_days=2.0, step_limit=15)
    _, info = env.reset(seed=0)
    ends = {"terminated": 0, "truncated": 0}
    returns = 0
    for _ in range(40):
        before, clock = env.session.copy(), env.clock.copy()
        length = env._observed.lengths.copy()
        _, _, terminated, truncated, info = env.step(first_open(info))
        took_part = info["_choice"]
        leaves = took_part & info["leave"]
        assert (terminated == (leaves & (before == 2))).all()
        back = leaves & ~terminated & ~truncated
        stays = took_part & ~leaves
        assert (info["session"] == np.where(took_part, before + back, 0)).all()
        assert (info["clock_seconds"][back] - clock[back] >= 2 * DAY).all()
        assert (info["clock_seconds"][stays] - clock[stays] < 10).all()
        chosen = took_part & (info["choice"] >= 0)
        assert (env._observed.lengths[back] == (length + chosen)[back]).all()  # goes on
        returns += back.sum()
        ends["terminated"] += terminated.sum()
        ends["truncated"] += truncated.sum()
    assert returns > 30 and min(ends.values()) > 3


def test_one_session_is_the_same_as_the_first_of_many(tiny_users: Any) -> None:
    one = RecommendEnv(users=tiny_users)
    many = RecommendEnv(users=tiny_users, sessions_per_episode=9)
    one.reset(seed=3)
    many.reset(seed=3)
    for item in range(29):
        mine, other = one.step(item), many.step(item)
        assert str(mine[:2]) == str(other[:2])
        if mine[2]:
            assert not other[2] and other[4]["session"] == 1
            return
    pytest.fail("a session must end")


def test_screen_tells_the_return(tiny_users: Any) -> None:
    env = RecommendEnv(
        users=tiny_users,
        sessions_per_episode=2,
        leave_after_choice=1,
        leave_after_skip=1,
        render_mode="ansi",
    )
    env.reset(seed=0)
    assert "session 1 of 2" in str(env.render())
    env.step(3)
    assert "the user left, and is back after 1 days" in str(env.render())
    env.step(4)
    assert str(env.render()).endswith("the user leaves")


def test_consumed_items_may_be_chosen_again_where_users_say_so() -> None:
    users = ScriptedUsers(40, allows_repeats=True)
    env = RecommendVectorEnv(8, users=users, repeats="allowed", step_limit=40)
    observation, info = env.reset(seed=0)
    assert info["action_mask"].all()
    twice = 0
    for _ in range(40):
        again = observation["item"][:, 0]  # the first event of all
        observation, _, _, _, info = env.step(again)
        twice += int((info["choice"] >= 0).sum())
        assert info["action_mask"].all()
    assert twice > 20
    options = {"history": [("item-3", 1.0), ("item-3", 2.0)]}
    assert env.reset(options=options)[0]["length"].tolist() == [[2]] * 8
    once = RecommendVectorEnv(8, users=ScriptedUsers(40), step_limit=40)
    observation, _ = once.reset(seed=0)
    assert (once.step(observation["item"][:, 0])[4]["choice"] == -1).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"repeats": "allowed"}, "repeats must be 'never' with these users, who never choose"),
        ({"repeats": "often"}, "repeats must be one of 'never', 'allowed', got 'often'"),
        ({"sessions_per_episode": 0}, "sessions_per_episode must be a whole number of at least 1"),
        ({"return_days": -1}, "return_days must be a finite number of at least 0, got -1"),
        ({"seconds_per_step": float("inf")}, "seconds_per_step must be a finite number"),
        ({"pessimism": "much"}, "pessimism must be a finite number of at least 0, got 'much'"),
    ],
)
def test_bad_dynamics(tiny_users: Any, settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RecommendVectorEnv(2, users=tiny_users, **settings)
    with pytest.raises(ValueError, match="repeats must be 'allowed' with these users, who choose"):
        RecommendVectorEnv(2, users=ScriptedUsers(40, allows_repeats=True))
