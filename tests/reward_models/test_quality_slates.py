"""Heads that know the truth beat the constants; those that know nothing do not."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from audience.reward_models.catalogue import Catalogue
from audience.reward_models.fit_data import FitData
from audience.reward_models.histories import Histories
from audience.reward_models.log_slates import Slates
from audience.reward_models.quality_data import FIRST_EVENT, QualityData
from audience.reward_models.quality_slates import response_quality
from audience.reward_models.scale import FeedbackScale
from audience.reward_models.scripted import ScriptedUsers
from audience.reward_models.signals import Signals

F64 = NDArray[np.float64]


class Oracle:
    """Scripted users' own law, as the heads of a model."""

    def __init__(self, users: ScriptedUsers, steeper: float = 1.0) -> None:
        self.users, self.steeper = users, steeper

    def utilities(self, histories: Histories, user: Any, earlier: Any) -> F64:
        """Of each topic before so many events of these users, (moments, topics)."""
        items, _, _ = histories.padded()
        recent = self.users.recent(items[user], earlier)
        return self.users.habits.utilities(recent, self.users.n_topics)

    def predict_slates(self, histories: Histories, slates: Slates) -> tuple[F64, F64]:
        row = np.repeat(np.arange(len(slates)), slates.sizes)
        of_topics = self.utilities(histories, slates.user, slates.earlier)
        utility = of_topics[row, self.users.topics[slates.items]]
        weight = np.exp(self.steeper * utility - self.users.habits.position_effect * slates.places)
        whole = 1 + np.bincount(row, weight, len(slates))
        return weight / whole[row], 1 / whole

    def predict_leaves(self, histories: Histories, slates: Slates | None) -> F64:
        habits = self.users.habits
        if slates is None:
            return habits.leave_by_level[histories.levels]
        event = histories.offsets[slates.user] + slates.earlier
        level = histories.levels[np.minimum(event, len(histories.levels) - 1)]
        return np.where(slates.chosen >= 0, habits.leave_by_level[level], habits.leave_after_skip)

    def predict_dwell(self, histories: Histories) -> tuple[F64, F64]:
        user = np.repeat(np.arange(len(histories)), histories.lengths)
        earlier = np.arange(len(user)) - histories.offsets[user]
        of_topics = self.utilities(histories, user, earlier)
        utility = of_topics[np.arange(len(user)), self.users.topics[histories.items]]
        habits = self.users.habits
        mean = np.log(habits.dwell_seconds) + utility / 4
        return mean, np.full(len(user), habits.dwell_spread)


@pytest.fixture(scope="module")
def scripted() -> tuple[ScriptedUsers, QualityData]:
    users = ScriptedUsers()
    data = FitData.of(users.log("popularity", users=400, slate_size=3), None, 0)
    return users.with_items(data.catalogue.item_ids, {}), data.quality(0)


def test_the_truth_beats_the_constants_on_every_part(
    scripted: tuple[ScriptedUsers, QualityData],
) -> None:
    users, data = scripted
    found = response_quality(Oracle(users), data)
    for name in ("leave", "slates", "dwell"):
        part = found[name]
        assert part is not None
        assert part["difference"]["nll"]["high"] < 0
        assert part["model"]["nll_low"] < part["model"]["nll"] < part["model"]["nll_high"]
    leave, slates, dwell = (found[name] or {} for name in ("leave", "slates", "dwell"))
    # All users have 8 events before their first slate; one never chose.
    assert leave["users"] == slates["users"] == len(data.test) == dwell["users"] + 1
    assert leave["difference"]["auc"]["low"] > 0 and leave["model"]["ece"] < 0.02
    # A constant for choices and one for skips has few values: its ECE is no noise of ties.
    assert leave["constant"]["ece"] < 0.02
    assert slates["constant"]["auc"] == pytest.approx(0.5, abs=0.05)
    assert slates["difference"]["auc"]["low"] > 0.1
    # Knowing the law, only its noise is left: entropy and deviation of a normal variable.
    spread = users.habits.dwell_spread
    assert dwell["model"]["rmse"] == pytest.approx(spread, rel=0.05)
    assert dwell["model"]["nll"] == pytest.approx(np.log(spread) + 1.4189, abs=0.05)
    exaggerating = response_quality(Oracle(users, steeper=3), data)["slates"]
    assert exaggerating is not None and exaggerating["model"]["nll"] > slates["model"]["nll"] + 0.1


