"""Settings chosen by return in the simulator."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import pytest
from numpy.typing import NDArray

from audience.agents import trials as module
from audience.agents.baselines import ConstantAgent
from audience.agents.evaluation import evaluate
from audience.agents.trials import Trials
from audience.agents.tuning import TunedAgent
from audience.reward_models.histories import Histories


class Shifted(TunedAgent):
    """Scores of the tiny users' own taste, turned by an angle: 0 is the best there is."""

    GRID: ClassVar[dict[str, tuple[Any, ...]]] = {"size": (1.0, 2.0), "angle": (3.0, 1.5, 0.0)}
    SCORING: ClassVar[frozenset[str]] = frozenset({"angle"})
    fits = 0

    def __init__(self, vectors: Any, angle: float = 3.0, slate_size: int = 1) -> None:
        super().__init__(len(vectors), slate_size)
        self.vectors, self.angle = vectors, angle

    @classmethod
    def fit(  # type: ignore[override]
        cls,
        histories: Any,
        catalogue: Any,
        scale: Any,
        slate_size: int = 1,
        size: float = 1.0,
        angle: float = 3.0,
        vectors: Any = None,
    ) -> Self:
        cls.fits += 1
        return cls(size * vectors, angle, slate_size)

    def parameters(self) -> dict[str, Any]:
        return {"vectors": self.vectors, "angle": self.angle, "slate_size": self.slate_size}

    def scores(
        self, items: NDArray[np.int64], levels: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> NDArray[np.floating[Any]]:
        used = np.arange(items.shape[1]) < lengths[:, None]
        taste = (self.vectors[items] * used[..., None]).sum(1)
        c, s = np.cos(self.angle), np.sin(self.angle)
        return np.asarray(taste @ np.array([[c, s], [-s, c]]) @ self.vectors.T)


def test_the_settings_of_the_highest_return_win(tiny_users: Any) -> None:
    trials = Trials(tiny_users, steps=4000, env_kwargs={"step_limit": 10})
    starts = tiny_users.starts("validation")
    Shifted.fits = 0
    agent = Shifted.tune(
        starts,
        starts,
        tiny_users.catalogue,
        tiny_users.scale,
        trials=trials,
        vectors=tiny_users.vectors,
    )
    assert agent.settings["angle"] == 0.0 and agent.angle == 0.0
    assert Shifted.fits == 2  # angles only score differently
    assert len(agent.tuning) == 6
    by_angle = {row["angle"]: row["return"] for row in agent.tuning}
    assert by_angle[0.0] > by_angle[3.0] + 0.5
    # A third of them goes on, with more sessions; the budget holds, and is used.
    sessions = sorted(row["sessions"] for row in agent.tuning)
    assert sessions[0] == sessions[3] and sessions[4] > 2 * sessions[3]
    assert 1000 < sum(row["steps"] for row in agent.tuning) <= 4000


def test_without_a_simulator_the_ranking_decides(tiny_users: Any) -> None:
    histories = Histories.from_lists([[(2 * i, 1) for i in range(6)]] * 3)
    agent = Shifted.tune(
        histories,
        histories,
        tiny_users.catalogue,
        tiny_users.scale,
        vectors=np.eye(30)[:, :2] + np.arange(30)[:, None] % 2 * [[0, 9.0]],
    )
    assert set(agent.tuning[0]) == {"size", "angle", "ndcg@10"}
    best = max(row["ndcg@10"] for row in agent.tuning)
    chosen = [row for row in agent.tuning if agent.settings.items() <= row.items()]
    assert chosen[0]["ndcg@10"] == best


def test_a_trial_is_the_evaluation_that_it_stands_for(
    tiny_users: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    agents = [ConstantAgent(rng.random(30), 2) for _ in range(3)]
    kwargs = {"step_limit": 6, "slate_size": 2}
    trials = Trials(tiny_users, steps=0, env_kwargs=kwargs, seed=3)
    rows = trials.race(agents)
    for agent, row in zip(agents, rows, strict=True):
        found = evaluate(
            agent, tiny_users, population="validation", seed=module.DRAWS * 4, **kwargs
        )
        assert row["return"] == pytest.approx(found.return_.mean())
        assert row["steps"] == found.length.sum() and row["sessions"] == 1
    monkeypatch.setattr(module, "SLOTS", 1)  # one agent at a time
    assert trials.race(agents) == rows
    assert trials.race(agents[:1])[0] == rows[0]


def test_more_budget_means_more_sessions_and_other_draws_in_each_round(
    tiny_users: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int, int]] = []
    live = Trials._live

    def watched(self: Trials, agents: Any, slots: int, seed: int) -> Any:
        seen.append((len(agents), slots // 8, seed - module.DRAWS))
        return live(self, agents, slots, seed)

    monkeypatch.setattr(Trials, "_live", watched)
    agents = [ConstantAgent(np.roll(np.arange(30.0), i)) for i in range(9)]
    Trials(tiny_users, steps=9 * 8 * 10 * 6, env_kwargs={"step_limit": 10}).race(agents)
    (first, few, start), (second, more, later) = seen
    assert (first, second) == (9, 3) and few == 3 and more > 2 * few
    assert start == 0 and later == few * 8  # no session of the first round again
