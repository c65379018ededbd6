import pickle
from typing import Any

import numpy as np
import pytest

from audience.agents.vec_env import make_sb3_env
from audience.envs import RecommendEnv, RecommendVectorEnv

HISTORY = [("i3", 4.0), ("i17", 1.0), ("i5", 5.0)]


def test_a_given_user_of_any_population_begins(tiny_users: Any) -> None:
    env = RecommendEnv(users=tiny_users)
    for name, population, row in (("fitting-12", "fitting", 12), ("test-3", "test", 3)):
        observation, info = env.reset(seed=0, options={"user": name})
        starts = tiny_users.starts(population)
        events = slice(starts.offsets[row], starts.offsets[row + 1])
        assert info["user"] == name
        assert observation["item"][:8].tolist() == starts.items[events].tolist()
        assert observation["feedback"][:8].tolist() == starts.levels[events].tolist()
    names = {env.reset()[1]["user"] for _ in range(5)}  # a wish is for one reset
    assert len(names) > 1 and all(name.startswith("fitting-") for name in names)


def test_a_hand_written_history_begins(tiny_users: Any) -> None:
    env = RecommendEnv(users=tiny_users)
    observation, info = env.reset(seed=0, options={"history": HISTORY})
    assert info["user"] == "given" and observation["length"].tolist() == [3]
    assert observation["item"][:4].tolist() == [3, 17, 5, 0]
    assert observation["feedback"][:4].tolist() == [3, 0, 4, 0]
    assert np.flatnonzero(info["action_mask"] == 0).tolist() == [3, 5, 17]
    step = env.step(20)
    same = RecommendEnv(users=tiny_users)
    same.reset(seed=0, options={"history": [list(pair) for pair in HISTORY]})
    assert str(same.step(20)) == str(step)
    other = RecommendEnv(users=tiny_users)
    other.reset(seed=0, options={"history": [("i0", 1.0)]})
    assert other.step(20)[4]["accept_probability"] != step[4]["accept_probability"]


def test_each_environment_may_have_its_own(tiny_users: Any) -> None:
    env = RecommendVectorEnv(3, users=tiny_users, population="validation")
    drawn = env.reset(seed=0)[1]["user"].tolist()
    options = {"user": ["fitting-3", None, None], "history": [None, HISTORY, None]}
    observation, info = env.reset(seed=0, options=options)
    assert info["user"].tolist() == ["fitting-3", "given", drawn[2]]
    assert observation["length"][:, 0].tolist() == [8, 3, 8]
    everyone = env.reset(seed=0, options={"user": "test-9"})[1]
    assert everyone["user"].tolist() == ["test-9"] * 3
    before = env.user_names.copy()
    mask = np.array([False, True, False])
    info = env.reset(options={"user": "fitting-1", "reset_mask": mask})[1]
    assert info["user"].tolist() == [before[0], "fitting-1", before[2]]


def test_population_may_be_a_list_of_users(tiny_users: Any) -> None:
    names = ["test-4", "fitting-30", "validation-0"]
    env = RecommendVectorEnv(60, users=tiny_users, population=names)
    assert set(env.reset(seed=0)[1]["user"].tolist()) == set(names)
    ordered = RecommendVectorEnv(4, users=tiny_users, population=names, in_order=True)
    assert ordered.reset(seed=0)[1]["user"].tolist() == [*names, names[0]]


def test_sb3s_options_reach_their_environment(tiny_users: Any) -> None:
    env = make_sb3_env("audience/Recommend-v0", 3, seed=0, users=tiny_users)
    env.set_options([{"user": "test-1"}, {}, {"history": HISTORY}])
    env.reset()
    assert env.step_info["user"][[0, 2]].tolist() == ["test-1", "given"]
    env.set_options({"user": "test-2"})
    env.reset()
    assert env.step_info["user"].tolist() == ["test-2"] * 3
    env.reset()
    assert set(env.step_info["user"].tolist()) != {"test-2"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"user": "fitting-40"}, r"options\['user'\] must name one of .* got 'fitting-40'"),
        ({"user": ["fitting-0"]}, r"options\['user'\] must be a pseudonym, or a list of one such"),
        ({"user": 3}, r"options\['user'\] must be a pseudonym.*got 3"),
        ({"user": ["fitting-0", 4]}, r"options\['user'\] must name .* got 4"),
        ({"user": "test-0", "history": HISTORY}, "exclude each other.*environment 0"),
        ({"history": []}, r"options\['history'\] must be a list of \(item id, feedback\) pairs"),
        ({"history": [HISTORY, []]}, "from 1 to 29 events a user, got 0"),
        ({"history": [("i3", 4.0), ("i3", 1.0)]}, "no item twice.*got 'i3'"),
        ({"history": [("comet", 4.0)]}, "ids of items of the catalogue, got 'comet'"),
        ({"history": [("i3", 9.0)]}, "feedback in the log's unit, from 1 to 5, got 9.0"),
        ({"history": [("i3", float("nan"))]}, "from 1 to 5, got nan"),
        ({"history": [("i3", "good")]}, "from 1 to 5, got 'good'"),
        ({"history": [("i3", 4.0), "i4"]}, r"\(item id, feedback\) pairs, got 'i4'"),
        ({"history": [("i3",)]}, r"\(item id, feedback\) pairs, got \('i3',\)"),
        ({"history": "i3"}, r"options\['history'\] must be a list"),
        ({"history": [("i3", 4.0), (["i4"], 1.0)]}, "ids of items of the catalogue"),
        ({"story": 1}, "may hold only 'reset_mask', 'user', 'history', got story"),
        ({3: 1}, "got 3"),
    ],
)
def test_bad_options(tiny_users: Any, options: Any, message: str) -> None:
    env = RecommendVectorEnv(2, users=tiny_users)
    env.reset(seed=0)
    before = pickle.dumps(env.get_state())
    with pytest.raises(ValueError, match=message):
        env.reset(seed=1, options=options)
    assert pickle.dumps(env.get_state()) == before  # refused before anything changed


@pytest.mark.parametrize(
    ("population", "message"),
    [
        (["test-99"], "population must name one of .* got 'test-99'"),
        ([], "population must have users"),
        ([1], "or a list of users' pseudonyms"),
        (7, "or a list of users' pseudonyms, got 7"),
    ],
)
def test_bad_populations(tiny_users: Any, population: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RecommendVectorEnv(2, users=tiny_users, population=population)
