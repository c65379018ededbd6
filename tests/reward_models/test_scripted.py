"""Scripted users: their law by hand, the contract, their logs, and the best policy."""

import itertools
import subprocess
import sys
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from audience.reward_models.histories import Histories
from audience.reward_models.scripted import TOPICS, ScriptedUsers
from audience.reward_models.scripted_habits import LEVELS, Habits
from audience.reward_models.scripted_log import Rates, write_frame
from audience.reward_models.scripted_plan import TopicProcess, best_value, plan
from audience.reward_models.users import DRAWS, START_EVENTS, Assumptions, UserModel

USERS = ScriptedUsers(120, 3, seed=1, habits=Habits(memory=4))


def test_utilities_are_those_of_the_law_worked_by_hand() -> None:
    habits = Habits(
        memory=4, appeal=(1.0, -1.0), gain=(0.0, 4.0), satiation=2.0, satiation_decay=0.5
    )
    recent = np.array([[1, 0, 1, -1], [-1, -1, -1, -1]])
    # Two of four places are topic 1, at ages 0 and 2; one is topic 0, at age 1.
    wanted = [[1.0 - 2.0 * 0.5, -1.0 + 4.0 * 0.5 - 2.0 * 1.25], [1.0, -1.0]]
    assert habits.utilities(recent, 2) == pytest.approx(np.array(wanted))


def test_level_shares_are_a_cumulative_logit() -> None:
    habits = Habits(feedback_steps=(-1.0, 0.0, 1.0, 2.0), feedback_slope=2.0)
    shares = habits.level_shares(np.array([0.0]))[0]
    assert shares.sum() == pytest.approx(1)
    assert shares[:2].sum() == pytest.approx(0.5)  # the second step lies at this utility
    assert shares[0] == pytest.approx(1 / (1 + np.exp(2)))


def test_users_keep_the_contract() -> None:
    assert isinstance(USERS, UserModel)
    born = USERS.starts("test")
    assert (born.lengths == START_EVENTS).all()
    assert all(
        len(set(born.items[a:b])) == START_EVENTS for a, b in itertools.pairwise(born.offsets)
    )
    assert born.levels.min() >= 0 and born.levels.max() < LEVELS
    again = ScriptedUsers(120, 3, seed=1, habits=Habits(memory=4)).starts("test")
    assert (again.items == born.items).all() and (again.levels == born.levels).all()
    assert (ScriptedUsers(120, 3, seed=2).starts("test").items != born.items).any()
    names = list(TOPICS)
    for item in range(9):
        assert names[item % 3] in USERS.catalogue.texts[item].lower()


def lived(slots: NDArray[np.int64], steps: int, slate_size: int = 3) -> list[NDArray[Any]]:
    """What sessions in these rows of a fixed block of starts, slates and draws answer."""
    generator = np.random.default_rng(5)
    block = 40
    starts = USERS.starts("fitting").take(np.arange(block))
    sessions = USERS.open(len(slots), slate_size)
    sessions.start(np.arange(len(slots)), starts.take(slots))
    told = []
    for _ in range(steps):
        slates = generator.integers(len(USERS.catalogue), size=(block, slate_size))[slots]
        uniforms = generator.random((block, DRAWS))[slots]
        response = sessions.respond(slates, uniforms, np.ones(len(slots), np.bool_))
        told += [response.choice, response.item, response.level, response.leave]
        told += [response.accept_probability, response.dwell_seconds]
    return told


def test_a_slot_lives_the_same_session_in_any_batch() -> None:
    whole = lived(np.arange(40), 12)
    rows = np.array([31, 4, 17])
    for part, all_ in zip(lived(rows, 12), whole, strict=True):
        assert np.array_equal(part, all_[rows], equal_nan=part.dtype == float)


