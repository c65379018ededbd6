"""What judges learn of the answers to slates: rates worked by hand, and those of a scripted log."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from audience.reward_models.fit_data import FitData
from audience.reward_models.histories import Histories
from audience.reward_models.judge_answers import Answers
from audience.reward_models.judge_base import Judge
from audience.reward_models.judges import JUDGES, fit_judge, load_judge
from audience.reward_models.log_slates import Slates
from audience.reward_models.quality_data import QualityData
from audience.reward_models.quality_slates import response_quality
from audience.reward_models.scripted import ScriptedUsers
from audience.reward_models.users import DRAWS, Assumptions

SLATES = frozenset(("acceptance", "popularity_discount"))
NAMES = SLATES | {"leave_after_choice", "leave_after_skip"}


@pytest.fixture(scope="module")
def data() -> QualityData:
    log = ScriptedUsers(60).log(users=160, slate_size=2, step_limit=20)
    return FitData.of(log, None, 0).quality(0)


@pytest.fixture(scope="module", params=list(JUDGES))
def judge(request: pytest.FixtureRequest, data: QualityData) -> Judge:
    return fit_judge(request.param, data)


def test_real_slates_are_accepted_as_often_as_they_were(judge: Judge, data: QualityData) -> None:
    assert judge.learned == NAMES and data.signals is not None
    for name, margin in (("validation", 0.01), ("test", 0.08)):
        slates = data.signals[name].slates
        assert slates is not None
        said = judge.predict_slates(getattr(data, name), slates)
        assert said is not None
        chosen, nothing = said
        whole = np.bincount(slates.row, chosen, len(slates)) + nothing
        np.testing.assert_allclose(whole, 1)
        assert np.mean(1 - nothing) == pytest.approx(np.mean(slates.chosen >= 0), abs=margin)
    card = response_quality(judge, data)
    assert card["slates"] is not None and np.isfinite(card["slates"]["model"]["nll"])
    # All leave alike: nearly as a constant that is fitted to late slates alone.
    leave = card["leave"]
    assert leave is not None
    assert leave["model"]["nll"] == pytest.approx(leave["constant"]["nll"], rel=0.05)


def test_a_session_accepts_and_leaves_as_was_learned(judge: Judge, data: QualityData) -> None:
    """One of the log's own slates, shown to the user at its moment, is answered as predicted."""
    assert data.signals is not None
    slates = data.signals["test"].slates
    assert slates is not None
    row = int(np.flatnonzero(slates.sizes == 2)[5])
    user, shown = slates.user[row], slates.items[slates.offsets[row] :][:2]
    history = data.test.take(np.array([user])).first(int(slates.earlier[row]))
    sessions = judge.open(1, 2, Assumptions())
    sessions.start(np.array([0]), history)
    said = judge.predict_slates(data.test, slates)
    assert said is not None
    answer = sessions.respond(shown[None], np.full((1, DRAWS), 0.5), np.ones(1, bool))
    assert answer.accept_probability[0] == pytest.approx(1 - said[1][row], abs=1e-6)
    own = judge.answers
    assert sessions.leaving == (own.leave_after_choice, own.leave_after_skip)
    by_hand = judge.open(1, 2, Assumptions(leave_after_skip=0.9))
    assert by_hand.leaving == (own.leave_after_choice, 0.9)


def test_what_is_given_stands_in_place_of_what_was_learned(judge: Judge) -> None:
    learned = judge.outside_option(2, Assumptions())
    assert learned == judge.answers.outside == judge.outside_option(1, Assumptions())
    low, high = (judge.outside_option(2, Assumptions(acceptance=a)) for a in (0.2, 0.8))
    assert high < low and low != learned
    # How popularity counts was learned from slates: no part of it can be taken out.
    assert judge.outside_option(1, Assumptions(0.5, popularity_discount=1.0)) == (
        judge.outside_option(1, Assumptions(0.5))
    )


def test_what_was_learned_is_kept(judge: Judge, tmp_path: Path) -> None:
    judge.save_pretrained(tmp_path)
    again = load_judge(tmp_path)
    assert again.answers == judge.answers and again.card == judge.card


