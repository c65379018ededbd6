from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from audience.agents.base import Agent
from audience.agents.baselines import ConstantAgent, RandomAgent
from audience.agents.evaluation import Evaluation, bootstrap_interval, evaluate
from audience.agents.greedy import GreedyAgent
from audience.reward_models.histories import Histories
from audience.reward_models.users import Assumptions


def test_every_user_of_the_population_is_met_once(tiny_users: Any) -> None:
    agent = RandomAgent(30, 3)
    result = evaluate(agent, tiny_users, sessions_per_user=2, slate_size=3, step_limit=6)
    names = tiny_users.starts("test").users.tolist()
    assert result.users.tolist() == names * 2
    assert result.recommended.shape == (20, 6, 3) and result.chosen.shape == (20, 6)
    consumed = Histories.padded(tiny_users.starts("test"))[0]
    for session in range(20):
        length = result.length[session]
        assert 1 <= length <= 6
        shown, chosen = result.recommended[session], result.chosen[session]
        assert (shown[:length] >= 0).all() and (shown[length:] == -1).all()
        assert (chosen[length:] == -1).all()
        seen = set(consumed[session % 10].tolist())
        for slate, item in zip(shown[:length].tolist(), chosen[:length].tolist(), strict=True):
            assert len(set(slate)) == 3 and not seen & set(slate)
            assert item == -1 or item in slate
            seen |= {item} - {-1}


def test_agents_are_compared_in_pairs(tiny_users: Any) -> None:
    """An agent meets the same draws whatever stood before; another seed brings others."""
    scores = np.linspace(1, 0, 30)
    one, same = (evaluate(ConstantAgent(scores), tiny_users, seed=3) for _ in range(2))
    other = evaluate(ConstantAgent(scores), tiny_users, seed=4)
    np.testing.assert_array_equal(one.return_, same.return_)
    np.testing.assert_array_equal(one.chosen, same.chosen)
    assert (one.return_ != other.return_).any()


def test_returns_likes_and_lengths_are_those_of_the_first_session(tiny_users: Any) -> None:
    # Nobody leaves before the limit, everybody leaves at once: known lengths.
    stay = {"leave_after_choice": 0.0, "leave_after_skip": 0.0}
    full = evaluate(RandomAgent(30), tiny_users, step_limit=7, acceptance=0.9999, **stay)
    assert (full.length == 7).all() and (full.chosen >= 0).mean() > 0.95
    # Rewards are scaled levels and likes are the upper part of them.
    assert (full.return_ >= 0.75 * full.likes).all() and (full.return_ <= 7).all()
    # Some leave early; what their slots live through after that does not count.
    some = evaluate(
        RandomAgent(30),
        tiny_users,
        sessions_per_user=5,
        acceptance=0.9999,
        leave_after_choice=0.3,
    )
    choices = (some.chosen >= 0).sum(1)
    assert len(set(some.length.tolist())) > 3 and (choices <= some.length).all()
    assert (some.return_ <= choices).all() and (some.likes <= choices).all()
    gone = evaluate(RandomAgent(30), tiny_users, leave_after_choice=1.0, leave_after_skip=1.0)
    assert (gone.length == 1).all() and (gone.return_ <= 1).all()
    assert (gone.recommended[:, 0] >= 0).all() and (gone.recommended[:, 1:] == -1).all()


def test_summary_worked_by_hand() -> None:
    result = Evaluation(
        users=np.array(["a", "b", "a", "b"]),
        return_=np.array([1.0, 2.0, 3.0, 6.0]),
        length=np.array([1, 2, 2, 1]),
        likes=np.array([1, 0, 2, 0]),
        recommended=np.array([[[0], [-1]], [[0], [1]], [[0], [0]], [[1], [-1]]]),
        chosen=np.array([[0, -1], [-1, 1], [-1, 0], [-1, -1]]),
        levels=np.array([[4, -1], [-1, 1], [-1, 4], [-1, -1]]),
        n_items=4,
        n_users=2,
    )
    assert result.user_returns().tolist() == [2.0, 4.0]
    summary = result.summary()
    assert summary["return"] == {"mean": 3.0, "iqm": 3.0, "low": 2.0, "high": 4.0}
    assert summary["session_length"] == 1.5 and summary["coverage"] == 0.5
    assert summary["like_rate"] == 0.5 and summary["acceptance"] == 0.5
    assert summary["gini"] == pytest.approx(2 * (3 * 2 + 4 * 4) / (4 * 6) - 5 / 4)


def test_bootstrap() -> None:
    values = np.random.default_rng(0).normal(5, 2, 400)
    low, high = bootstrap_interval(values, seed=1)
    assert (low, high) == bootstrap_interval(values, seed=1)
    # 1.96 standard errors either side.
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.05)
    assert high == pytest.approx(values.mean() + half, abs=0.05)


class Scored:
    """The tiny users, and a score: what they would take of a slate of one."""

    def __init__(self, users: Any) -> None:
        self.users = users
        self.asked: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.users, name)

    def score(
        self,
        items: NDArray[np.int64],
        levels: NDArray[np.int64],
        lengths: NDArray[np.int64],
        assumptions: Assumptions,
        slate_size: int,
        top: int = 200,
    ) -> NDArray[np.float32]:
        self.asked.append((assumptions, slate_size, top))
        used = np.arange(items.shape[1]) < lengths[:, None]
        taste = (self.users.vectors[items] * used[..., None]).sum(1) / lengths[:, None]
        scores = (taste @ self.users.vectors.T).astype(np.float32)
        worst = scores.argsort(1)[:, :5]
        np.put_along_axis(scores, worst, -np.inf, 1)
        return scores


def test_greedy_on_the_user_model_beats_random(tiny_users: Any) -> None:
    users = Scored(tiny_users)
    assumptions = Assumptions(acceptance=0.5)
    greedy = GreedyAgent(users, assumptions, slate_size=2)  # type: ignore[arg-type]
    assert isinstance(greedy, Agent)
    settings: dict[str, Any] = {"sessions_per_user": 8, "slate_size": 2, "acceptance": 0.5}
    best = evaluate(greedy, tiny_users, **settings).summary()["return"]
    rest = evaluate(RandomAgent(30, 2), tiny_users, **settings).summary()["return"]
    assert best["low"] > rest["high"]
    assert users.asked[0] == (assumptions, 2, 200)


def test_errors(tiny_users: Any) -> None:
    with pytest.raises(TypeError, match="method `score` .* got TinyUsers"):
        GreedyAgent(tiny_users)
    with pytest.raises(ValueError, match="sessions_per_user must be at least 1, got 0"):
        evaluate(RandomAgent(30), tiny_users, sessions_per_user=0)
    with pytest.raises(ValueError, match="population"):
        evaluate(RandomAgent(30), tiny_users, population="nobody")  # type: ignore[arg-type]
