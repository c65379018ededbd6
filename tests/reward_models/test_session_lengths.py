"""Lengths of sessions: real ones as the log has them, simulated ones by who learned to leave."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from audience.reward_models import session_lengths as module
from audience.reward_models.catalogue import Catalogue
from audience.reward_models.fit_data import FitData
from audience.reward_models.histories import Histories
from audience.reward_models.log_slates import Slates
from audience.reward_models.quality_data import QualityData
from audience.reward_models.scale import FeedbackScale
from audience.reward_models.scripted import ScriptedUsers
from audience.reward_models.scripted_habits import Habits
from audience.reward_models.session_lengths import session_lengths
from audience.reward_models.signals import Signals
from audience.reward_models.users import Response

I64 = NDArray[np.int64]
LEARNED = frozenset({"leave"})


@pytest.fixture(scope="module")
def scripted() -> tuple[ScriptedUsers, QualityData]:
    users = ScriptedUsers()
    data = FitData.of(users.log("popularity", users=1_000, slate_size=3), None, 0)
    return users.with_items(data.catalogue.item_ids, {}), data.quality(0)


def test_the_users_who_wrote_the_log_stay_as_long_as_it_says(
    scripted: tuple[ScriptedUsers, QualityData],
) -> None:
    users, data = scripted
    vars(users)["learned"] = LEARNED
    found = session_lengths(users, data, 0)
    assert found is not None
    real, simulated = found
    slates = data.signals["test"].slates if data.signals else None
    assert slates is not None and slates.ends is not None
    # Two sessions of each user, all with 8 events before them; their lengths cover all slates.
    assert len(real) == len(simulated) == 2 * len(data.test) and real.sum() == len(slates)
    # 390 against 390: two samples of one distribution are below .097 in 95 % of cases.
    assert ks_2samp(real, simulated).statistic < 0.097
    again = session_lengths(users, data, 0)
    assert again is not None and np.array_equal(again[1], simulated)
    other = session_lengths(users, data, 1)
    assert other is not None and not np.array_equal(other[1], simulated)

    restless = ScriptedUsers(habits=Habits(leave_after_skip=0.3, leave_after=(0.3, 0.1)))
    restless = restless.with_items(data.catalogue.item_ids, {})
    vars(restless)["learned"] = LEARNED
    found = session_lengths(restless, data, 0)
    assert found is not None and ks_2samp(*found).statistic > 0.25


class Counting:
    """Users who leave after `patience` steps; they note what they were shown."""

    learned = LEARNED

    def __init__(self, patience: int, items: int = 10) -> None:
        names = np.arange(items).astype(np.str_)
        self.catalogue = Catalogue(names, names, np.ones(items, np.int64), np.ones(items))
        self.patience, self.shown, self.starts_seen = patience, [], []  # type: ignore[var-annotated]

    def open(self, slots: int, slate_size: int, assumptions: object) -> Counting:
        self.steps, self.size = np.zeros(slots, np.int64), slate_size
        return self

    def roam(self, slots: int) -> Counting:
        return self.open(slots, 1, None)

    def start(self, slots: I64, histories: Histories) -> None:
        ends = zip(histories.offsets[:-1], histories.offsets[1:], strict=True)
        self.starts_seen = [histories.items[a:b].tolist() for a, b in ends]

    def respond(
        self, slates: I64, uniforms: NDArray[np.float64], active: NDArray[np.bool_]
    ) -> Response:
        assert slates.shape == (len(self.steps), self.size) and uniforms.shape[1] == 4
        self.shown += slates[active].tolist()
        self.steps += active
        choice = np.where(active, 0, -1)
        item = np.where(active, slates[:, 0], -1)
        none = np.zeros(len(slates))
        return Response(choice, item, choice, self.steps >= self.patience, none, none, none)

    def wander(self, slots: I64, uniforms: NDArray[np.float64]) -> NDArray[np.bool_]:
        assert uniforms.shape == (len(slots), 3)
        self.steps[slots] += 1
        return self.steps[slots] >= self.patience


def hand_data(slates: Slates | None, ends: list[bool] | None, pool: Slates | None) -> QualityData:
    """Ann has 8 events, bob 6, both of items 0, 1, 2, …"""
    events = Histories.from_lists([[(item, 0) for item in range(n)] for n in (8, 6)])
    names = np.arange(10).astype(np.str_)
    catalogue = Catalogue(names, names, np.ones(10, np.int64), np.ones(10))
    none = np.zeros((2, 0), np.float32)
    flags = None if ends is None else np.array(ends)
    test = Signals(slates, flags, None, None, none)
    fitting = Signals(pool, flags, None, None, none)
    signals = {"fitting": fitting, "validation": fitting, "test": test}
    parts: Any = (events, np.ones(14)) * 3
    return QualityData(*parts, FeedbackScale((1.0,)), catalogue, signals=signals)


def slates_of(user: list[int], earlier: list[int], ends: list[bool], items: list[int]) -> Slates:
    n = len(user)
    return Slates(
        np.array(user),
        np.array(earlier),
        np.arange(n + 1) * (len(items) // n),
        np.array(items),
        np.zeros(len(items), np.int64),
        np.full(n, -1),
        np.array(ends),
    )


def test_sessions_of_events_by_hand() -> None:
    # Ann: sessions of events 0-4, 5 and 6-7; only the last two begin with 5 events. Bob: 0-4,
    # and event 5, which has no end.
    ann, bob = [0, 0, 0, 0, 1, 1, 0, 1], [0, 0, 0, 0, 1, 0]
    data = hand_data(None, [bool(x) for x in ann + bob], None)
    users = Counting(patience=2)
    found = session_lengths(users, data, 0)
    assert found is not None
    assert found[0].tolist() == [1, 2] and found[1].tolist() == [2, 2]
    assert users.starts_seen == [[0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5]]
    # Those who never leave are cut at the longest real session.
    found = session_lengths(Counting(patience=99), data, 0)
    assert found is not None and found[1].tolist() == [2, 2]
    # A catalogue of 7 items has 2 and 1 left for them.
    found = session_lengths(Counting(patience=99, items=7), data, 0)
    assert found is not None and found[1].tolist() == [2, 1]


def test_a_session_without_an_end_is_not_joined_to_the_next_users() -> None:
    ann, bob = [0, 0, 0, 0, 1, 0, 1, 0], [1, 0, 0, 0, 0, 1]
    found = session_lengths(
        Counting(patience=1), hand_data(None, [bool(x) for x in ann + bob], None), 0
    )
    assert found is not None and found[0].tolist() == [2]


def test_sessions_of_slates_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    # Ann's first session has 4 events before it and does not count; bob's second has no end.
    shown = slates_of(
        [0, 0, 0, 0, 0, 1, 1],
        [4, 5, 5, 5, 7, 6, 6],
        [True, False, False, True, True, True, False],
        [8, 9] * 7,
    )
    pool = slates_of([0, 0, 1], [5, 5, 5], [False] * 3, [0, 1, 8, 7, 9, 8])
    users = Counting(patience=2)
    found = session_lengths(users, hand_data(shown, None, pool), 0)
    assert found is not None
    assert found[0].tolist() == [3, 1, 1] and found[1].tolist() == [2, 2, 2]
    assert [len(start) for start in users.starts_seen] == [5, 7, 6]
    assert users.size == 2 and all(slate in [[0, 1], [8, 7], [9, 8]] for slate in users.shown)
    # [0, 1] was consumed by all; with 8 draws at hand one of the other two is there.
    assert [0, 1] not in users.shown
    monkeypatch.setattr(module, "MOST_SESSIONS", 2)
    found = session_lengths(users, hand_data(shown, None, pool), 0)
    assert found is not None and len(found[0]) == len(found[1]) == 2


def test_what_was_chosen_is_not_shown_again() -> None:
    shown = slates_of([0, 0, 1], [5, 6, 6], [False, True, True], [8, 9] * 3)
    pool = slates_of([0, 0], [5, 5], [False] * 2, [8, 9])
    users = Counting(patience=2)
    assert session_lengths(users, hand_data(shown, None, pool), 0) is not None
    first, second = users.shown[:2], users.shown[2:]
    assert all(a != b for a, b in zip(first, second, strict=True))


def test_slates_of_the_commonest_size_are_shown() -> None:
    shown = slates_of([0], [5], [True], [8, 9])
    pool = slates_of([0, 0, 1, 1], [5] * 4, [False] * 4, [5, 6, 7, 8])
    mixed = Slates(
        pool.user,
        pool.earlier,
        np.array([0, 2, 3, 4, 4]),
        pool.items,
        pool.places,
        pool.chosen,
        pool.ends,
    )
    users = Counting(patience=1)
    assert session_lengths(users, hand_data(shown, None, mixed), 0) is not None
    assert users.size == 1 and users.shown[0] in ([7], [8])


def test_what_was_not_learned_or_logged_has_no_lengths() -> None:
    users = Counting(patience=1)
    ends = [True] * 14
    assert session_lengths(users, hand_data(None, ends, None), 0) is not None
    assert session_lengths(object(), hand_data(None, ends, None), 0) is None
    assert session_lengths(users, hand_data(None, None, None), 0) is None
    assert session_lengths(users, hand_data(None, [False] * 14, None), 0) is None
    sessions = slates_of([0], [5], [True], [8, 9])
    none = slates_of([0], [5], [True], [8, 9])
    empty = Slates(*(a[:0] for a in (none.user, none.earlier)), np.zeros(1, np.int64),
                   *(a[:0] for a in (none.items, none.places, none.chosen)), None)  # fmt: skip
    assert session_lengths(users, hand_data(sessions, None, empty), 0) is None