def users_of(data: QualityData, slates: Slates | None, ends: list[bool] | None) -> QualityData:
    """The same fitting users with other signals, and validation users without any."""
    assert data.signals is not None
    bare = replace(data.signals["fitting"], slates=None, ends=None)
    own = replace(bare, slates=slates, ends=None if ends is None else np.array(ends))
    return replace(data, signals={**data.signals, "fitting": own, "validation": bare})


def alike(histories: Histories, slates: Slates) -> np.ndarray:
    return np.zeros(len(slates.items))


def test_rates_by_hand(data: QualityData) -> None:
    # Four slates of one item, three chosen; the second choice and the skip end sessions.
    user, none = np.zeros(4, np.int64), np.zeros(4, np.int64)
    chosen, ends = np.array([0, 0, -1, 0]), np.array([False, True, True, False])
    slates = Slates(user, none, np.arange(5), none, none, chosen, ends)
    found = Answers.fit(users_of(data, slates, None), alike)
    appeal = found.appeals(np.zeros(1), np.log(data.catalogue.popularity[:1]))[0]
    assert 1 / (1 + np.exp(found.outside - appeal)) == pytest.approx(3 / 4, abs=1e-3)
    # Half an event of each kind is added.
    assert found.leave_after_choice == pytest.approx(1.5 / 4)
    assert found.leave_after_skip == pytest.approx(1.5 / 2)
    assert found.learned == NAMES


def test_a_log_of_sessions_without_slates_teaches_leaving_alone(data: QualityData) -> None:
    found = Answers.fit(users_of(data, None, [True, False, False]), alike)
    assert found.learned == {"leave_after_choice"}
    assert found.leave_after_choice == pytest.approx(1.5 / 4)
    stated = Assumptions().stated
    assert found.leaving(Assumptions()) == (found.leave_after_choice, stated.leave_after_skip)
    assert found.leaving(Assumptions(leave_after_choice=0.5))[0] == 0.5


def test_a_log_of_neither_teaches_nothing(data: QualityData) -> None:
    for given in (users_of(data, None, None), replace(data, signals=None)):
        found = Answers.fit(given, alike)
        assert found.learned == frozenset() and np.isnan(found.outside)
        stated = Assumptions().stated
        wanted = (stated.leave_after_choice, stated.leave_after_skip)
        assert found.leaving(Assumptions()) == wanted


def test_planted_weights_are_found(data: QualityData) -> None:
    """Users who choose by .6 of a utility less .4 of log-popularity, over nothing at -1."""
    rng, count = np.random.default_rng(0), 4_000
    items = rng.integers(len(data.catalogue), size=(count, 3))
    utilities = rng.normal(-1, 2, (count, 3))
    utilities[:, 1][rng.random(count) < 0.2] = -np.inf  # consumed
    log_popularity = np.log(data.catalogue.popularity)
    appeal = np.concatenate(
        [0.6 * utilities - 0.4 * log_popularity[items], np.full((count, 1), -1.0)], 1
    )
    chosen = (appeal + rng.gumbel(size=appeal.shape)).argmax(1)
    chosen[chosen == 3] = -1
    none = np.zeros(count, np.int64)
    offsets = np.arange(0, 3 * count + 1, 3)
    slates = Slates(none, none, offsets, items.ravel(), 0 * items.ravel(), chosen, None)
    found = Answers.fit(users_of(data, slates, None), lambda _, shown: utilities.ravel())
    weights = (found.taste, found.popularity, found.outside)
    assert weights == pytest.approx((0.6, -0.4, -1.0), abs=0.12)
    assert found.learned == SLATES


def test_popularity_that_was_exposure_is_learned_to_count_for_less() -> None:
    """Of a log shown by popularity, which users of these logs do not care for."""
    users = ScriptedUsers(60)
    said = {}
    for policy in ("uniform", "popularity"):
        log = users.log(policy, users=160, slate_size=3, step_limit=20)
        data = FitData.of(log, None, 0).quality(0)
        judge = fit_judge("als", data)
        said[policy] = judge.answers.popularity
        card = response_quality(judge, data)["slates"]
        assert card is not None and card["model"]["nll"] < card["constant"]["nll"]
    assert said["popularity"] < -0.2 < said["uniform"]
