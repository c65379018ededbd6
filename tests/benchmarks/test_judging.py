"""Whose kin judges are, and how their competence is told."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from audience.benchmarks import judging
from audience.benchmarks.judging import kin_of, qualities, summary
from audience.benchmarks.roster import ROSTER
from audience.reward_models.inputs import INPUTS


def test_kin_by_scorer_and_by_the_simulators_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {
        "als": SimpleNamespace(kin=("ease", "item_knn")),
        "boosted": SimpleNamespace(kin=("item_knn",)),
    }
    monkeypatch.setattr(judging, "JUDGES", kinds)
    of_als = set(kin_of("als", ROSTER, ()))
    assert of_als == {"als", "explicit_als", "ease", "ease_feedback", "item_knn"}
    assert kin_of("boosted", ROSTER, ()) == ["item_knn"]
    # The users that RL learns from, and greedy reads, take EASE and ALS in.
    through = set(kin_of("als", ROSTER, INPUTS)) - of_als
    assert {"ppo", "a2c", "greedy", "choice"} <= through
    assert not {"popularity", "bpr", "text_knn", "random", "linucb"} & through
    assert "ppo" not in kin_of("als", ROSTER, ("followers",))
    # A judge is kin of who learned in users of its class.
    learned = set(kin_of("boosted", ROSTER, (), ["boosted"]))
    assert {"ppo", "a2c", "dqn"} <= learned and not {"ppo_alone", "greedy", "ease"} & learned


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


def test_a_partner_is_learned_in_where_it_knows_validation_users_as_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """NDCG of few users is all chance: it has no say."""
    validation = SimpleNamespace(name="validation")

    @dataclasses.dataclass
    class Data:
        test: Any
        test_values: Any
        validation: Any
        validation_values: Any

    def said(choice: float | None) -> dict[str, Any]:
        def compared(judge: str, simulator: str, data: Data) -> dict[str, Any]:
            assert (judge, simulator) == ("partner", "simulator") and data.test is validation
            feedback = {"rmse": {"worse": 0.01, "vetoes": False}}
            ranked = {"ndcg@10": {"worse": 0.9, "vetoes": True}}
            return {
                "feedback": feedback,
                "choice": ranked | {"nll": {"worse": choice, "vetoes": False}},
            }

        monkeypatch.setattr(judging, "competence", compared)
        data: Any = Data("test", None, validation, None)
        return qualities("partner", "simulator", data)  # type: ignore[arg-type]

    found = said(-0.02)
    assert found["learned_in"] and found["sentence"].endswith(
        "feedback RMSE +1.0 %, choice NLL -2.0 %"
    )
    assert not said(0.011)["learned_in"] and not said(None)["learned_in"]
