"""What folds of the collaborative inputs know of items whose feedback they do without."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from audience.reward_models.coming import KINDS
from audience.reward_models.histories import Histories
from audience.reward_models.input_fitting import fit_inputs, set_coming
from audience.reward_models.inputs import CollaborativeInputs

N_ITEMS, LEVELS, COLD = 40, np.array([1.0, 2.0, 3.0]), 7


def fitted(cold: bool, given: int = 0) -> CollaborativeInputs:
    """One fold of 60 users who all meet the item COLD, and give it this level."""
    rng = np.random.default_rng(0)
    others = np.delete(np.arange(N_ITEMS), COLD)
    taken = [[(item, item % 3) for item in rng.permutation(others)[:12]] for _ in range(60)]
    users = [[*first[:6], (COLD, given), *first[6:]] for first in taken]
    histories = Histories.from_lists(users)
    without = np.zeros((1, N_ITEMS), bool)
    without[0, COLD] = cold
    vectors = np.eye(3, dtype=np.float32)[np.arange(N_ITEMS) % 3]  # says what the level is
    inputs = fit_inputs(
        [(histories, LEVELS[histories.levels])],
        N_ITEMS,
        LEVELS,
        factors=2,
        penalty=2.0,
        ease_l2=5.0,
        seed=0,
        vectors=vectors,
        cold=without,
    )
    set_coming(inputs, [histories], vectors, np.ones(len(KINDS)))
    return inputs


def test_an_item_without_its_feedback_is_what_its_text_says() -> None:
    """Users who give the worst level to COLD, whose text is that of items of the middle level."""
    known, cold = fitted(cold=False), fitted(cold=True)
    alike = [item for item in range(N_ITEMS) if item % 3 == COLD % 3 and item != COLD]
    assert known.base[0, COLD] < 1.2
    assert cold.base[0, COLD] == pytest.approx(float(cold.base[0, alike].mean()), abs=0.1)
    assert cold.item_levels[0, COLD].argmax() == 1  # the middle one
    assert cold.item_facts[0, COLD, 1] == 0 and known.item_facts[0, COLD, 1] > 0
    assert not cold.neighbours[0, COLD].any()


def test_what_goes_with_an_item_is_learned_without_its_feedback() -> None:
    known, cold = fitted(cold=False), fitted(cold=True)
    assert torch.equal(known.ease, cold.ease) and known.ease[0, COLD].any()
    assert torch.equal(known.coming, cold.coming) and known.coming[0, COLD].any()


def test_features_of_an_item_without_its_feedback_are_those_of_one_never_met() -> None:
    """However it goes with others: an item that was never met has no such scores in use."""
    inputs = fitted(cold=True)
    statistics = inputs.empty(1)
    rows, values = torch.zeros(1, dtype=torch.int64), torch.from_numpy(LEVELS).float()
    for item in (0, 1, 2):
        inputs.add(statistics, rows, torch.tensor([item]), torch.tensor([item]), values)
    asked = torch.tensor([[COLD]])
    known = inputs.known(statistics, rows, asked)
    assert known.scores.all()
    unmet = dataclasses.replace(known, scores=0 * known.scores)
    rest = asked, torch.zeros(1, dtype=torch.int64), torch.ones(1, dtype=torch.bool)
    assert torch.equal(inputs.query_features(known, *rest), inputs.query_features(unmet, *rest))
