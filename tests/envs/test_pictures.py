import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from audience.envs import RecommendEnv, RecommendVectorEnv
from audience.envs.picture import CHOSEN, MISSED


def test_the_checker_is_silent_with_every_render_mode(tiny_users: Any, replay_users: Any) -> None:
    check_env(gym.make("audience/MovieLensSlate-v0", users=tiny_users).unwrapped)
    check_env(gym.make("audience/Replay-v0", users=replay_users).unwrapped)
    check_env(gym.make("audience/Scripted-v0").unwrapped)


def rows_of(frame: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((frame == np.array(colour)).all(axis=2).any(axis=1).sum())


def test_frames_have_one_size_and_show_what_was_chosen(tiny_users: Any) -> None:
    env = RecommendEnv(users=tiny_users, slate_size=4, render_mode="rgb_array")
    env.reset(seed=0)
    first = env.render()
    assert isinstance(first, np.ndarray) and first.dtype == np.uint8
    assert first.shape[2] == 3 and not any(side % 2 for side in first.shape[:2])
    assert rows_of(first, CHOSEN) == rows_of(first, MISSED) == 0
    kinds = set()
    for step in range(20):
        _, _, terminated, truncated, info = env.step((np.arange(4) + 4 * step) % 30)
        frame = env.render()
        assert isinstance(frame, np.ndarray) and frame.shape == first.shape
        assert (rows_of(frame, CHOSEN) > 0) == (info["choice"] >= 0)
        assert rows_of(frame, MISSED) > 40 and (frame != first).any()
        kinds.add(info["choice"] >= 0)
        if terminated or truncated:
            env.reset()
    assert kinds == {True, False}


def test_a_vector_has_a_frame_for_each_user(tiny_users: Any) -> None:
    env = RecommendVectorEnv(3, users=tiny_users, render_mode="rgb_array")
    env.reset(seed=0)
    frames = env.render()
    assert frames is not None and len(frames) == 3
    assert (frames[0] != frames[1]).any()
    text = RecommendVectorEnv(3, users=tiny_users, render_mode="ansi")
    text.reset(seed=0)
    assert all(isinstance(screen, str) for screen in text.render() or ())


def test_long_texts_are_cut_and_odd_ones_drawn(make_tiny_users: Any) -> None:
    users = make_tiny_users()
    texts = np.array(["七人の侍 " + 20 * "very long "] * 30)
    object.__setattr__(users.catalogue, "texts", texts)
    env = RecommendEnv(users=users, slate_size=2, render_mode="rgb_array")
    env.reset(seed=0)
    env.step([1, 2])
    assert isinstance(env.render(), np.ndarray)


def test_record_video(tiny_users: Any, tmp_path: Path) -> None:
    pytest.importorskip("moviepy", reason="Gymnasium's RecordVideo encodes with moviepy")
    env = gym.wrappers.RecordVideo(
        gym.make("audience/Recommend-v0", users=tiny_users, render_mode="rgb_array"),
        str(tmp_path / "videos"),
        episode_trigger=lambda episode: episode == 0,
    )
    env.reset(seed=0)
    finished = False
    while not finished:
        *_, terminated, truncated, _ = env.step(env.action_space.sample())
        finished = bool(terminated or truncated)
    env.close()
    (video,) = (tmp_path / "videos").glob("*.mp4")
    assert video.stat().st_size > 0


def test_record_video_gets_the_frames_that_it_wants(
    tiny_users: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As above, but for the encoding: moviepy may be absent."""
    frames: list[Any] = []

    class ImageSequenceClip:
        def __init__(self, sequence: list[Any], fps: int) -> None:
            assert fps == 1
            frames.extend(sequence)

        def write_videofile(self, path: str, logger: Any = None) -> None:
            Path(path).touch()

    for name in ("moviepy", "moviepy.video", "moviepy.video.io"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    clip = ModuleType("moviepy.video.io.ImageSequenceClip")
    clip.ImageSequenceClip = ImageSequenceClip  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, clip.__name__, clip)
    env = gym.wrappers.RecordVideo(
        gym.make("audience/Recommend-v0", users=tiny_users, render_mode="rgb_array"),
        str(tmp_path / "videos"),
        episode_trigger=lambda episode: episode == 0,
    )
    env.reset(seed=0)
    steps, finished = 0, False
    while not finished:
        *_, terminated, truncated, _ = env.step(env.action_space.sample())
        finished, steps = bool(terminated or truncated), steps + 1
    env.close()
    assert len(frames) == steps + 1 and len({frame.shape for frame in frames}) == 1
    assert [path.name for path in (tmp_path / "videos").iterdir()] == ["rl-video-episode-0.mp4"]
