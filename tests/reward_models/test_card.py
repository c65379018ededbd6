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
    assert set(read) == keys | {"slates", "dwell", "assumptions", "measured"}
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


def against(name: str, measures: dict[str, float]) -> dict[str, Any]:
    """Model minus rival of each measure, sure of its sign."""
    return {
        measure: {"mean": mean, "low": mean - 0.001, "high": mean + 0.001, "against": name}
        for measure, mean in measures.items()
    }


def full_card() -> dict[str, Any]:
    figures = {
        "nll": 0.25,
        "nll_low": 0.22,
        "nll_high": 0.27,
        "auc": 0.64,
        "ece": 0.01,
        "rmse": 0.4,
    }
    constant = {"model": figures, "constant": figures, "users": 80, "moments": 900}
    better = against("constant", {"nll": -0.004, "auc": 0.06, "rmse": -0.03})
    worse = against("constant", {"nll": 0.02, "auc": -0.01})
    one = {"judge": 0.9, "rival": 0.88, "worse": 0.0223, "low": 0.01, "high": 0.03}
    fails, holds = one | {"competent": False}, one | {"worse": -0.01, "competent": True}
    simulation = {"discriminator_auc": 0.6, "discriminator_check_auc": 0.9, "feedback_tv": 0.03}
    simulation |= {"session_length_ks": 0.07, "popularity_ks": None}
    length = {"sessions": 1_390, "real": 6.25, "simulated": 6.5}
    cold = {name: figures for name in ("text", "no_text", "shuffled_text")}
    changes = {
        "leave": constant | {"difference": better},
        "slates": constant | {"difference": worse},
        "dwell": constant | {"difference": better},
        "cold_items": cold | {"difference": against("no_text", {"rmse": -0.01, "auc": 0.05})},
        "simulation": simulation | {"session_length": length, "curves": {}},
        "judges": {
            "als": {"competent": True, "sentence": "competent (0.4 % worse)", "feedback": None,
                    "choice": {"ndcg@10": holds}, "tolerance": 0.01},
            "boosted": {"competent": False, "feedback": {"rmse": fails},
                        "half": {"ndcg@10": holds | {"deciding": False}}},
        },
        "ablation": {"text_encoder": {
            "bert": {"rmse": 0.86, "rmse_low": 0.85, "rmse_high": 0.87, "settings": {"a": 1}},
            "tfidf": {"rmse": 0.87, "auc": 0.7},
        }},
    }  # fmt: skip
    return card(**changes)


def test_what_responses_were_learned_is_said_and_tabled() -> None:
    page, said = markdown(full_card()), trust(full_card())
    for learned in ("which item of a slate", "when a user leaves", "how long a user spends"):
        assert f"- {learned}" in page.split("## What is assumed")[0]
    slates = next(line for line in said if line.startswith("Slates"))
    assert "WORSE than a constant (+0.020" in slates
    leave = next(line for line in said if line.startswith("Leaving"))
    assert "0.250, better than a constant (-0.004" in leave
    assert any("probability of leaving is off by 0.010" in line for line in said)
    assert not any("assumption" in line for line in said)
    for title in ("Responses to slates", "Leaving", "Dwell time"):
        section = page.split(f"## {title}\n")[1].split("\n## ")[0]
        assert "| this model | 0.250 (0.220 to 0.270) |" in section
        assert "| constant | 0.250 (0.220 to 0.270) |" in section
        assert "| NLL | " in section.split("paired over users")[1]


def test_cold_items_sessions_judges_and_ablations_are_said_and_tabled() -> None:
    page, said = markdown(full_card()), trust(full_card())
    cold = next(line for line in said if line.startswith("Items never met"))
    assert "0.640, better than fitting with no text (+0.050" in cold
    assert "| with text | 0.400 | 0.640 |" in page and "| AUC | +0.0500" in page
    assert "With text minus the better of the others" in page
    length = next(line for line in said if line.startswith("Session lengths"))
    assert "0.070 apart" in length and "mean 6.2 steps real, 6.5 simulated" in length
    assert "| length of sessions, KS distance | 0.070 |" in page
    assert "popularity of items" not in page  # null
    assert "Judge als: competent (0.4 % worse)." in said
    assert "Judge boosted: NOT competent." in said
    row = "| boosted | feedback, RMSE | 0.900 | 0.880 | +2.2% (+1.0% to +3.0%) | no |"
    assert row in page
    assert "| als | choice, NDCG@10 |" in page and "| yes |" in page
    assert next(x for x in page.splitlines() if x.startswith("| boosted | half")).endswith("| - |")
    assert "## Ablation: text encoder" in page
    assert "| bert | 0.860 (0.850 to 0.870) | undefined |" in page


def test_all_tables_of_a_full_card_are_rectangular() -> None:
    for block in markdown(full_card()).replace("\\|", "").split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.strip().splitlines()}) == 1
    assert json.dumps(full_card(), allow_nan=False)


def test_item_neighbours_are_a_row_of_choice_where_they_were_fitted() -> None:
    ranks = {"ndcg@10": 0.03, "hit@10": 0.1, "half_ndcg@10": 0.5, "half_hit@10": 0.9}
    choice = measured()["choice"] | {"item_knn": ranks}
    page = markdown(card(choice=choice))
    assert "| item-KNN | 0.030 | 0.100 | 0.500 | 0.900 |" in page


def test_too_few_users_to_simulate_is_said() -> None:
    simulation = {"discriminator_auc": None, "feedback_tv": None, "session_length_ks": None}
    page = markdown(card(simulation=simulation))
    assert "too few users to compare" in page and "Nothing could be measured" in page