def test_without_slates_leaving_is_measured_after_events(
    scripted: tuple[ScriptedUsers, QualityData],
) -> None:
    users, data = scripted
    assert data.signals is not None
    bare = {name: dataclasses.replace(of, slates=None) for name, of in data.signals.items()}
    found = response_quality(Oracle(users), dataclasses.replace(data, signals=bare))
    assert found["slates"] is None and found["leave"] is not None
    assert found["leave"]["moments"] == int((data.test.lengths - FIRST_EVENT).sum())
    ends = data.signals["fitting"].ends
    assert ends is not None
    starts = np.repeat(data.fitting.offsets[:-1], data.fitting.lengths)
    at = np.arange(len(ends)) - starts >= FIRST_EVENT
    rate = (ends[at].sum() + 0.5) / (at.sum() + 1)
    assert found["leave"]["constant"]["settings"] == pytest.approx({"after_choice": rate})


ITEMS = np.arange(8).astype(np.str_)


def hand_data(**changes: Any) -> QualityData:
    """Fitting: 4 slates of two, 3 chosen from, one left after. Test: 2 slates from the 6th on."""
    events = Histories.from_lists([[(item, 0) for item in range(8)]], ["ann"])
    none = np.zeros((1, 0), np.float32)

    def slates(earlier: list[int], chosen: list[int], ends: list[bool]) -> Slates:
        n = len(earlier)
        return Slates(
            np.zeros(n, np.int64),
            np.array(earlier),
            np.arange(0, 2 * n + 1, 2),
            np.tile([6, 7], n),
            np.tile([0, 1], n),
            np.array(chosen),
            np.array(ends),
        )

    fitting = Signals(
        slates([5, 6, 6, 7], [0, -1, 1, 0], [False, True, False, False]),
        None,
        np.array([np.nan] * 5 + [1.0, np.e**2, np.nan]),
        None,
        none,
    )
    # The first has four events before it and is not measured.
    test = Signals(
        slates([4, 5, 6], [0, 1, -1], [True, False, True]),
        None,
        np.array([7.0] * 5 + [np.e, np.e**3, np.nan]),
        None,
        none,
    )
    given = {"fitting": fitting, "validation": fitting, "test": test} | changes
    values = np.ones(8)
    catalogue = Catalogue(ITEMS, ITEMS, np.ones(8, np.int64), np.ones(8))
    parts = (events, values) * 3
    return QualityData(*parts, FeedbackScale((1.0,)), catalogue, signals=given)


class Fixed:
    """Says what it is told."""

    def __init__(self, **said: Any) -> None:
        self.said = said

    def predict_slates(self, histories: Histories, slates: Slates) -> Any:
        assert slates.earlier.tolist() == [5, 6]
        return self.said.get("slates")

    def predict_leaves(self, histories: Histories, slates: Slates | None) -> Any:
        return self.said.get("leaves")

    def predict_dwell(self, histories: Histories) -> Any:
        return self.said.get("dwell")


SAID = {
    "slates": (np.array([0.1, 0.5, 0.2, 0.2]), np.array([0.4, 0.6])),
    "leaves": np.array([0.25, 0.75]),
    "dwell": (np.full(8, 2.0), np.full(8, 1.0)),
}


