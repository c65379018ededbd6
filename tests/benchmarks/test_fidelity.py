"""Agreement by hand, policies, picks on real feedback, and the program."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from audience.agents.baselines import RandomAgent
from audience.agents.evaluation import evaluate
from audience.benchmarks.__main__ import main
from audience.benchmarks.agreement import Value, agreement, tau_b
from audience.benchmarks.fidelity import results_of
from audience.benchmarks.fidelity_settings import FidelitySettings
from audience.benchmarks.picks import ModelFeedbackAgent, Pools, values_by_user
from audience.benchmarks.policies import (
    ItemScoresAgent,
    MixtureAgent,
    PlanAgent,
    best_policy,
    scripted_policies,
)
from audience.benchmarks.real_feedback import Truth, real_feedback, truth_feedback
from audience.reward_models.errors import LogError
from audience.reward_models.fit_data import FitData
from audience.reward_models.histories import Histories
from audience.reward_models.log import InteractionLog
from audience.reward_models.scale import FeedbackScale
from audience.reward_models.scripted import ScriptedUsers
from audience.reward_models.scripted_plan import best_value, plan
from audience.reward_models.users import Assumptions

STARS = FeedbackScale((1.0, 2.0, 3.0, 4.0, 5.0))


# Agreement


def worlds(*values: tuple[float, float], width: float = 0.1) -> dict[str, dict[str, Value]]:
    return {
        f"p{place}": {
            "simulator": Value(ours, ours - width, ours + width),
            "truth": Value(theirs, theirs - width, theirs + width),
        }
        for place, (ours, theirs) in enumerate(values)
    }


def test_figures_worked_by_hand() -> None:
    found = agreement(worlds((1.0, 1.0), (2.0, 3.0), (4.0, 2.0)))
    assert found["kendall"] == pytest.approx(1 / 3)  # 2 of 3 pairs in the same order
    assert found["spearman"] == pytest.approx(0.5)
    assert found["mean_absolute_value_difference"] == pytest.approx(1.0)
    assert found["mean_absolute_value_error"] == pytest.approx(0.5)
    assert found["favourite"] == "p2" and found["best"] == "p1"
    assert found["regret"] == pytest.approx(1.0)
    assert found["favourite_value_error"] == pytest.approx(1.0)  # 4 promised, 2 paid


def test_overlapping_intervals_tie() -> None:
    # The first two tie in both worlds; without ties the wrong order would count against it.
    found = agreement(worlds((1.0, 1.1), (1.1, 1.0), (3.0, 3.0)))
    assert found["kendall"] == pytest.approx(1.0)
    # Tied in one world only: 2 pairs agree, of 3 and 2 untied ones.
    found = agreement(worlds((1.0, 1.1), (1.5, 1.0), (3.0, 3.0)))
    assert found["kendall"] == pytest.approx(2 / np.sqrt(3 * 2))
    assert agreement(worlds((1.0, 1.0), (1.0, 1.0)))["kendall"] is None
    assert agreement(worlds((1.0, 1.0), (1.0, 1.0)))["spearman"] is None


def test_tau_b_of_orders_is_that_of_scipy() -> None:
    from scipy.stats import kendalltau

    generator = np.random.default_rng(0)
    a, b = generator.integers(5, size=(2, 30)).astype(float)
    ours = tau_b(np.sign(a[:, None] - a).astype(int), np.sign(b[:, None] - b).astype(int))
    assert ours == pytest.approx(kendalltau(a, b).statistic)


def test_results_average_the_runs() -> None:
    runs = []
    for seed, shift in enumerate((0.0, 1.0)):
        valued = worlds((1.0 + shift, 1.0), (2.0 + shift, 2.0))
        policies = {
            name: {world: vars(value) for world, value in both.items()}
            for name, both in valued.items()
        }
        runs.append({"log": "l", "seed": seed, "policies": policies, **agreement(valued)})
    found = results_of(runs)
    assert found["policies"]["p0"]["simulator"]["value"] == pytest.approx(1.5)
    assert found["mean_absolute_value_difference"] == pytest.approx(0.5)
    assert found["kendall"] == 1.0 and found["regret"] == 0.0


# Policies


def test_played_out_the_plan_earns_its_exact_value_and_greedy_less() -> None:
    users = ScriptedUsers()
    starts = users.starts("test")
    promised = best_value(users, starts, 30).mean()
    greedy = plan(users, 1).value(starts, 30).mean()
    for policy, wanted in (
        (best_policy(users, 30), promised),
        (PlanAgent(plan(users, 1), 30), greedy),
    ):
        played = evaluate(policy, users, sessions_per_user=60, step_limit=30).return_
        error = 4 * played.std() / np.sqrt(len(played))
        assert error < (promised - greedy) / 3
        assert played.mean() == pytest.approx(wanted, abs=error)


def test_the_plan_counts_steps_that_leave_no_trace() -> None:
    """Near the end of a session the best policy is another one than at its start."""
    users = ScriptedUsers()
    policy = best_policy(users, 30)
    items, levels, lengths = users.starts("test").padded()
    observation = {"item": items, "feedback": levels, "length": lengths[:, None]}
    first, state = policy.predict(observation, episode_start=np.ones(len(items), np.bool_))
    assert (state == 1).all()
    last, _ = policy.predict(observation, state=np.full(len(items), 29))
    assert (users.topics[first] != users.topics[last]).any()
    one, _ = policy.predict({name: column[7] for name, column in observation.items()})
    assert one.shape == () and one == first[7]


def test_there_are_twelve_policies_half_of_them_near_the_best() -> None:
    users = ScriptedUsers()
    policies = scripted_policies(users, users.starts("fitting"), users.catalogue, 30, seed=0)
    assert len(policies) >= 12
    values = {
        name: evaluate(policy, users, sessions_per_user=10).return_.mean()
        for name, policy in policies.items()
    }
    near = [name for name, value in values.items() if value > 0.8 * values["best"]]
    assert len(near) >= len(policies) / 2
    assert values["best"] > values["greedy_on_truth"] > values["topic_0"]


def test_mixtures_follow_both_agents_in_their_shares() -> None:
    one, other = ItemScoresAgent(np.array([1.0, 0, 0])), ItemScoresAgent(np.array([0, 0, 1.0]))
    n = 5000
    empty = {name: np.zeros((n, 1), np.int64) for name in ("item", "feedback", "length")}
    actions, state = MixtureAgent(one, other, 0.3, seed=0).predict(empty)
    assert (actions == 2).mean() == pytest.approx(0.3, abs=0.02)
    assert (actions == 1).sum() == 0
    again, _ = MixtureAgent(one, other, 0.3, seed=0).predict(empty)
    more, _ = MixtureAgent(one, other, 0.3, seed=0).predict(empty, state)
    assert (again == actions).all() and (more != actions).any()
    single = {name: column[0] for name, column in empty.items()}
    assert MixtureAgent(one, other, 0.0, seed=0).predict(single)[0].shape == ()
    with pytest.raises(ValueError, match="share must be from 0 to 1, got 1.5"):
        MixtureAgent(one, other, 1.5, seed=0)


# Picks on real feedback


class KnownUsers:
    """Says that item i gets level i % 5 for sure."""

    def feedback(self, histories: Histories, items: NDArray[np.int64]) -> NDArray[np.float64]:
        assert len(histories) == len(items)
        return np.eye(5)[items % 5]


def replayed(lengths: list[int]) -> tuple[Histories, NDArray[np.float64]]:
    events = [[(item, item % 5) for item in range(length)] for length in lengths]
    histories = Histories.from_lists(events)
    return histories, np.array(STARS.values)[histories.levels]


def test_a_replay_takes_long_histories_or_else_those_it_can() -> None:
    pools = Pools.replay(*replayed([60, 20, 50]), seed=0)
    assert len(pools.histories) == 2 and (pools.histories.lengths == 8).all()
    assert np.bincount(pools.rows).tolist() == [52, 42] and (pools.picks == 10).all()
    assert set(pools.items[pools.rows == 1].tolist()) == set(range(8, 50))
    few = Pools.replay(*replayed([20, 17]), seed=0)
    assert len(few.histories) == 1 and few.picks.tolist() == [6]  # half of 12
    with pytest.raises(ValueError, match="at least 18 events, but the longest of 1 has 17"):
        Pools.replay(*replayed([17]), seed=0)


def test_pools_are_bounded_and_users_without_a_choice_left_out() -> None:
    histories, _ = replayed([8, 8, 8])
    rows = np.repeat([0, 1, 2], [1, 300, 2])
    items = np.concatenate([[9], np.arange(10, 310), [9, 11]])
    pools = Pools.of(histories, rows, items, items % 5, items * 1.0, seed=0)
    assert np.bincount(pools.rows).tolist() == [100, 2]
    assert pools.histories.users.tolist() == ["1", "2"]
    assert (pools.values == pools.items).all()


def test_values_of_picks_worked_by_hand() -> None:
    """A model that is right about every item: greedy on it is the best, in both worlds."""
    pools = Pools.replay(*replayed([60, 52]), seed=0)
    known = KnownUsers()
    for agent, wanted in (
        (ModelFeedbackAgent(known, STARS), np.array([5.0, (9 * 5 + 4) / 10])),
        (ItemScoresAgent(-np.arange(60.0)), np.array([3.0, 3.0])),
    ):
        for world in ("simulator", "truth"):
            got = values_by_user(agent, pools, world, known, STARS, 60, 0)  # type: ignore[arg-type]
            assert got == pytest.approx(wanted)


def test_the_worlds_differ_where_the_simulator_errs() -> None:
    histories, values = replayed([60])
    flipped = Histories(histories.users, histories.offsets, histories.items, 4 - histories.levels)
    pools = Pools.replay(flipped, 6 - values, seed=0)
    agent = ModelFeedbackAgent(KnownUsers(), STARS)
    value = {
        world: values_by_user(agent, pools, world, KnownUsers(), STARS, 60, 0)[0]  # type: ignore[arg-type]
        for world in ("simulator", "truth")
    }
    assert value == {"simulator": pytest.approx(5.0), "truth": pytest.approx(1.0)}


def truth_file(log: InteractionLog, path: Path) -> Path:
    """What each of the first 40 users of the planted log thinks of items that it has not met."""
    met = {
        user: set(part["item_id"].to_list())
        for (user,), part in log.interactions.group_by("user_id")
    }
    rows = [
        (f"u{user}", f"i{item}", 5.0 if item % 2 == user % 2 else 1.0)
        for user in range(40)
        for item in range(40)
        if f"i{item}" not in met[f"u{user}"]
    ]
    rows += [("nobody", "i1", 3.0), ("u0", "no-item", 3.0), ("u0", min(met["u0"]), 3.0)]
    schema = ["user_id", "item_id", "feedback"]
    pl.DataFrame(rows, schema=schema, orient="row").write_csv(path)
    return path


def test_a_truth_file_is_checked_and_matched(planted_log: InteractionLog, tmp_path: Path) -> None:
    data = FitData.of(planted_log, None, 0)
    found = Truth.read(str(truth_file(planted_log, tmp_path / "c.csv")), planted_log, data)
    assert len(found.users) == 40 and found.dropped == 3
    assert len(found.rows) == 40 * (40 - 14)
    item = int(data.catalogue.item_ids[found.items[0]][1:])
    user = int(found.users[found.rows[0]][1:])
    assert found.values[0] == (5.0 if item % 2 == user % 2 else 1.0)
    for name, rows, message in (
        ("none", {"user_id": ["a", "b"], "item_id": ["x", "y"], "feedback": [1, 2]}, "no row has"),
        ("blank", {"user_id": ["u0", "u1"], "item_id": ["i1", "i2"]}, "feedback must be there"),
    ):
        pl.DataFrame(rows).write_csv(tmp_path / f"{name}.csv")
        with pytest.raises(LogError, match=message):
            Truth.read(str(tmp_path / f"{name}.csv"), planted_log, data)


def test_feedback_on_truth_rows_is_measured_for_users_and_baselines(
    planted_log: InteractionLog, tmp_path: Path
) -> None:
    data = FitData.of(planted_log, None, 0)
    truth = Truth.read(str(truth_file(planted_log, tmp_path / "c.csv")), planted_log, data)
    histories, kept = planted_log.histories(
        truth.users, data.catalogue, data.scale
    ).without_repeats()
    before = planted_log.values(truth.users, data.catalogue)[kept]
    kind = np.array([int(item[1:]) % 2 for item in data.catalogue.item_ids])

    class Oracle:
        """Knows the planted rule; the names of the users say their kind."""

        def feedback(self, histories: Histories, items: NDArray[np.int64]) -> NDArray[Any]:
            loves = np.array([int(user[1:]) % 2 for user in histories.users])[:, None]
            level = np.where(kind[items] == loves, len(data.scale) - 1, 0)
            return np.eye(len(data.scale))[level]

    found = truth_feedback(Oracle(), data, histories, before, truth, seed=0)
    assert found is not None
    assert found["model"]["rmse"] == 0 and found["model"]["auc"] == 1
    # Half of the items are loved: a mean without taste is wrong by 2 stars, ALS knows better.
    assert 1.5 < found["user_item_mean"]["rmse"] < 3
    assert found["als"]["rmse"] < found["user_item_mean"]["rmse"] - 0.5
    assert found["difference"]["rmse"]["high"] < 0


# The program


def test_settings_are_checked() -> None:
    assert FidelitySettings().scripted and not FidelitySettings(log="movielens").scripted
    with pytest.raises(ValueError, match="truth goes with interactions and items"):
        FidelitySettings(truth="c.csv")
    with pytest.raises(ValueError, match="go together"):
        FidelitySettings(interactions="a.csv")
    with pytest.raises(ValueError, match="preset must be one of"):
        FidelitySettings(preset="huge")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="seeds must be at least 1, got 0"):
        FidelitySettings(seeds=0)


def test_the_scripted_command_writes_its_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the truth itself in the place of the fit: the two worlds must agree in all."""

    def perfect(log: InteractionLog, *rest: Any) -> ScriptedUsers:
        return ScriptedUsers(seed=rest[0])

    monkeypatch.setattr("audience.benchmarks.fidelity._fitted", perfect)
    out = tmp_path / "fidelity"
    main(["fidelity", "--log", "scripted", "--preset", "tiny", "--out", str(out)])
    results = json.loads((out / "fidelity.json").read_text())
    assert len(results["policies"]) >= 12 and len(results["runs"]) == 2
    for figure in ("kendall", "spearman"):
        assert results[figure] == pytest.approx(1.0)
    for figure in ("mean_absolute_value_error", "regret", "favourite_value_error"):
        assert results[figure] == 0
    best = results["policies"]["best"]
    assert best["simulator"] == best["truth"] and best["truth"]["low"] < best["truth"]["value"]
    assert set(results["by_log"]) == {"uniform", "popularity"} and results["complete"]
    assert results["planning"]["margin"] > 0.1
    assert list((out / "summary").glob("events.out.tfevents.*"))
    said = capsys.readouterr().out
    assert "Planning pays" in said and "lookahead_5" in said
    assert (out / "table.md").read_text().count("\n|") >= 13


