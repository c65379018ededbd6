"""The comparison on the log of scripted users, who are the truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from audience.benchmarks import worlds as module
from audience.benchmarks.compare import compare
from audience.benchmarks.scripted_truth import scripted_log, truth_of
from audience.benchmarks.settings import CompareSettings
from audience.benchmarks.verdict import verdict
from audience.reward_models.fit_data import FitData
from audience.reward_models.fit_settings import FitSettings
from audience.reward_models.fitting import settings_of
from audience.reward_models.log import InteractionLog
from audience.reward_models.scripted import ScriptedUsers
from audience.reward_models.user_files import pseudonymous
from audience.reward_models.users import POPULATIONS


def test_the_log_is_one_that_teaches_what_others_assume() -> None:
    log = scripted_log(120)
    assert log.name == "scripted" and log.n_users == 120
    assert log.has_impressions and log.has_sessions
    with pytest.raises(ValueError, match="give either log or interactions and items, not both"):
        CompareSettings(log="scripted", interactions="a.csv", items="b.csv")


def test_a_simulator_that_is_the_truth_values_agents_as_the_truth_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The fit of the simulator gives the scripted users themselves; the judges are real."""

    def fit(log: InteractionLog, settings: FitSettings) -> Any:
        data = FitData.of(log, "a", settings.seed)
        starts = {name: pseudonymous(data.histories[name], name) for name in POPULATIONS}
        out = Path(settings.out)
        out.mkdir(parents=True)
        (out / "settings.json").write_text(json.dumps(settings_of(log, settings)))
        return ScriptedUsers(seed=0).with_items(data.catalogue.item_ids, starts)

    monkeypatch.setattr(module, "fit", fit)
    results = compare(
        CompareSettings(
            log="scripted",
            preset="tiny",
            agents="random,popularity,ease,greedy,ppo",
            out=str(tmp_path / "out"),
            device="cpu",
            jobs=0,
        )
    )
    for agent in results["agents"].values():
        assert agent["truth"]["return"] == agent["simulator"]["return"]
        assert "replay" not in agent
    agents = {name: agent["truth"]["return"] for name, agent in results["agents"].items()}
    assert agents["greedy"]["mean"] > agents["random"]["mean"]
    assert "truth" in results["verdict"]["difference"] and "truth_" not in results["judges"]
    assert results["rank_correlation"]["simulator_truth"]["kendall"]["mean"] == 1
    assert "longest history" in results["no_replay"]
    # Judges learn from the log's slates and sessions what they have to assume elsewhere.
    (row,) = results["assumption_grid"]
    assert {row[name] for name in ("acceptance", "leave", "popularity_discount")} == {"learned"}
    assert "the scripted users who wrote the log" in " ".join(results["verdict"]["grounds"])
    page = (tmp_path / "out" / "report.html").read_text()
    assert "return, the truth" in page and "audience-bench compare --log scripted" in page
    assert "not been replayed on the feedback of real users: a replay needs" in page


def test_a_log_that_lost_a_level_is_no_log_of_the_truth() -> None:
    users, scripted = ScriptedUsers(), ScriptedUsers()
    scripted.scale = type(users.scale)(users.scale.values[1:])
    with pytest.raises(ValueError, match="must hold all 4 levels of feedback.*more users"):
        truth_of(scripted, users)


@pytest.mark.parametrize(
    ("truth", "said"),
    [
        ({"mean": 1.0, "low": 0.5, "high": 1.5}, "RL is ahead: the verdict is right."),
        (
            {"mean": -1.0, "low": -1.5, "high": -0.5},
            "RL is behind: the verdict is not that of the truth.",
        ),
    ],
)
def test_the_truth_says_whether_a_verdict_is_right_and_has_no_part_in_it(
    truth: dict[str, float], said: str
) -> None:
    ahead = {"mean": 1.0, "low": 0.5, "high": 1.5}
    judges = {"als": {"competent": True, "kin": []}}
    bases = {"judge_als": 10.0, "truth": 10.0}
    found = verdict("ppo", "ease", {"judge_als": ahead, "truth": truth}, bases, judges, 5)
    assert found["winner"] == "rl" and found["grounds"][-1].endswith(said)
