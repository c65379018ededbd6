from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from audience.agents.item_knowledge import known_of_items
from audience.benchmarks.speed_users import synthetic_users


@pytest.fixture(scope="module")
def users() -> Any:
    return synthetic_users(60, "tiny", device="cpu")


def test_items_that_the_same_users_met_are_near(users: Any) -> None:
    """Two groups of items in EASE's matrix lie apart along an axis; nothing of texts is in it."""
    group = torch.arange(60) % 2
    users.model.inputs.ease[0] = (group[:, None] == group).float() - torch.eye(60)
    known = known_of_items(users, text=False)
    assert known is not None and len(known) == 60 and np.isfinite(known).all()
    # Of the first axes one tells the groups apart, by more than a hundred times the spread within.
    axes = known[:, :2]
    apart = np.abs(axes[group == 0].mean(0) - axes[group == 1].mean(0))
    within = np.maximum(axes[group == 0].std(0), axes[group == 1].std(0))
    assert (apart > 100 * within).any()


def test_texts_stand_beside_it_and_the_same_comes_out_again(users: Any) -> None:
    alone, both = known_of_items(users, text=False), known_of_items(users, text=True)
    assert alone is not None and both is not None
    np.testing.assert_array_equal(both[:, 32 : 32 + alone.shape[1]], alone)
    base = users.model.inputs.base[0].numpy()
    assert abs(np.corrcoef(both[:, -1], base)[0, 1]) == pytest.approx(1)
    np.testing.assert_allclose(both[:, :32].std(0), 1, rtol=1e-3)
    torch.manual_seed(5)
    np.testing.assert_array_equal(both, known_of_items(users, text=True))


def test_without_texts_nothing_is_given_that_texts_decide(users: Any) -> None:
    """Factors and means of the users' inputs have the texts as their prior."""
    inputs = users.model.inputs
    before = known_of_items(users, text=False)
    base, design = inputs.base.clone(), inputs.design.clone()
    inputs.base.normal_()
    inputs.design.normal_()
    after = known_of_items(users, text=False)
    inputs.base.copy_(base)
    inputs.design.copy_(design)
    assert before is not None and after is not None
    np.testing.assert_array_equal(before, after)


def test_users_without_filters_give_their_texts_alone(tiny_users: Any) -> None:
    known = known_of_items(tiny_users, text=True)
    assert known is not None and known_of_items(tiny_users, text=False) is None
