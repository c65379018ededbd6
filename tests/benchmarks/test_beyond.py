"""For whom and with what agents earn, on sessions written by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from audience.agents.evaluation import Evaluation
from audience.benchmarks.beyond import Known, beyond, segments_of
from audience.benchmarks.grid import settings_of
from audience.reward_models.histories import Histories
from audience.reward_models.users import Assumptions

NAMES = ["test-0", "test-1", "test-2"]


def known() -> Known:
    return Known(
        popularity=np.array([0.5, 0.25, 0.125, 0.125]),
        worth=np.array([0.0, 0.5, 1.0]),
        vectors=np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]),
        starts=Histories.from_lists([[(0, 2)], [(1, 2)], [(2, 2)]], NAMES),
        events={"test-0": 9, "test-1": 60, "test-2": 30},
    )


def two_steps() -> Evaluation:
    """User 0 takes the popular item 0 and the rare item 3; the others take nothing."""
    shown = np.array([[[0], [3]], [[1], [-1]], [[2], [2]]])
    chosen = np.array([[0, 3], [-1, -1], [-1, -1]])
    levels = np.array([[2, 1], [-1, -1], [-1, -1]])
    ones = np.ones(3, np.int64)
    return Evaluation(
        np.array(NAMES), np.array([1.5, 4.0, 7.0]), ones, ones, shown, chosen, levels, 4, 3
    )


def test_what_is_recommended() -> None:
    found = beyond(two_steps(), known())
    assert found["novelty"] == pytest.approx((1 + 3 + 2 + 3 + 3) / 5)
    assert found["diversity"] == pytest.approx((1 + 0) / 2)  # east and south; one item twice
    # (east + south) to east; north to north; west to west.
    assert found["calibration"] == pytest.approx((0.5**0.5 + 1 + 1) / 3)
    without = replace(known(), vectors=None)
    assert set(beyond(two_steps(), without)) == {"novelty"}


def test_for_whom_it_is_earned() -> None:
    found = segments_of({"simulator": {0: two_steps()}}, {0: known()})
    mean = {name: found[name]["simulator"]["return"]["mean"] for name in found}
    assert mean["new_users"] == 1.5 and mean["heavy_users"] == 4.0
    # Items 2 and 3 are the rare half; item 3 brought a half to one of three users.
    assert mean["rare_items"] == pytest.approx(0.5 / 3)


def test_items_are_numbered_anew_in_each_seed() -> None:
    other = replace(known(), popularity=np.array([0.1, 0.1, 0.4, 0.4]))  # 0 and 1 are rare here
    by_seed = {0: two_steps(), 1: two_steps()}
    found = segments_of({"simulator": by_seed}, {0: known(), 1: other})
    assert found["rare_items"]["simulator"]["return"]["mean"] == pytest.approx((0.5 + 1) / 2 / 3)


def rows(how: Any, taught: frozenset[str] = frozenset(), **own: Any) -> list[tuple[Any, ...]]:
    return [tuple(one.told.values()) for one in settings_of(Assumptions(**own), how, taught)]


def test_assumptions_are_changed_one_at_a_time_or_all_together() -> None:
    each = rows("each")
    assert each == [
        (0.4, "default", 0.0),
        (0.2, "default", 0.0),
        (0.6, "default", 0.0),
        (0.4, "low", 0.0),
        (0.4, "high", 0.0),
        (0.4, "default", 0.5),
        (0.4, "default", 1.0),
    ]
    assert len(rows("product")) == 27 and set(each) < set(rows("product"))
    assert rows("each", acceptance=0.5)[0] == (0.5, "default", 0.0)
    assert len(rows("each", acceptance=0.5)) == 8
    high = settings_of(Assumptions(leave_after_skip=0.7), "each")[4].assumptions
    assert (high.leave_after_choice, high.leave_after_skip) == (0.06, 1.0)


def test_what_the_log_teaches_is_not_set_otherwise_but_where_it_was_by_hand() -> None:
    leaving = frozenset(("leave_after_choice", "leave_after_skip"))
    slates = frozenset(("acceptance", "popularity_discount"))
    (as_learned,) = settings_of(Assumptions(), "product", leaving | slates)
    assert as_learned.assumptions == Assumptions()
    assert set(as_learned.told.values()) == {"learned"}
    assert rows("each", leaving)[:2] == [(0.4, "learned", 0.0), (0.2, "learned", 0.0)]
    by_hand = rows("each", slates, acceptance=0.5, leave_after_skip=0.0)
    assert by_hand[:2] == [(0.5, "default", "learned"), (0.2, "default", "learned")]
    assert len(by_hand) == 6
    # Of sessions without skips only leaving after a choice is known.
    high = settings_of(Assumptions(), "each", frozenset(["leave_after_choice"]))[4]
    assert high.told["leave"] == "high"
    assert (high.assumptions.leave_after_choice, high.assumptions.leave_after_skip) == (None, 0.3)
