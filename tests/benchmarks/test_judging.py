"""Whose kin judges are, and how their competence is told."""

from __future__ import annotations

from typing import Any

from audience.benchmarks.judging import kin_of, summary
from audience.benchmarks.roster import ROSTER
from audience.reward_models.inputs import INPUTS


def test_kin_by_scorer_and_by_the_simulators_inputs() -> None:
    of_als = kin_of("als", ROSTER, ())
    assert {"als", "explicit_als", "ease", "ease_feedback", "item_knn"} <= set(of_als)
    assert not {"popularity", "bpr", "text_knn", "ppo", "greedy", "random"} & set(of_als)
    # The users that RL learns from, and greedy reads, take EASE and ALS in.
    assert {"ppo", "a2c", "greedy", "choice"} <= set(kin_of("als", ROSTER, INPUTS))
    assert "ppo" not in kin_of("als", ROSTER, ("followers",))
    of_boosted = set(kin_of("boosted", ROSTER, ()))
    assert "item_knn" in of_boosted and not {"ease", "als", "explicit_als"} & of_boosted


def found(competent: bool) -> dict[str, Any]:
    measure = {
        "judge": 1.0,
        "rival": 1.0,
        "worse": 0.0,
        "low": -0.005,
        "high": 0.005 if competent else 0.2,
        "competent": competent,
        "vetoes": False,
        "deciding": True,
    }
    return {
        "competent": competent,
        "sentence": "-",
        "tolerance": 0.01,
        "feedback": None,
        "choice": {"ndcg@10": measure},
        "half": None,
    }


def test_a_judge_is_competent_beside_every_rival() -> None:
    seeds = [
        {"als": {"ease": found(True), "simulator": found(good)}, "boosted": {"ease": found(True)}}
        for good in (True, False)
    ]
    told = summary(seeds, {"als": ["ease"], "boosted": []})
    assert told["als"]["kin"] == ["ease"] and not told["als"]["competent"]
    assert told["als"]["competence"]["ease"]["competent"]
    assert not told["als"]["competence"]["simulator"]["competent"]
    assert told["boosted"]["competent"]
