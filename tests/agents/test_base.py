from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from audience.agents.base import Agent, ScoringAgent, top_items


class Fixed(ScoringAgent):
    """Scores items 0…n-1 as given."""

    def __init__(self, values: list[float], slate_size: int = 1) -> None:
        super().__init__(len(values), slate_size)
        self.values = np.array(values)

    def scores(
        self, items: NDArray[np.int64], levels: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> NDArray[np.floating[Any]]:
        return np.tile(self.values, (len(items), 1))


def observation(*histories: list[int], width: int = 4) -> dict[str, NDArray[np.int64]]:
    item = np.zeros((len(histories), width), np.int64)
    for row, history in zip(item, histories, strict=True):
        row[: len(history)] = history
    length = np.array([[len(history)] for history in histories])
    return {"item": item, "feedback": np.zeros_like(item), "length": length}


def single(history: list[int]) -> dict[str, NDArray[np.int64]]:
    return {key: value[0] for key, value in observation(history).items()}


def test_shapes_of_actions() -> None:
    values = [0.0, 1.0, 2.0, 3.0]
    assert isinstance(Fixed(values), Agent)
    for slate_size, one, batch in ((1, (), (2,)), (3, (3,), (2, 3))):
        agent = Fixed(values, slate_size)
        action, state = agent.predict(single([]), state="kept")
        assert action.shape == one and action.dtype == np.int64 and state == "kept"
        assert agent.predict(observation([], [1]))[0].shape == batch


def test_slate_is_best_first_without_what_was_consumed_or_masked() -> None:
    agent = Fixed([0.0, 5.0, 3.0, 4.0, 1.0, 2.0], slate_size=3)
    # Unused places hold 0, which is an item: it is consumed only where `length` says so.
    assert agent.predict(single([1]))[0].tolist() == [3, 2, 5]
    assert agent.predict(single([0, 1, 2, 3]))[0].tolist()[:2] == [5, 4]
    mask = np.array([1, 1, 1, 0, 1, 1], np.int8)
    assert agent.predict({**single([1]), "mask": mask})[0].tolist() == [2, 5, 4]
    for form in (mask, mask[None], np.tile(mask, 3)[None]):
        assert agent.predict(single([1]), action_masks=form)[0].tolist() == [2, 5, 4]
    both = np.stack([mask, np.ones(6, np.int8)])
    batch = agent.predict(observation([1], []), action_masks=both)[0]
    assert batch.tolist() == [[2, 5, 4], [1, 3, 2]]


def test_ties_go_to_the_lower_index() -> None:
    assert Fixed([1.0, 1.0, 1.0, 1.0, 0.0], 3).predict(single([1]))[0].tolist() == [0, 2, 3]
    assert Fixed([1.0, 1.0]).predict(single([]))[0] == 0


def test_minus_infinity_ranks_above_what_is_forbidden() -> None:
    agent = Fixed([-np.inf, 1.0, -np.inf, 9.0], 2)
    assert agent.predict(single([0, 3]))[0].tolist() == [1, 2]


@settings(deadline=None, max_examples=60)
@given(
    scores=hnp.arrays(np.float64, (3, 9), elements=st.sampled_from([-1.0, 0.0, 0.5, 2.0])),
    count=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_top_items_equals_a_full_sort(scores: NDArray[np.float64], count: int, seed: int) -> None:
    allowed = np.random.default_rng(seed).random(scores.shape) < 0.7
    expected = [
        sorted(range(9), key=lambda i: (not allowed[row, i], -scores[row, i] * allowed[row, i], i))
        for row in range(3)
    ]
    assert top_items(scores, allowed, count).tolist() == [row[:count] for row in expected]


def test_errors() -> None:
    with pytest.raises(ValueError, match="slate_size must be a number from 1 to .* 2 items, got 3"):
        Fixed([1.0, 2.0], 3)
    with pytest.raises(ValueError, match="scores must be numbers, got NaN in row 0"):
        Fixed([1.0, np.nan]).predict(single([]))
    with pytest.raises(ValueError, match=r"lacks \['length'\]"):
        Fixed([1.0]).predict({"item": np.zeros(1), "feedback": np.zeros(1)})
    with pytest.raises(ValueError, match=r"action_masks must have the shape \(2,\)"):
        Fixed([1.0, 2.0]).predict(single([]), action_masks=np.ones(3))
