from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from audience.agents.vec_env import make_sb3_env
from audience.envs import RecommendEnv, RecommendVectorEnv
from audience.reward_models.rewards import (
    ChoiceReward,
    DiversityReward,
    DwellReward,
    FeedbackReward,
    RepetitionPenalty,
    StayBonus,
)
from audience.reward_models.users import Response


class Doubtful:
    """Users whose ensemble disagrees by .5 everywhere."""

    def __init__(self, users: Any) -> None:
        self.catalogue, self.scale, self.starts = users.catalogue, users.scale, users.starts
        self._open = users.open

    def open(self, slots: int, slate_size: int, assumptions: Any) -> Any:
        sessions = self._open(slots, slate_size, assumptions)
        respond = sessions.respond

        def doubtful(slates: Any, uniforms: Any, active: Any) -> Response:
            response = respond(slates, uniforms, active)
            return Response(**{**vars(response), "disagreement": np.full(slots, 0.5)})

        sessions.respond = doubtful
        return sessions


def test_pessimism_subtracts_the_disagreement(tiny_users: Any) -> None:
    plain = RecommendVectorEnv(6, users=tiny_users, step_limit=3)
    wary = RecommendVectorEnv(6, users=Doubtful(tiny_users), step_limit=3, pessimism=0.4)
    plain.reset(seed=0)
    wary.reset(seed=0)
    for item in range(8):
        _, reward, *_, info = plain.step(np.full(6, item))
        _, less, *_, told = wary.step(np.full(6, item))
        took_part = info["_choice"]
        assert less == pytest.approx(reward - 0.2 * took_part)
        assert list(told["reward_parts"])[:1] == ["feedback"]
        assert told["reward_parts"]["uncertainty"] == pytest.approx(-0.2 * took_part)
        assert (told["disagreement"] == 0.5).all() and (info["disagreement"] == 0).all()


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_parts_are_summed_over_each_episode(tiny_users: Any, mode: str) -> None:
    reward = FeedbackReward() + 0.5 * ChoiceReward() + 0.1 * DwellReward() + StayBonus()
    env = RecommendVectorEnv(
        8, users=tiny_users, reward=reward, step_limit=5, autoreset_mode=AutoresetMode(mode)
    )
    env.reset(seed=0)
    sums = {name: np.zeros(8) for name in ("feedback", "choice", "dwell", "stay")}
    total, episodes = np.zeros(8), 0
    for item in range(60):
        _, paid, terminated, truncated, info = env.step(np.full(8, item % 30))
        total += paid
        finished = terminated | truncated
        last = info.get("final_info", info) if mode == "SameStep" else info
        if mode == "SameStep" and not finished.any():
            last = {}
        parts = info["reward_parts"]
        assert ("episode_parts" in last) == finished.any()
        for name in sums:
            own = parts[name].copy()
            if mode == "SameStep" and finished.any():
                own[finished] = last["reward_parts"][name][finished]
            sums[name] += own
            if finished.any():
                assert (last["_episode_parts"] == finished).all()
                assert last["episode_parts"][name][finished] == pytest.approx(sums[name][finished])
        if finished.any():
            whole = sum(last["episode_parts"][name] for name in sums)
            assert whole[finished] == pytest.approx(total[finished])
            for name in sums:
                sums[name][finished] = 0
            total[finished] = 0
            episodes += finished.sum()
    assert episodes > 40


def test_single_and_sb3_views_have_the_sums(tiny_users: Any) -> None:
    reward = FeedbackReward() + ChoiceReward()
    env = RecommendEnv(users=tiny_users, reward=reward, step_limit=3)
    env.reset(seed=0)
    total, finished, item = 0.0, False, 0
    while not finished:
        _, paid, terminated, truncated, info = env.step(item)
        finished, item, total = terminated or truncated, item + 1, total + paid
        assert ("episode_parts" in info) == finished
    assert sum(info["episode_parts"].values()) == pytest.approx(total)
    view = make_sb3_env("audience/Recommend-v0", 4, users=tiny_users, reward=reward, step_limit=3)
    view.seed(0)
    view.reset()
    seen = 0
    for item in range(12):
        _, _, done, infos = view.step(np.full(4, item))
        for slot in np.flatnonzero(done):
            parts = infos[slot]["episode_parts"]
            assert set(parts) == {"feedback", "choice"}
            assert sum(parts.values()) == pytest.approx(infos[slot]["episode"]["r"])
            seen += 1
    assert seen > 8


def test_rewards_see_slates_and_the_history_before_the_response(tiny_users: Any) -> None:
    seen = []

    def watch(response: Response, context: Any) -> dict[str, np.ndarray]:
        last = context.items[np.arange(4), context.lengths - 1]
        seen.append((context.slates.copy(), context.lengths.copy(), last))
        return {"none": np.zeros(4)}

    env = RecommendVectorEnv(4, users=tiny_users, reward=watch, slate_size=2, acceptance=0.9)
    env.reset(seed=0)
    slates = np.array([[1, 2], [3, 4], [5, 6], [7, 8]])
    before = env._observed.lengths.copy()
    seen.clear()
    env.step(slates)
    ((shown, lengths, _),) = seen
    assert (shown == slates).all() and (lengths == before).all()
    assert (env._observed.lengths > before).any()


def test_vectors_of_the_environment_reach_its_rewards(tiny_users: Any) -> None:
    reward = DiversityReward() + RepetitionPenalty()
    vectors = tiny_users.vectors
    env = RecommendVectorEnv(2, users=tiny_users, reward=reward, slate_size=2, item_vectors=vectors)
    env.reset(seed=0)
    *_, info = env.step([[0, 0], [1, 2]])
    cosine = vectors[1] @ vectors[2] / np.linalg.norm(vectors[1]) / np.linalg.norm(vectors[2])
    assert info["reward_parts"]["diversity"] == pytest.approx([0, 1 - cosine], abs=1e-6)


@pytest.mark.parametrize(
    ("reward", "error", "message"),
    [
        (1.0, TypeError, r"callable with \(response, context\)"),
        (DiversityReward(), ValueError, "pass item_vectors"),
        (
            DiversityReward(np.ones((29, 2))),
            ValueError,
            "vectors of 29 items, but item 29 was shown",
        ),
        (lambda response, context: np.zeros(2), ValueError, "must give a dict of named arrays"),
        (lambda response, context: {"a": np.zeros(3)}, ValueError, r"shape \(2,\), got 'a'"),
        (lambda response, context: {"a": 1.0}, ValueError, "got 'a': 1.0"),
    ],
)
def test_a_reward_that_cannot_work_fails_at_once(
    tiny_users: Any, reward: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        RecommendVectorEnv(2, users=tiny_users, slate_size=2, reward=reward)
