from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audience.agents.evaluation import Evaluation, bootstrap_interval
from audience.benchmarks.files import load_sessions, read_json, save_sessions, write_json
from audience.benchmarks.paired import interval, returns_of
from audience.benchmarks.results import Outcome, champion, markdown, results_of, write_summary


def sessions(returns: Any, users: list[str]) -> Evaluation:
    """Sessions of one step with these returns, each with one of four items."""
    values = np.asarray(returns, np.float64)
    n = len(values)
    shown = (np.arange(n) % 2).astype(np.int64)
    return Evaluation(
        users=np.resize(np.array(users), n),
        return_=values,
        length=np.full(n, 2, np.int64),
        likes=np.ones(n, np.int64),
        recommended=shown.reshape(n, 1, 1),
        chosen=shown.reshape(n, 1),
        levels=shown.reshape(n, 1),
        n_items=4,
        n_users=len(users),
    )


def outcome(kind: Any, test: dict[str, Any], **validation: Any) -> Outcome:
    """An agent's sessions by world: {seed: returns of users u and v}, validation likewise of w."""
    found = Outcome(kind)
    for world, by_seed in test.items():
        for seed, returns in by_seed.items():
            found.keep("test", world, seed, sessions(returns, ["u", "v"]))
    for world, by_seed in validation.items():
        for seed, returns in by_seed.items():
            found.keep("validation", world, seed, sessions(returns, ["w"]))
    return found


def test_figures_worked_by_hand() -> None:
    outcomes = {
        "random": outcome("reference", {"simulator": {0: [1, 3], 1: [2, 2]}}),
        # The best with validation users, though not with test users.
        "als": outcome("cf", {"simulator": {0: [2, 4], 1: [3, 3]}}, simulator={0: [9], 1: [7]}),
        "ease": outcome("cf", {"simulator": {0: [5, 5], 1: [5, 9]}}, simulator={0: [1], 1: [2]}),
        "ppo": Outcome("rl"),
    }
    results = results_of(outcomes)
    assert list(results["agents"]) == ["random", "als", "ease"]  # ppo has met nobody yet
    assert results["best_cf"] == "als"
    assert results["judges"] is None and results["verdict"]["rl"] is None
    assert results["verdict"]["sentence"].startswith("No verdict")
    ease = results["agents"]["ease"]
    assert ease["kind"] == "cf"
    returns = ease["simulator"]["return"]
    assert returns["mean"] == 6.0 and returns["per_seed"] == [5.0, 7.0]
    assert returns["iqm"] == 5.0  # the middle two of 5, 5, 5, 9
    assert ease["simulator"]["validation_return"] == 1.5
    assert ease["session_length"] == 2.0 and ease["like_rate"] == 0.5
    assert ease["coverage"] == 0.5 and ease["gini"] == 0.5
    assert ease["exploitation_gap"] is None and ease["novelty"] is None
    assert results["agents"]["als"]["simulator"]["difference_to_best_cf"] is None
    # One below the best CF agent for each user in each seed: no interval is narrower.
    gap = results["agents"]["random"]["simulator"]["difference_to_best_cf"]
    assert gap == {"mean": -1.0, "low": -1.0, "high": -1.0}


def test_champions_are_those_of_the_inner_judge() -> None:
    outcomes = {
        "als": outcome("cf", {}, simulator={0: [9]}, inner_judge={0: [3], 1: [4]}),
        "ease": outcome("cf", {}, simulator={0: [1]}, inner_judge={0: [5], 1: [4]}),
        "ppo": outcome("rl", {}, inner_judge={0: [2]}),
        "greedy": outcome("reference", {}, inner_judge={0: [99]}),
    }
    assert champion(outcomes, "cf") == "ease" and champion(outcomes, "rl") == "ppo"
    assert champion(outcomes, "bandit") is None
    for one in outcomes.values():
        del one.validation["inner_judge"]
    assert champion(outcomes, "cf") == "als" and champion(outcomes, "rl") is None


def test_an_exploited_simulator_is_exposed_by_the_gap() -> None:
    outcomes = {
        "ease": outcome(
            "cf",
            {
                "simulator": {0: [10, 12]},
                "judge_als": {0: [7, 9]},
                "judge_boosted": {0: [9, 11]},
                "replay": {0: [5, 5]},
            },
            inner_judge={0: [1]},
        ),
        "ppo": outcome(
            "rl",
            {
                "simulator": {0: [15, 17]},
                "judge_als": {0: [6, 8]},
                "judge_boosted": {0: [8, 10]},
                "replay": {0: [5, 4]},
            },
            inner_judge={0: [1]},
        ),
    }
    judges = {
        name: {"competent": True, "competence": {}, "kin": ["ppo"]} for name in ("als", "boosted")
    }
    results = results_of(outcomes, judges)
    # CF earns 2 less in the judges than in the simulator, PPO 8 less: 6 of these are its own.
    assert results["agents"]["ease"]["exploitation_gap"]["mean"] == 2.0
    ppo = results["agents"]["ppo"]
    assert ppo["exploitation_gap"] == {"mean": 8.0, "low": 8.0, "high": 8.0}
    assert ppo["exploitation_gap_to_best_cf"] == {"mean": 6.0, "low": 6.0, "high": 6.0}
    verdict = results["verdict"]
    assert verdict["difference"]["judge_als"] == {"mean": -1.0, "low": -1.0, "high": -1.0}
    assert set(verdict["difference"]) == {"judge_als", "judge_boosted", "replay"}
    assert verdict["difference"]["replay"]["mean"] == -0.5
    assert verdict["winner"] == "cf" and verdict["judges"] == ["als", "boosted"]


