"""When a verdict is given, for whom, and what it says when it is not."""

from __future__ import annotations

from typing import Any

import pytest

from audience.benchmarks.verdict import deciding_judges, outcome, verdict


def gap(mean: float, half: float = 0.5) -> dict[str, float]:
    return {"mean": mean, "low": mean - half, "high": mean + half}


def judge(competent: bool = True, *kin: str) -> dict[str, Any]:
    return {"competent": competent, "kin": list(kin)}


BASES = {"judge_als": 10.0, "judge_boosted": 10.0, "judge_gru": 10.0, "replay": 5.0}
BOTH = {"als": judge(True, "ease", "ppo"), "boosted": judge(True, "ppo")}


def said(
    judges: dict[str, Any] | None = None,
    seeds: int = 5,
    grid: Any = (),
    **gaps: dict[str, float],
) -> dict[str, Any]:
    return verdict("ppo", "ease", gaps, BASES, BOTH if judges is None else judges, seeds, grid)


def test_outcomes_go_by_the_interval() -> None:
    assert outcome(gap(0.6), 10) == "ahead" and outcome(gap(-0.6), 10) == "behind"
    assert outcome(gap(0.1, 0.19), 10) == "open"  # -.09 … .29 reaches beyond 2 % above
    assert outcome(gap(0.0, 0.19), 10) == "level"  # within 2 % of 10 to both sides
    assert outcome(gap(0.0, 0.21), 10) == "open"


def test_a_judge_that_is_kin_of_neither_decides_alone() -> None:
    judges = BOTH | {"gru": judge(True, "greedy")}
    assert deciding_judges(judges, "ppo", "ease")[0] == ["gru"]
    gaps = {"judge_als": gap(-3), "judge_gru": gap(2), "replay": gap(0.1, 0.15)}
    found = said(judges, **gaps)
    assert found["winner"] == "rl" and found["judges"] == ["gru"]
    assert found["sentence"] == (
        "ppo beats ease: -30.0 % in judge als, +20.0 % in judge gru, +2.0 % in replay."
    )
    assert found["grounds"] == [
        "It is decided by judge gru, competent and kin of neither side; in replay of real users RL "
        "is not below CF."
    ]
    # Incompetent, it does not count.
    assert deciding_judges(BOTH | {"gru": judge(False)}, "ppo", "ease")[0] == ["als", "boosted"]
    # A judge in whose world the two have not met does not either.
    assert said(judges, judge_als=gap(2), judge_boosted=gap(1))["judges"] == ["als", "boosted"]


def test_kin_decide_only_together() -> None:
    ahead = {"judge_als": gap(1), "judge_boosted": gap(2), "replay": gap(1)}
    assert said(**ahead)["winner"] == "rl"
    split = said(**{**ahead, "judge_als": gap(0.1)})
    assert split["winner"] is None and "the judges do not agree" in split["sentence"]
    assert "not to be told from CF in judge als, ahead in judge boosted" in split["why"]
    alone = said({**BOTH, "als": judge(False)}, **ahead)
    assert alone["winner"] is None
    assert "the only competent judge, boosted, is kin of a side" in alone["sentence"]
    nobody = said({**BOTH, "als": judge(False), "boosted": judge(False)}, **ahead)
    assert nobody["sentence"].startswith("No verdict can be given on ppo against ease: no judge is")


@pytest.mark.parametrize(
    ("replay", "why"),
    [
        (gap(0.3, 0.1), None),
        (gap(0.0, 0.09), None),  # not below: -.09 is above -2 % of 5
        (gap(0.0, 0.11), "but in replay of real users it cannot be said to be not below"),
        (gap(-0.3, 0.1), "but behind in replay of real users"),
    ],
)
def test_replay_may_forbid_a_win(replay: dict[str, float], why: str | None) -> None:
    found = said(judge_als=gap(1), judge_boosted=gap(2), replay=replay)
    assert found["winner"] == ("rl" if why is None else None)
    assert why is None or why in found["sentence"]


def test_cf_wins_by_the_same_rules() -> None:
    behind = {"judge_als": gap(-1), "judge_boosted": gap(-2)}
    found = said(**behind, replay=gap(-0.2, 0.1))
    assert found["winner"] == "cf" and "ppo falls short of ease" in found["sentence"]
    assert said(**behind, replay=gap(0.2, 0.1))["winner"] is None
    assert "there is no replay" in said(**behind)["grounds"][0]
    level = said(judge_als=gap(0, 0.1), judge_boosted=gap(0.05, 0.1))
    assert level["winner"] == "level" and "is level with" in level["sentence"]
    unsure = said(judge_als=gap(0, 1), judge_boosted=gap(0.05, 1))
    assert unsure["winner"] is None and "cannot tell the two apart" in unsure["sentence"]


def test_few_seeds_are_preliminary() -> None:
    ahead = {"judge_als": gap(1), "judge_boosted": gap(2)}
    found = said(seeds=1, **ahead)
    assert found["sentence"].startswith("Preliminary (1 of the 5 seeds that a verdict needs): ppo")


def test_the_verdict_is_stated_only_where_its_sign_holds() -> None:
    def row(acceptance: float, als: float, boosted: float) -> dict[str, Any]:
        return {
            "acceptance": acceptance,
            "difference": {"judge_als": gap(als), "judge_boosted": gap(boosted)},
        }

    ahead = {"judge_als": gap(1), "judge_boosted": gap(2)}
    holds = said(grid=[row(0.2, 0.1, 2), row(0.4, 1, 2)], **ahead)
    assert holds["assumptions"] == {"settings": 2, "hold": 2, "turn": []}
    assert holds["grounds"][1].endswith("holds in all 2 settings of the assumptions tried.")
    turns = said(grid=[row(0.2, -0.1, 2), row(0.4, 1, 2)], **ahead)
    assert turns["assumptions"] == {"settings": 2, "hold": 1, "turn": [{"acceptance": 0.2}]}
    assert turns["sentence"].endswith("; in 1 of 2 settings of the assumptions.")
    assert turns["grounds"][1].endswith("its sign holds; it turns at acceptance 0.2.")
    taught = said(grid=[row(0.4, 1, 2) | {"acceptance": "learned"}], **ahead)
    assert taught["grounds"][1].endswith("nothing was set otherwise.")
    behind = {"judge_als": gap(-1), "judge_boosted": gap(-2)}
    assert said(grid=[row(0.2, -0.1, -2)], **behind)["assumptions"]["hold"] == 1


def test_without_both_sides_there_is_none() -> None:
    found = verdict(None, "ease", {}, {}, {}, 5)
    assert found["sentence"] == "No verdict can be given: no RL agent was compared."
    assert found["difference"] is None and found["winner"] is None
    assert "no collaborative filter" in verdict("ppo", None, {}, {}, {}, 5)["sentence"]
    assert "there is no judge" in said({})["sentence"]
