"""Policies in the simulator under replay's masks, with a simulator whose answer is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from audience.agents.base import Observation
from audience.benchmarks.masked import masked_values
from audience.reward_models.fit_data import FitData
from audience.reward_models.histories import Histories
from audience.reward_models.log import InteractionLog


class Flatterers:
    """Users who give everything the highest level."""

    def feedback(self, histories: Histories, items: NDArray[np.int64]) -> NDArray[np.float64]:
        shares = np.zeros((*items.shape, 5))
        shares[..., 4] = 1.0
        return shares


class Oracle:
    """Picks the open item of the highest number; items of high number are those liked."""

    def __init__(self) -> None:
        self.widths: set[tuple[int, ...]] = set()

    def predict(
        self, observation: Observation, state: Any = None, *_: Any, **__: Any
    ) -> tuple[NDArray[np.int64], Any]:
        self.widths.add((observation["item"].shape[1], observation["feedback"].shape[1]))
        assert observation["mask"].dtype == np.int8
        return np.where(observation["mask"] > 0, np.arange(60), -1).argmax(1), state


def log_of(length: int) -> InteractionLog:
    """Users with `length` of 60 items each, who give item i one of five levels by its number."""
    rng = np.random.default_rng(0)
    rows = [
        (f"u{u}", f"i{i}", 1.0 + i // 12, float(place))
        for u in range(60)
        for place, i in enumerate(rng.permutation(60)[:length].tolist())
    ]
    columns = ["user_id", "item_id", "feedback", "timestamp"]
    events = pl.DataFrame(rows, schema=columns, orient="row")
    items = pl.DataFrame({"item_id": [f"i{i}" for i in range(60)], "title": ["-"] * 60})
    return InteractionLog.from_frames(events, items)


def test_the_simulator_and_the_truth_under_the_same_masks() -> None:
    data = FitData.of(log_of(50), "a", 0)
    oracle = Oracle()
    users: Any = Flatterers()
    found = masked_values({"oracle": oracle}, users, data, seed=0, window=38)
    assert found is not None and oracle.widths == {(38, 38)}
    assert len(found["users"]) == len(data.histories["test"])
    values = {name: np.mean(of, axis=1) for name, of in found["values"].items()}
    assert len(values) >= 11 and all(simulated == 5.0 for simulated, _ in values.values())
    # 10 of 42 items: all but the best are of the lower levels.
    truth = {name: real for name, (_, real) in values.items()}
    assert truth["oracle"] > 4.5 and truth["oracle"] >= max(truth.values())
    assert truth["random"] == pytest.approx(3, abs=0.5)
    assert truth["worst_feedback"] < 1.5
    assert masked_values({}, users, FitData.of(log_of(12), "a", 0), 0, 38) is None
