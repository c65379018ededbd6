from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audience.agents.evaluation import Evaluation, bootstrap_interval
from audience.benchmarks.files import load_sessions, read_json, save_sessions, write_json
from audience.benchmarks.results import (
    Outcome,
    interval,
    markdown,
    results_of,
    user_returns,
    write_summary,
)


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
        n_items=4,
        n_users=len(users),
    )


def test_figures_worked_by_hand() -> None:
    users = ["u", "v"]
    outcomes = {
        "random": Outcome("reference", {0: sessions([1, 3], users), 1: sessions([2, 2], users)}),
        # The best with validation users, though not with test users.
        "als": Outcome(
            "cf",
            {0: sessions([2, 4], users), 1: sessions([3, 3], users)},
            {0: sessions([9], ["w"]), 1: sessions([7], ["w"])},
        ),
        "ease": Outcome(
            "cf",
            {0: sessions([5, 5], users), 1: sessions([5, 9], users)},
            {0: sessions([1], ["w"]), 1: sessions([2], ["w"])},
        ),
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
    assert results["agents"]["als"]["simulator"]["difference_to_best_cf"] is None
    # One below the best CF agent for each user in each seed: no interval is narrower.
    gap = results["agents"]["random"]["simulator"]["difference_to_best_cf"]
    assert gap == {"mean": -1.0, "low": -1.0, "high": -1.0}


def test_without_cf_agents_there_is_no_difference() -> None:
    results = results_of({"random": Outcome("reference", {0: sessions([1, 2], ["u", "v"])})})
    assert results["best_cf"] is None
    assert results["agents"]["random"]["simulator"]["difference_to_best_cf"] is None


def test_returns_are_paired_by_user() -> None:
    by_seed = {0: sessions([1, 2, 3, 5, 6, 7], ["a", "b", "c"]), 1: sessions([7, 9], ["c", "a"])}
    assert user_returns(by_seed).tolist() == [[3.0, 5.0], [9.0, 7.0]]


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
    users = ["u", "v"]
    outcomes = {
        "random": Outcome("reference", {0: sessions([1, 3], users)}),
        "ease": Outcome("cf", {0: sessions([5, 6], users)}, {0: sessions([1], ["w"])}),
    }
    results = results_of(outcomes)
    table = markdown(results).splitlines()
    assert [line.split(" | ")[0] for line in table[2:4]] == ["| ease", "| random"]
    assert "5.50 [5.00, 6.00]" in table[2] and "best CF" in table[2]
    assert "-3.50 [-4.00, -3.00]" in table[3]
    assert table[-1] == results["verdict"]["sentence"]
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
