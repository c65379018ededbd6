"""What variety costs, on sessions written by hand, and how it is drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from audience.agents.evaluation import Evaluation
from audience.benchmarks.beyond import Known
from audience.benchmarks.front import front
from audience.benchmarks.report_blocks import Pictures
from audience.benchmarks.report_front import front_section
from audience.reward_models.histories import Histories

NAMES = ["test-0", "test-1"]


def known() -> Known:
    return Known(
        popularity=np.full(4, 0.25),
        worth=np.array([0.0, 1.0]),
        vectors=np.repeat(np.eye(2), 2, axis=0),  # two items of each of two topics
        starts=Histories.from_lists([[(0, 1)], [(2, 1)]], NAMES),
        events={"test-0": 9, "test-1": 9},
    )


def sessions(shown: list[list[int]], returns: list[float]) -> Evaluation:
    items = np.array(shown)[:, :, None]
    two, nothing = np.full(2, 2), np.full((2, 2), -1)
    return Evaluation(
        np.array(NAMES), np.array(returns), two, two * 0, items, nothing, nothing, 4, 2
    )


def rows() -> list[dict[str, Any]]:
    own = {"judge_als": {0: sessions([[0, 1], [2, 3]], [3.0, 5.0])}}
    varied = {"judge_als": {0: sessions([[0, 2], [2, 3]], [2.0, 5.0])}}
    return front("ease", "cf", {1.0: varied, 0.0: own}, {0: known()})


def test_rows_worked_by_hand() -> None:
    own, varied = rows()
    assert (own["agent"], own["kind"], own["weight"], varied["weight"]) == ("ease", "cf", 0.0, 1.0)
    # Both topics of its own sessions are one; then one of two sessions has two.
    assert own["judge_als"]["diversity"] == 0.0
    assert varied["judge_als"]["diversity"] == pytest.approx(0.5)
    assert own["judge_als"]["return"]["mean"] == 4 and own["judge_als"]["difference"] is None
    assert varied["judge_als"]["difference"]["mean"] == pytest.approx(-0.5)


def test_each_world_is_drawn_and_told() -> None:
    section = front_section({"diversity_front": rows()})
    assert section is not None
    text, pictures, table = section.blocks
    assert "ease, re-ranked" in str(text)
    (picture,) = pictures.pictures  # type: ignore[union-attr]
    assert picture.file == "diversity_judge_als"
    label = picture.drawing.label
    assert label.startswith("Return and diversity, judge als: ease: 0.00 4.00 [3.00, 5.00], 0.50")
    assert [row[1] for row in table.rows] == ["0", "1"]  # type: ignore[union-attr]


@pytest.mark.parametrize("found", [None, [], [{"agent": "ease", "weight": 0.0}]])
def test_nothing_is_drawn_of_nothing(found: Any) -> None:
    assert front_section({"diversity_front": found}) is None


def test_sessions_of_one_item_have_no_diversity() -> None:
    one = {"simulator": {0: sessions([[0, -1], [2, -1]], [1.0, 1.0])}}
    (row,) = front("ppo", "rl", {0.0: one}, {0: known()})
    assert row["simulator"]["diversity"] is None
    section = front_section({"diversity_front": [row]})
    assert section is not None
    assert not any(isinstance(block, Pictures) for block in section.blocks)
