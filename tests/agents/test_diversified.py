from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from audience.agents.baselines import ConstantAgent
from audience.agents.diversified import DiversifiedAgent
from audience.agents.evaluation import evaluate
from audience.agents.measures import diversity

TOPICS = np.repeat(np.eye(3), 4, axis=0)
"""Items 0 to 3 of one topic, 4 to 7 of the next, 8 to 11 of the last."""

SCORES = np.linspace(1, 0, 12)


def observed(items: list[int]) -> dict[str, Any]:
    history = np.zeros((1, 6), np.int64)
    history[0, : len(items)] = items
    return {"item": history, "feedback": history * 0, "length": np.array([[len(items)]])}


@pytest.mark.parametrize(
    ("weight", "events", "slate"),
    [
        # Worths are 1, .99, .98 and so on, by place among what is not consumed.
        (0.0, [0], [1, 2, 3]),  # the agent's own
        # The last event is of topic 0, so its items lose the weight. Of what is left, item 4 is
        # third best; then item 5 is as near to item 4 as item 1 to the event, and item 1 is better.
        (0.5, [0], [4, 8, 1]),
        # A weight of less than a place moves nothing; of a place and a half, it moves the third
        # item, .98, behind the fourth, .97, which is of another topic.
        (0.008, [0], [1, 2, 3]),
        (0.015, [0], [1, 2, 4]),
        (0.035, [0], [4, 1, 2]),
        # Nothing consumed: the first place is the agent's, the second of another topic.
        (0.5, [], [0, 4, 8]),
    ],
)
def test_slates_worked_by_hand(weight: float, events: list[int], slate: list[int]) -> None:
    agent = DiversifiedAgent(ConstantAgent(SCORES), TOPICS, weight, slate_size=3)
    actions, state = agent.predict(observed(events))
    assert actions.tolist() == [slate] and state is None
    single = {name: part[0] for name, part in observed(events).items()}
    assert agent.predict(single)[0].tolist() == slate


def test_masks_and_candidates_are_obeyed() -> None:
    agent = DiversifiedAgent(ConstantAgent(SCORES), TOPICS, 0.5)
    mask = np.ones((1, 12), np.int8)
    mask[0, 4:8] = 0
    assert agent.predict({**observed([0]), "mask": mask})[0].tolist() == [8]
    among = np.array([[3, 9, 2, 10]])
    assert agent.predict({**observed([0]), "candidates": among})[0].tolist() == [1]
    short = DiversifiedAgent(ConstantAgent(SCORES), TOPICS, 0.5, slate_size=2)
    only = np.zeros((1, 12), np.int8)
    only[0, [2, 9]] = 1
    assert short.predict({**observed([0]), "mask": only})[0].tolist() == [[9, 2]]


def test_more_weight_more_diversity(tiny_users: Any) -> None:
    """And none is what the agent does itself."""
    base = ConstantAgent(np.linspace(1, 0, 30))
    plain = evaluate(base, tiny_users)
    topics = np.repeat(np.eye(5), 6, axis=0)  # the base goes through one after the other
    found = []
    for weight in (0.0, 0.2, 5.0):
        agent = DiversifiedAgent(base, topics, weight)
        sessions = evaluate(agent, tiny_users)
        if weight == 0:
            np.testing.assert_array_equal(sessions.recommended, plain.recommended)
        found.append(diversity(sessions.recommended[:, :, 0], topics))
    assert found[0] < found[1] < found[2]


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_bad_weights_are_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="weight must be a finite number of at least 0, got"):
        DiversifiedAgent(ConstantAgent(SCORES), TOPICS, weight)