def test_what_a_cure_does_to_the_gap() -> None:
    outcomes = {
        name: outcome("reference", {"simulator": {0: own}, "judge_als": {0: judged}})
        for name, own, judged in (
            ("greedy", [9, 12], [5, 6]),
            ("greedy_pessimism", [8, 10], [6, 7]),
            ("ppo_pessimism", [8, 8], [6, 6]),  # what it cures was not compared
        )
    }
    results = results_of(outcomes)
    # Gaps of 4 and 6 for greedy, 2 and 3 for its cure.
    (row,) = results["exploitation"]
    assert (row["agent"], row["cure"]) == ("greedy", "greedy_pessimism")
    assert row["gap_difference"]["mean"] == -2.5
    assert row["gap_difference"]["low"] == -3.0 and row["gap_difference"]["high"] == -2.0
    assert "gap of greedy_pessimism minus that of greedy: -2.50 [-3.00, -2.00]." in markdown(
        {**results, "log": {"name": "own"}}
    )


def test_without_cf_agents_there_is_no_difference() -> None:
    results = results_of({"random": outcome("reference", {"simulator": {0: [1, 2]}})})
    assert results["best_cf"] is None
    assert results["agents"]["random"]["simulator"]["difference_to_best_cf"] is None


def test_returns_are_paired_by_user() -> None:
    by_seed = {0: sessions([1, 2, 3, 5, 6, 7], ["a", "b", "c"]), 1: sessions([7, 9], ["c", "a"])}
    found = returns_of([by_seed])
    assert found is not None and found[0].tolist() == [[3.0, 5.0], [9.0, 7.0]]
    # Another world has another seed less and another user more.
    other = {0: sessions([4, 8, 2], ["c", "d", "a"])}
    found = returns_of([by_seed, other])
    assert found is not None and [one.tolist() for one in found] == [[[3.0, 5.0]], [[2.0, 4.0]]]
    only = returns_of([by_seed, other], ["c", "z"])
    assert only is not None and [one.tolist() for one in only] == [[[5.0]], [[4.0]]]
    assert returns_of([by_seed, {2: by_seed[0]}]) is None
    assert returns_of([by_seed], ["z"]) is None


def test_intervals_of_one_seed_are_those_over_users() -> None:
    values = np.random.default_rng(0).normal(5, 2, 200)
    low, high = bootstrap_interval(values)
    one = interval(values[None])
    assert one["low"] == pytest.approx(low) and one["high"] == pytest.approx(high)


def test_seeds_widen_the_interval() -> None:
    users = np.random.default_rng(0).normal(5, 2, 200)
    alike = interval(np.stack([users] * 5))
    apart = interval(np.stack([users + shift for shift in (-2, -1, 0, 1, 2)]))
    assert apart["high"] - apart["low"] > 1.5 * (alike["high"] - alike["low"])
    # Seeds alone: the standard error of five values with deviation sqrt 2.
    alone = interval(np.array([[-2.0], [-1], [0], [1], [2]]))
    assert alone["high"] == pytest.approx(1.96 * np.sqrt(2 / 5), abs=0.2)


def test_table_and_summary_are_made_from_the_results(tmp_path: Path) -> None:
    outcomes = {
        "random": outcome("reference", {"simulator": {0: [1, 3]}}),
        "ease": outcome(
            "cf", {"simulator": {0: [5, 6]}, "replay": {0: [2, 2]}}, simulator={0: [1]}
        ),
    }
    results = results_of(outcomes)
    table = markdown(results).splitlines()
    assert [line.split(" | ")[0] for line in table[2:4]] == ["| ease", "| random"]
    assert table[0].startswith("| agent | kind | simulator | replay | gap to CF | length |")
    assert "5.50 [5.00, 6.00] | 2.00 [2.00, 2.00] | best CF" in table[2]
    assert "| 2.00 [1.00, 3.00] | - | - |" in table[3]
    assert table[-1].startswith(results["verdict"]["sentence"])
    for _ in range(2):  # the second takes the place of the first
        write_summary(tmp_path, results)
    (events,) = tmp_path.glob("events.out.tfevents.*")
    assert events.stat().st_size > 0


def test_sessions_are_kept_under_their_record(tmp_path: Path) -> None:
    path = tmp_path / "sessions" / "ease.npz"
    kept = sessions([1, 2], ["u", "v"])
    assert load_sessions(path, {"seed": 0}) is None
    save_sessions(path, kept, {"seed": 0})
    again = load_sessions(path, {"seed": 0})
    assert again is not None and again.summary() == kept.summary()
    np.testing.assert_array_equal(again.users, kept.users)
    assert load_sessions(path, {"seed": 1}) is None
    path.write_bytes(path.read_bytes()[:100])
    assert load_sessions(path, {"seed": 0}) is None


def test_a_killed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="nan"):
        write_json(path, {"a": float("nan")})
    assert read_json(path) == {"a": 1}
    path.write_text("{")
    assert read_json(path) is None and list(tmp_path.iterdir()) == [path]