def test_figures_by_hand() -> None:
    found = response_quality(Fixed(**SAID), hand_data())
    slates, leave, dwell = (found[name] or {} for name in ("slates", "leave", "dwell"))
    assert slates["model"]["nll"] == pytest.approx(-np.log([0.5, 0.6]).mean())
    # 3 of 4 accepted: (3 + .5) / 5 = .7 of all, (3 + .7) / 5 of slates of two, half each place.
    accepted = 3.7 / 5
    assert slates["constant"]["nll"] == pytest.approx(-np.log([accepted / 2, 1 - accepted]).mean())
    assert slates["model"]["auc"] == 1 and slates["constant"]["auc"] == 0.5
    assert leave["model"]["nll"] == pytest.approx(-np.log(0.75))
    assert leave["model"]["ece"] == pytest.approx(0.25)
    # None of 3 left after a choice, the only one who skipped did.
    rates = {"after_choice": 0.5 / 4, "after_skip": 1.5 / 2}
    assert leave["constant"]["settings"] == pytest.approx(rates)
    assert leave["constant"]["nll"] == pytest.approx(-np.log([1 - 0.125, 0.75]).mean())
    assert leave["difference"]["nll"]["against"] == "constant"
    # Log-seconds 1 and 3 against 2 +- 1; fitting users have 0 and 2.
    assert dwell["model"]["rmse"] == pytest.approx(1)
    assert dwell["model"]["nll"] == pytest.approx(np.log(2 * np.pi) / 2 + 0.5)
    assert dwell["constant"]["settings"] == pytest.approx({"mean": 1, "std": 1})
    assert dwell["constant"]["rmse"] == pytest.approx(np.sqrt(2))
    assert dwell["moments"] == leave["moments"] == slates["moments"] == 2


def test_a_size_never_seen_is_accepted_like_all() -> None:
    data = hand_data()
    assert data.signals is not None and (known := data.signals["fitting"].slates) is not None
    single = dataclasses.replace(
        known, items=known.items[::2], places=known.places[::2], offsets=np.arange(5)
    )
    single = dataclasses.replace(single, chosen=np.minimum(known.chosen, 0))
    fitting = dataclasses.replace(data.signals["fitting"], slates=single)
    found = response_quality(Fixed(**SAID), hand_data(fitting=fitting))["slates"]
    assert found is not None
    assert found["constant"]["nll"] == pytest.approx(-np.log([0.7 / 2, 0.3]).mean())


def test_a_model_that_says_the_constant_differs_by_nothing() -> None:
    said = np.array([0.5 / 4, 1.5 / 2])
    found = response_quality(Fixed(leaves=said), hand_data())["leave"]
    assert found is not None
    nothing = {"mean": 0.0, "low": 0.0, "high": 0.0, "against": "constant"}
    assert found["difference"] == {"nll": nothing, "auc": nothing}


def test_ties_are_one_bin_of_the_calibration_error() -> None:
    ends = np.array([False] * 5 + [True, True, False])
    signals = Signals(None, ends, None, None, np.zeros((1, 0), np.float32))
    data = hand_data(test=signals, fitting=signals)
    found = response_quality(Fixed(leaves=np.full(8, 2 / 3)), data)["leave"]
    assert found is not None and found["model"]["ece"] == pytest.approx(0, abs=1e-12)


def test_what_the_log_or_the_model_lacks_is_none() -> None:
    nothing = {"leave": None, "slates": None, "dwell": None}
    assert response_quality(object(), hand_data()) == nothing
    assert response_quality(Fixed(), hand_data()) == nothing
    assert response_quality(Fixed(**SAID), hand_data(signals=None)) != nothing
    without = dataclasses.replace(hand_data(), signals=None)
    assert response_quality(Fixed(**SAID), without) == nothing
    bare = Signals(None, None, None, None, np.zeros((1, 0), np.float32))
    assert response_quality(Fixed(**SAID), hand_data(test=bare, fitting=bare)) == nothing
    unknown = Signals(None, None, np.full(8, np.nan), None, bare.features)
    assert response_quality(Fixed(**SAID), hand_data(test=unknown))["dwell"] is None


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"slates": (np.ones(3), np.ones(2))}, r"P\(chosen\) must be 4 finite numbers"),
        ({"slates": (np.full(4, 0.5), np.full(2, 0.4))}, "got slate 0 off by 0.4"),
        ({"slates": (np.array([2, -1, 0.5, 0.5]), np.zeros(2))}, "probabilities, got -1 to 2"),
        ({"leaves": np.array([0.5, np.nan])}, "predict_leaves must be 2 finite numbers"),
        ({"leaves": np.array([0.5, 1.5])}, "predict_leaves must be probabilities"),
        ({"dwell": (np.ones(7), np.ones(8))}, "finite mean for each of the 8 events"),
        ({"dwell": (np.ones(8), np.zeros(8))}, "standard deviations above 0, got 0"),
    ],
)
def test_wrong_predictions_are_refused(said: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        response_quality(Fixed(**said), hand_data())