def test_responses_have_the_stated_frequencies() -> None:
    """Fresh users of one history and one slate: choice, levels, leaving and dwell by the law."""
    n, habits = 40_000, USERS.habits
    history = Histories.from_lists([[(0, 2), (3, 2), (1, 0)]]).take(np.zeros(n, np.int64))
    sessions = USERS.open(n, 2)
    sessions.start(np.arange(n), history)
    slates = np.tile([2, 4], (n, 1))
    uniforms = np.random.default_rng(0).random((n, DRAWS))
    response = sessions.respond(slates, uniforms, np.ones(n, np.bool_))
    utility = habits.utilities(np.array([[1, 0, 0, -1]]), 3)[0]
    weights = np.exp([utility[2], utility[1] - habits.position_effect, 0.0])
    wanted = weights / weights.sum()
    for place, share in zip((0, 1, -1), wanted, strict=True):
        assert (response.choice == place).mean() == pytest.approx(share, abs=0.01)
    assert response.accept_probability == pytest.approx(wanted[:2].sum())
    first = response.choice == 0
    shares = habits.level_shares(utility[2:])[0]
    found = np.bincount(response.level[first], minlength=LEVELS) / first.sum()
    assert found == pytest.approx(shares, abs=0.015)
    skipped = response.choice < 0
    assert response.leave[skipped].mean() == pytest.approx(habits.leave_after_skip, abs=0.01)
    hated = response.level == 0
    assert response.leave[hated].mean() == pytest.approx(habits.leave_after[0], abs=0.03)
    seconds = np.log(response.dwell_seconds[first])
    assert seconds.mean() == pytest.approx(np.log(60) + utility[2] / 4, abs=0.02)
    assert seconds.std() == pytest.approx(habits.dwell_spread, abs=0.02)
    assert np.isnan(response.dwell_seconds[skipped]).all()


def test_consumed_items_copies_and_resting_slots_choose_nothing() -> None:
    sessions = USERS.open(3, 2, Assumptions(acceptance=0.9))
    sessions.start(np.arange(3), Histories.from_lists([[(5, 1)]] * 3))
    slates = np.array([[5, 5], [7, 7], [7, 8]])
    uniforms = np.zeros((3, DRAWS))  # 0 takes the first open place
    response = sessions.respond(slates, uniforms, np.array([True, True, False]))
    assert response.choice.tolist() == [-1, 0, -1]
    assert response.accept_probability[0] == 0 and response.accept_probability[2] == 0
    assert not response.leave[2]
    again = sessions.respond(slates, uniforms, np.ones(3, np.bool_))
    assert again.choice.tolist() == [-1, -1, 0]  # 7 is consumed in slot 1, not in slot 2


def test_score_is_the_expected_reward() -> None:
    items, _, lengths = Histories.from_lists([[(0, 2), (3, 2), (1, 0)]]).padded()
    score = USERS.score(items, items, lengths)[0]
    process = TopicProcess.of(USERS)
    pay = process.pay[process.state_of(items, lengths)[0]]
    assert score[6:9] == pytest.approx(pay, rel=1e-6)
    assert np.isneginf(score[[0, 1, 3]]).all() and np.isneginf(score).sum() == 3


# Plans


def test_the_plan_is_the_best_of_all_policies_by_enumeration() -> None:
    """Two steps, two topics, memory 1: every deterministic policy, worked out by hand."""
    users = ScriptedUsers(100, 2, habits=Habits(memory=1))
    process = TopicProcess.of(users)
    assert len(process.pay) == 3  # nothing, topic 0, topic 1
    state = 1
    best = -np.inf
    for now, chosen, skipped in itertools.product((0, 1), repeat=3):
        after = process.after[state, now]
        value = process.pay[state, now]
        value += process.go[state, now] * process.pay[after, chosen]
        value += process.wait[state, now] * process.pay[state, skipped]
        best = max(best, value)
    found = plan(users, 2)
    assert found.action_values[1, state].max() == pytest.approx(best)
    history = Histories.from_lists([[(0, 1)]])
    assert best_value(users, history, 2)[0] == pytest.approx(best)


def test_planning_pays() -> None:
    """Or the ranking of policies by a simulator would be no test of what it knows of the future."""
    users = ScriptedUsers()
    starts = users.starts("test")
    best, greedy = best_value(users, starts, 30), plan(users, 1).value(starts, 30)
    assert (best >= greedy - 1e-9).all()
    assert greedy.mean() < 0.9 * best.mean()


