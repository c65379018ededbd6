"""What holds for every baseline: a new one gets all of this by its line in BASELINES."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from audience.agents.base import Agent, ScoringAgent
from audience.agents.baselines import BASELINES, ChoiceAgent, GreedyAgent
from audience.agents.latency import predict_latency
from audience.agents.recommender import Recommender
from audience.agents.saving import load_agent, save_agent
from audience.agents.tuning import TunedAgent
from audience.agents.vec_env import make_sb3_env
from audience.envs.vector import RecommendVectorEnv
from audience.reward_models.histories import Histories
from audience.reward_models.users import Assumptions

if TYPE_CHECKING:
    from audience.reward_models.bert_users import BertUserModel

N = 40
"""Items of the planted users."""

EVERY = pytest.mark.parametrize("name", BASELINES)
DRAWS = {"random", "thompson"}
"""Those that draw: the same calls give the same slates."""


def fitting(items: int = N) -> Histories:
    """Users who like even or odd items, and dislike one of the others."""
    rng = np.random.default_rng(1)
    events = []
    for user in range(60):
        kinds = np.arange(items)[user % 2 :: 2], np.arange(items)[1 - user % 2 :: 2]
        met = [(int(i), 2) for i in rng.choice(kinds[0], 7, replace=False)]
        events.append([*met, (int(rng.choice(kinds[1])), 0)])
    return Histories.from_lists(events)


@cache
def made(users: BertUserModel, name: str, slate_size: int) -> ScoringAgent:
    kind: Any = BASELINES[name]
    if kind is GreedyAgent:
        return GreedyAgent(users, Assumptions(acceptance=0.5), slate_size)
    if kind is ChoiceAgent:
        return ChoiceAgent(users, slate_size)
    text = {"text_vectors": users.text_vectors} if getattr(kind, "USES_TEXT", False) else {}
    return kind.fit(fitting(), users.catalogue, users.scale, slate_size, **text)


def fresh(users: BertUserModel, name: str, slate_size: int = 1) -> Any:
    """The agent, its own draws at their beginning."""
    agent: Any = made(users, name, slate_size)
    return type(agent)(**agent.parameters())


def observation(*histories: list[tuple[int, int]], width: int = 10) -> dict[str, NDArray[Any]]:
    items, levels, lengths = Histories.from_lists(list(histories)).padded(width)
    return {"item": items, "feedback": levels, "length": lengths[:, None]}


BATCH = observation([(0, 2), (2, 2), (5, 0)], [], [(i, 1) for i in range(10)], [(39, 0)])


@EVERY
def test_predict(planted_users: BertUserModel, name: str) -> None:
    for slate_size in (1, 4):
        agent = fresh(planted_users, name, slate_size)
        assert isinstance(agent, Agent)
        actions, state = agent.predict(BATCH, state="kept", deterministic=True)
        assert actions.shape == ((4,) if slate_size == 1 else (4, 4))
        assert actions.dtype == np.int64 and state == "kept"
        slates = actions.reshape(4, -1)
        for row, slate in enumerate(slates.tolist()):
            seen = set(BATCH["item"][row, : BATCH["length"][row, 0]].tolist())
            assert len(set(slate)) == slate_size and not seen & set(slate)
        one = {key: value[0] for key, value in BATCH.items()}
        single = fresh(planted_users, name, slate_size).predict(one)[0]
        assert single.shape == (() if slate_size == 1 else (4,))
        if name not in DRAWS:  # alone as in a batch, and whatever stands in unused places
            np.testing.assert_array_equal(np.ravel(single), slates[0])
            filled = {**BATCH, "item": BATCH["item"].copy(), "feedback": BATCH["feedback"].copy()}
            unused = np.arange(10) >= BATCH["length"]
            filled["item"][unused], filled["feedback"][unused] = 7, 2
            np.testing.assert_array_equal(agent.predict(filled)[0], actions)


@EVERY
def test_masks_and_candidates_are_honoured(planted_users: BertUserModel, name: str) -> None:
    agent = fresh(planted_users, name, 2)
    mask = np.zeros((4, N), np.int8)
    mask[:, 20:30] = 1
    for given in ({"observation": {**BATCH, "mask": mask}}, {"action_masks": mask}):
        slates = agent.predict(**{"observation": BATCH, **given})[0]
        assert ((slates >= 20) & (slates < 30)).all()
    candidates = np.array([[5, 30, 11, 0, 2]] * 4)
    places = agent.predict({**BATCH, "candidates": candidates})[0]
    assert places.max() < 5
    shown = np.take_along_axis(candidates, places, axis=1)
    assert set(shown[0].tolist()) == {30, 11}  # all that user 0 did not meet


@EVERY
def test_the_same_calls_give_the_same_slates(planted_users: BertUserModel, name: str) -> None:
    one, same = (fresh(planted_users, name, 3) for _ in range(2))
    for _ in range(3):
        np.testing.assert_array_equal(one.predict(BATCH)[0], same.predict(BATCH)[0])


@EVERY
def test_saved_and_loaded_it_recommends_the_same(
    planted_users: BertUserModel, name: str, tmp_path: Path
) -> None:
    agent, users = fresh(planted_users, name, 2), planted_users
    directory = save_agent(agent, tmp_path / "saved", users.catalogue, users.scale)
    save_agent(agent, directory, users.catalogue, users.scale)  # over an earlier one
    loaded, labels = load_agent(directory)
    assert type(loaded) is type(agent) and loaded.slate_size == 2
    assert labels.item_ids.tolist() == users.catalogue.item_ids.tolist()
    assert labels.scale == users.scale
    np.testing.assert_array_equal(loaded.predict(BATCH)[0], fresh(users, name, 2).predict(BATCH)[0])
    assert not [p for p in directory.rglob("*") if "pickle" in p.name or p.suffix == ".bin"]
    # And taken away: no user model is at hand.
    recommender = Recommender.load(directory)
    known = [(f"i{item}", users.scale.values[level]) for item, level in ((0, 2), (2, 2), (5, 0))]
    found = recommender.recommend(known, k=5)
    assert len(set(found.item_ids)) == 5 and not {"i0", "i2", "i5"} & set(found.item_ids)
    assert found.scores == sorted(found.scores, reverse=True)
    if name not in DRAWS:
        asked = {key: value[0] for key, value in BATCH.items()}
        slate = fresh(users, name, 2).predict(asked)[0]
        assert found.item_ids[:2] == users.catalogue.item_ids[slate].tolist()
        both = recommender.recommend_batch([known, []], k=5)
        assert both[0].item_ids == found.item_ids
    assert len(recommender.recommend([], k=3)) == 3


@EVERY
def test_it_plays_in_the_environment(tiny_users: Any, name: str) -> None:
    if name in ("greedy", "choice"):
        pytest.skip("needs a fitted user model")
    kind: Any = BASELINES[name]
    agent = kind.fit(fitting(30), tiny_users.catalogue, tiny_users.scale, 2)
    env = RecommendVectorEnv(3, users=tiny_users, slate_size=2, mask_in_observation=True)
    observed, info = env.reset(seed=0)
    for _ in range(12):
        open_ = info["action_mask"]
        slates = agent.predict(observed)[0]
        assert np.take_along_axis(open_, slates, axis=1).all()
        observed, _, _, _, info = env.step(slates)
    env.close()


@EVERY
def test_grids_name_arguments(name: str) -> None:
    kind: Any = BASELINES[name]
    if not issubclass(kind, TunedAgent):
        return
    import inspect

    assert set(kind.GRID) <= set(inspect.signature(kind.fit).parameters)
    assert set(kind.SCORING) <= set(inspect.signature(kind).parameters)
    assert set(kind.SCORING) <= set(kind.GRID)
    assert 4 <= np.prod([len(values) for values in kind.GRID.values()]) <= 16


def test_latency_is_that_of_one_user(tiny_users: Any) -> None:
    env = make_sb3_env("audience/Recommend-v0", 4, users=tiny_users, mask_in_observation=True)
    agent: Any = BASELINES["popularity"]
    agent = agent.fit(fitting(30), tiny_users.catalogue, tiny_users.scale)
    seen: list[tuple[int, ...]] = []

    class Watched:
        def predict(self, observation: Any, **given: Any) -> Any:
            seen.append(observation["item"].shape)
            return agent.predict(observation, **given)

    observed: Any = env.reset()
    found = predict_latency(Watched(), observed, calls=20, warmup=2)  # type: ignore[arg-type]
    assert 0 < found.p50 <= found.p99 and found.mean > 0 and found.calls == 20
    assert len(seen) == 22 and all(len(shape) == 1 for shape in seen)
    with pytest.raises(ValueError, match="calls must be at least 1, got 0"):
        predict_latency(agent, observed, calls=0)
    env.close()
