import pickle
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audience.envs import RecommendEnv, RecommendVectorEnv
from audience.envs import default_users as default_users_module
from audience.reward_models.scripted import ScriptedUsers

SETTINGS: dict[str, Any] = {
    "slate_size": 2,
    "step_limit": 9,
    "candidates": 12,
    "sessions_per_episode": 2,
    "mask_in_observation": True,
    "pessimism": 0.3,
}


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(part) for part in value]
    return repr(value.tolist()) if isinstance(value, np.ndarray) else repr(value)


def lived(env: Any, steps: int = 25) -> list[Any]:
    """What comes of these steps, to the last bit."""
    generator = np.random.default_rng(3)
    seen = []
    for _ in range(steps):
        seen.append(env.step(generator.integers(12, size=(env.num_envs, 2))))
    return plain(seen)


@pytest.fixture(params=["tiny", "scripted", "replay"])
def env(request: pytest.FixtureRequest, tiny_users: Any, replay_users: Any) -> RecommendVectorEnv:
    if request.param == "replay":
        settings = {**SETTINGS, "slate_size": 1}
        made = RecommendVectorEnv(4, users=replay_users, **settings)
        made.step_pairs = made.step  # type: ignore[attr-defined]
        made.step = lambda a: made.step_pairs(a[:, 0])  # type: ignore[method-assign, attr-defined]
        return made
    users = tiny_users if request.param == "tiny" else ScriptedUsers(40)
    return RecommendVectorEnv(4, users=users, **SETTINGS)


def test_a_state_goes_back(env: RecommendVectorEnv) -> None:
    env.reset(seed=0)
    lived(env, 7)
    state = env.get_state()
    kept = pickle.dumps(state)
    first = lived(env)
    assert pickle.dumps(state) == kept  # later steps change no copy
    env.set_state(state)
    assert lived(env) == first
    env.set_state(state)
    assert lived(env) == first and pickle.dumps(state) == kept


def test_copies_go_on_alike_and_apart(tiny_users: Any) -> None:
    for users in (tiny_users, ScriptedUsers(40)):
        env = RecommendVectorEnv(4, users=users, **SETTINGS)
        env.reset(seed=0)
        lived(env, 7)
        env.action_space.seed(4)
        copies = [deepcopy(env), pickle.loads(pickle.dumps(env))]
        assert copies[0].users is users  # shared: an environment's state is not in them
        sampled = env.action_space.sample().tolist()
        expected = lived(env)
        for copy in copies:
            assert copy.action_space.sample().tolist() == sampled
            assert lived(copy) == expected
        unborn = pickle.loads(pickle.dumps(RecommendVectorEnv(4, users=users, **SETTINGS)))
        unborn.reset(seed=0)
        lived(unborn, 7)
        assert lived(unborn) == expected


def test_single_environments_too(tiny_users: Any) -> None:
    env = RecommendEnv(users=tiny_users, step_limit=9)
    env.reset(seed=0)
    env.step(3)
    state = env.get_state()
    copies = [deepcopy(env), pickle.loads(pickle.dumps(env))]
    first = [str(env.step(item)) for item in (4, 5)] + [str(env.reset())]
    for copy in copies:
        assert [str(copy.step(item)) for item in (4, 5)] + [str(copy.reset())] == first
    env.set_state(state)
    assert [str(env.step(item)) for item in (4, 5)] + [str(env.reset())] == first


def test_an_unseeded_single_goes_on_by_its_own_generator(tiny_users: Any) -> None:
    env = RecommendEnv(users=tiny_users)
    env.reset()
    copy = pickle.loads(pickle.dumps(env))
    assert str(copy.reset()) == str(env.reset())
    assert copy.np_random.random() == env.np_random.random()


def test_a_directory_is_loaded_again(
    tiny_users: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = []

    def load(path: Any) -> Any:
        loads.append(path)
        return tiny_users

    monkeypatch.setattr(default_users_module, "load_users", load)
    env = RecommendVectorEnv(2, users=tmp_path)
    env.reset(seed=0)
    blob = pickle.dumps(env)
    assert b"TinyUsers" not in blob and len(loads) == 1
    default_users_module._LOADED.clear()
    copy = pickle.loads(blob)
    assert len(loads) == 2 and str(copy.step([3, 4])) == str(env.step([3, 4]))


def test_errors(tiny_users: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    env = RecommendVectorEnv(2, users=tiny_users)
    other = RecommendVectorEnv(3, users=tiny_users)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="environment of the same settings.*'num_envs': 3"):
        other.set_state(env.get_state())
    with pytest.raises(ValueError, match="what get_state.. of an environment gave"):
        env.set_state({})
    monkeypatch.delattr(type(env._sessions), "get_state")
    with pytest.raises(TypeError, match="TinySessions cannot tell its state"):
        env.get_state()


def test_a_judges_sessions_go_back(planted_log: Any) -> None:
    from audience.reward_models.fit_data import FitData
    from audience.reward_models.judges import fit_judge

    users = fit_judge("als", FitData.of(planted_log, None, 0).quality(0))
    env = RecommendVectorEnv(4, users=users, **{**SETTINGS, "step_limit": 5})
    env.reset(seed=0)
    lived(env, 3)
    state = env.get_state()
    first = lived(env)
    env.set_state(state)
    assert lived(env) == first