def test_plans_refuse_what_they_cannot_hold() -> None:
    with pytest.raises(ValueError, match="lower n_topics or memory"):
        plan(ScriptedUsers(n_topics=8, habits=Habits(memory=8)), 3)
    with pytest.raises(ValueError, match="step_limit must be at least 1, got 0"):
        plan(USERS, 0)
    with pytest.raises(ValueError, match="at least 108 items"):
        best_value(USERS, USERS.starts("test"), 100)


# Logs


@pytest.mark.parametrize("policy", ["uniform", "popularity"])
def test_a_log_holds_impressions_skips_and_leaves(policy: Any) -> None:
    frame = write_frame(USERS, policy, new_users=60, sessions=2, slate_size=3, step_limit=20)
    shown = frame.filter(pl.col("slate_id").is_not_null())
    slates = shown.group_by("slate_id").agg(pl.len(), pl.col("chosen").sum())
    assert (slates["len"] == 3).all() and slates["chosen"].max() == 1
    assert 0 < slates["chosen"].mean() < 1  # type: ignore[operator]
    chosen = frame.filter(pl.col("chosen") == 1)
    assert chosen.select("user_id", "item_id").is_unique().all()
    assert chosen["feedback"].null_count() == 0
    assert frame.filter(pl.col("chosen") == 0)["feedback"].null_count() == (
        frame.height - chosen.height
    )
    assert frame["timestamp"].is_finite().all()
    assert (
        frame.group_by("user_id", maintain_order=True)
        .agg((pl.col("timestamp").diff() >= 0).all().alias("ordered"))["ordered"]
        .all()
    )
    first = shown.filter(pl.col("position") == 0)["propensity"]
    if policy == "uniform":
        assert first.max() <= 1 / (120 - START_EVENTS - 40) and first.min() == pytest.approx(
            1 / 112
        )
    else:
        assert first.max() > 5 * first.min()  # type: ignore[operator]


def test_the_log_is_read_and_repeats_with_its_seed() -> None:
    log = USERS.log(users=40, sessions=1, step_limit=10)
    assert log.name == "scripted-uniform" and log.n_users == 40 and log.n_items == 120
    assert log.scale().values == USERS.scale.values
    assert USERS.log(users=40, sessions=1, step_limit=10).fingerprint == log.fingerprint
    assert USERS.log(users=40, sessions=1, step_limit=10, seed=1).fingerprint != log.fingerprint


def test_rates_of_a_log_are_those_of_the_law() -> None:
    frames = [
        write_frame(USERS, policy, new_users=1500, sessions=1, step_limit=60)
        for policy in ("uniform", "popularity")
    ]
    rates = [Rates.of(frame, 60) for frame in frames]
    for found in rates:
        assert found.leave_after_skip == pytest.approx(USERS.habits.leave_after_skip, abs=0.012)
        assert 0.01 < found.leave_after_choice < 0.12
    # Weighted by propensity, who was shown what makes no difference.
    assert rates[0].acceptance == pytest.approx(rates[1].acceptance, abs=0.03)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="n_topics must be from 2 to 8, got 1"):
        ScriptedUsers(n_topics=1)
    with pytest.raises(ValueError, match="n_items must be at least 16"):
        ScriptedUsers(n_items=3)
    with pytest.raises(ValueError, match="feedback_steps must be 4 ascending"):
        Habits(feedback_steps=(0.0, 1.0))
    with pytest.raises(ValueError, match="policy must be one of uniform, popularity"):
        write_frame(USERS, "greedy")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="n_items must be at least 209"):
        write_frame(USERS, sessions=2, step_limit=100)
    with pytest.raises(ValueError, match="item_ids must be ids of the catalogue"):
        USERS.with_items(np.array(["nothing"]), {})


def test_no_torch_is_imported() -> None:
    code = (
        "import sys; from audience.reward_models.scripted import ScriptedUsers;"
        "ScriptedUsers(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