def test_scripted_users_ignore_what_the_environment_assumes() -> None:
    users = ScriptedUsers(120, 3)
    agent = RandomAgent(120, seed=0)
    usual = evaluate(agent, users, seed=3).return_
    stated = {"acceptance": 0.9, "leave_after_choice": 0.9, "leave_after_skip": 0.0}
    assert Assumptions(**stated).acceptance == 0.9
    other = evaluate(RandomAgent(120, seed=0), users, seed=3, **stated).return_  # type: ignore[arg-type]
    assert (usual == other).all()


class LeanUsers:
    """In the place of a fit: a model that expects 3 stars of everything."""

    card: dict[str, Any] = {"feedback": None}

    def __init__(self, log: InteractionLog, seed: int) -> None:
        self.levels = len(FitData.of(log, None, seed).scale)

    def feedback(self, histories: Histories, items: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.full((*items.shape, self.levels), 1 / self.levels)


def test_a_replay_and_a_truth_file_are_valued_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lean(log: InteractionLog, seed: int, *rest: Any) -> LeanUsers:
        return LeanUsers(log, seed)

    monkeypatch.setattr("audience.benchmarks.fidelity._fitted", lean)
    generator = np.random.default_rng(0)
    rows = [
        (f"u{user}", f"i{item}", float(1 + item % 5))
        for user in range(60)
        for item in generator.permutation(90)[:50]
    ]
    table = pl.DataFrame(rows, schema=["user_id", "item_id", "feedback"], orient="row")
    history, rest = table[:2500], table[2500:]
    pl.DataFrame(
        {"item_id": [f"i{i}" for i in range(90)], "title": [f"Item {i}" for i in range(90)]}
    ).write_csv(tmp_path / "items.csv")
    table.write_csv(tmp_path / "all.csv")
    pl.concat([history, rest[::2]]).write_csv(tmp_path / "a.csv")
    rest[1::2].write_csv(tmp_path / "c.csv")
    for log, truth in (("all", []), ("a", ["--truth", str(tmp_path / "c.csv")])):
        files = ["--interactions", str(tmp_path / f"{log}.csv")]
        files += ["--items", str(tmp_path / "items.csv"), *truth]
        main(["fidelity", *files, "--preset", "tiny", "--out", str(tmp_path / log)])
        found = json.loads((tmp_path / log / "fidelity.json").read_text())
        assert len(found["policies"]) >= 12 and found["kendall"] is None  # all the same to it
        for worlds in found["policies"].values():
            assert worlds["simulator"]["value"] == pytest.approx(3.0)
        # The items' feedback is their own: its mean finds the best ones.
        value = {name: worlds["truth"]["value"] for name, worlds in found["policies"].items()}
        assert value["mean_feedback"] > 4.2 and value["worst_feedback"] < 1.6
        assert (found["feedback"] is None) == (log == "all")


def test_what_cannot_be_valued_is_refused_before_the_fit(planted_log: InteractionLog) -> None:
    def never(log: InteractionLog, seed: int) -> Any:
        raise AssertionError("fitted")

    with pytest.raises(ValueError, match="at least 18 events, but the longest of"):
        real_feedback(planted_log, 0, None, never, print)


@pytest.mark.slow
def test_users_fitted_to_a_scripted_log_are_valued_beside_the_truth(tmp_path: Path) -> None:
    out = tmp_path / "fidelity"
    main(["fidelity", "--preset", "tiny", "--out", str(out), "--device", "cpu"])
    results = json.loads((out / "fidelity.json").read_text())
    assert results["complete"] and results["kendall"] is not None
    again = json.loads((out / "fidelity.json").read_text())
    main(["fidelity", "--preset", "tiny", "--out", str(out), "--device", "cpu"])  # reuses the fits
    assert json.loads((out / "fidelity.json").read_text())["policies"] == again["policies"]
