"""The card: what it says follows from the numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from audience.reward_models.card import card_of, markdown, summary, trust, write_card

DIFFERENCE = {"mean": -0.01, "low": -0.02, "high": -0.005, "against": "als"}


def measured(difference: dict[str, Any] | None = None) -> dict[str, Any]:
    difference = difference or DIFFERENCE
    figures = {"rmse": 0.86, "rmse_low": 0.83, "rmse_high": 0.89, "nll": 1.7, "auc": 0.78}
    figures |= {"gauc": 0.7, "ece": 0.015}
    ranks = {"ndcg@10": 0.07, "hit@10": 0.1, "half_ndcg@10": 0.5, "half_hit@10": 0.9}
    opposite = {"mean": 0.01, "low": 0.005, "high": 0.02, "against": "ease"}
    return {
        "feedback": {
            "model": figures,
            "user_item_mean": figures | {"auc": None},
            "als": figures,
            "item_knn": None,
            "difference": dict.fromkeys(("rmse", "nll", "auc", "gauc"), difference),
        },
        "choice": {
            "model": ranks,
            "popularity": ranks,
            "ease": ranks,
            "difference": dict.fromkeys(ranks, opposite),
        },
        "measured": {"users": 1_234, "events": 56_789, "first_event": 6},
    }


def card(**changes: Any) -> dict[str, Any]:
    return card_of("movielens", {"window": 64, "a|b": "c"}, measured(), ["leave: 3 %"]) | changes


def test_the_keys_are_those_of_the_format(tmp_path: Path) -> None:
    write_card(tmp_path, card())
    read = json.loads((tmp_path / "card.json").read_text())
    keys = {"log", "settings", "feedback", "choice", "leave", "cold_items", "simulation"}
    assert set(read) == keys | {"assumptions", "measured"}
    assert read == card()
    assert (tmp_path / "card.md").read_text() == markdown(card())


@pytest.mark.parametrize(
    ("mean", "low", "high", "word"),
    [
        (-0.01, -0.02, -0.005, "better than the best baseline, explicit ALS"),
        (0.01, 0.005, 0.02, "WORSE than the best baseline, explicit ALS"),
        (-0.01, -0.02, 0.001, "not to be told from the best baseline, explicit ALS"),
    ],
)
def test_the_verdict_on_rmse_follows_the_interval(
    mean: float, low: float, high: float, word: str
) -> None:
    difference = {"mean": mean, "low": low, "high": high, "against": "als"}
    said = trust(card(**measured(difference)))
    rmse = next(line for line in said if "RMSE" in line)
    assert word in rmse and f"{low:+.3f} to {high:+.3f}" in rmse


def test_lower_is_better_for_errors_and_worse_for_auc() -> None:
    said = trust(card())  # every feedback difference is negative, every choice one positive
    words = {name: next(s for s in said if f"({name})" in s) for name in ("NLL", "AUC", "NDCG@10")}
    assert "better" in words["NLL"] and "WORSE" in words["AUC"] and "better" in words["NDCG@10"]


def test_the_page_starts_with_words_and_marks_what_is_undefined() -> None:
    page = markdown(card())
    titles = [line for line in page.splitlines() if line.startswith("#")]
    assert titles[:4] == [
        "# Users fitted to movielens",
        "## What was learned",
        "## What is assumed",
        "## How far to trust it",
    ]
    assert "- leave: 3 %" in page
    assert "1,234 users" in page and "56,789 events" in page
    assert "| this model | 0.860 (0.830 to 0.890) | 1.700 | 0.780 | 0.700 | 0.015 |" in page
    assert "| user-and-item mean | 0.860 (0.830 to 0.890) | 1.700 | undefined |" in page
    assert "item-KNN" not in page  # null: not fitted
    assert "| RMSE | -0.0100 (-0.0200 to -0.0050) | explicit ALS |" in page
    assert "a\\|b" in page


def test_tables_are_rectangular() -> None:
    block: list[int] = []
    for line in [*markdown(card()).splitlines(), ""]:
        if line.startswith("|"):
            block.append(line.replace("\\|", "").count("|"))
        else:
            assert len(set(block)) <= 1
            block = []


def test_an_implicit_log_says_so_and_what_is_null_is_named() -> None:
    page = markdown(card(feedback=None))
    assert "single level" in page and "## Feedback" not in page and "## Choice" in page
    assert "which feedback a user gives" not in page
    assert "do not take a return in simulation" in page
    assert "do not take a return in simulation" not in markdown(card(simulation={"auc": 0.6}))


def test_nothing_measured_is_a_card_that_warns() -> None:
    counts = {"users": 0, "events": 0, "first_event": 6}
    bare = card_of("mine", {}, {"feedback": None, "choice": None, "measured": counts}, [])
    assert "Do not rely on this model" in summary(bare)
    assert "nothing that could be measured" in markdown(bare)


def test_too_few_users_for_an_interval() -> None:
    difference = {"mean": None, "low": None, "high": None, "against": "als"}
    assert any("undefined on these users" in s for s in trust(card(**measured(difference))))
    difference = {"mean": 0.5, "low": None, "high": None, "against": "als"}
    assert any("too few users" in s for s in trust(card(**measured(difference))))


def test_nan_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_card(tmp_path, card(simulation={"auc": float("nan")}))
    assert list(tmp_path.iterdir()) == []
