from typing import Any

import numpy as np
import pytest
from gymnasium.error import ResetNeeded

from audience.envs import RecommendEnv


def test_info_is_in_pythons_own_numbers(tiny_users: Any) -> None:
    env = RecommendEnv(users=tiny_users, acceptance=0.5)
    _, info = env.reset(seed=0)
    assert set(info) == {"action_mask", "user", "session", "clock_seconds"}
    assert info["user"].startswith("fitting-") and info["session"] == info["clock_seconds"] == 0
    kinds = set()
    for _ in range(30):
        _, reward, terminated, truncated, info = env.step(int(info["action_mask"].argmax()))
        assert type(reward) is float and type(terminated) is bool and type(truncated) is bool
        assert 0 < info["accept_probability"] < 1
        assert info["reward_parts"] == {"feedback": reward}
        assert [type(info[key]) for key in ("choice", "item", "level")] == [int] * 3
        assert ("feedback" in info) == (info["choice"] >= 0)
        if "feedback" in info:
            assert info["feedback"] == tiny_users.scale.values[info["level"]]
        kinds.add("feedback" in info)
        if terminated or truncated:
            _, info = env.reset()
    assert kinds == {True, False}


def test_action_masks_have_the_form_of_maskable_ppo(tiny_users: Any) -> None:
    env = RecommendEnv(users=tiny_users, slate_size=5)
    _, info = env.reset(seed=0)
    assert isinstance(info["action_mask"], tuple) and len(info["action_mask"]) == 5
    masks = env.action_masks()
    assert masks.dtype == np.bool_ and masks.shape == (150,)
    assert (masks == np.concatenate(info["action_mask"])).all()


def test_finished_session_needs_a_reset(tiny_users: Any) -> None:
    env = RecommendEnv(users=tiny_users, step_limit=2, leave_after_choice=0, leave_after_skip=0)
    env.reset(seed=0)
    assert [env.step(20)[2:4], env.step(21)[2:4]] == [(False, False), (False, True)]
    with pytest.raises(ResetNeeded, match="have finished"):
        env.step(22)


def test_errors(tiny_users: Any) -> None:
    env = RecommendEnv(users=tiny_users, slate_size=2)
    with pytest.raises(ValueError, match="only 'user' or 'history', got reset_mask"):
        env.reset(options={"reset_mask": np.ones(1, np.bool_)})
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"shape \(2,\).*got int64 of shape \(\)"):
        env.step(1)
    with pytest.raises(ValueError, match="from 0 to 29, got 30"):
        env.step([1, 30])
    with pytest.raises(ValueError, match="render_mode must be one of None, 'ansi', 'human'"):
        RecommendEnv(users=tiny_users, render_mode="depth_array")
    with pytest.raises(TypeError, match="unexpected keyword argument 'slates'"):
        RecommendEnv(users=tiny_users, slates=2)


def test_screen_tells_the_step(tiny_users: Any) -> None:
    env = RecommendEnv(users=tiny_users, slate_size=3, render_mode="ansi", start=8)
    _, info = env.reset(seed=1)
    text = env.render()
    assert text is not None
    assert f"user {info['user']} · step 0 of 30" in text and "nothing recommended yet" in text
    items, levels = env.core.history(0)
    for item, level in zip(items, levels, strict=True):
        line = next(line for line in text.splitlines() if f"Item number {item} " in line)
        assert line.split()[-1] == str(level + 1)
    seen = set()
    for _ in range(40):
        slate = np.flatnonzero(info["action_mask"][0])[:3]
        _, reward, terminated, truncated, info = env.step(slate)
        text = env.render()
        assert text is not None and len(text.splitlines()) <= 24
        assert max(map(len, text.splitlines())) <= 100
        below = text.split("recommended\n")[1]
        shown = [line[2:].split("  ")[0] for line in below.splitlines()[:3]]
        assert shown == [f"Item number {item}" for item in slate]
        assert f"reward {reward:.2f} (feedback {reward:.2f})" in text
        if info["choice"] >= 0:
            chosen = next(line for line in below.splitlines() if line.startswith(">"))
            assert f"Item number {info['item']} " in chosen
            assert chosen.split()[-1] == f"{info['feedback']:g}"
            assert f"Item number {info['item']} " not in text.split("recommended\n")[0]
            seen.add("choice")
        else:
            assert "nothing chosen" in below and ">" not in below
            seen.add("skip")
        assert ("the user leaves" in text) == terminated
        if terminated or truncated:
            _, info = env.reset()
    assert seen == {"choice", "skip"}


def test_human_prints_at_each_reset_and_step(
    tiny_users: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    env = RecommendEnv(users=tiny_users, render_mode="human")
    env.reset(seed=0)
    assert "step 0 of 30" in capsys.readouterr().out
    env.step(3)
    assert "step 1 of 30" in capsys.readouterr().out
    silent = RecommendEnv(users=tiny_users)
    silent.reset(seed=0)
    assert silent.render() is None and not capsys.readouterr().out
