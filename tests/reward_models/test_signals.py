"""What a log says beside items and feedback stays with the right event when repeats are dropped."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from audience.reward_models.catalogue import Catalogue
from audience.reward_models.fit_data import FitData
from audience.reward_models.log import InteractionLog
from audience.reward_models.scripted import ScriptedUsers
from audience.reward_models.signals import Signals, taken
from audience.reward_models.users import POPULATIONS

ITEMS = pl.DataFrame({"item_id": list("vwxyz"), "title": ["A", "B", "C", "D", "E"]})

# Ann meets x twice: by herself, then chosen from slate s2 (a repeat that ends session m). Slate
# s3 without a choice follows it, then s4 with the choice z. Bob met y and z.
ROWS = """ann x 4 m - 1 30 good
ann y 3 m s1 1 5 -
ann v - m s1 0 - -
ann x 5 m s2 1 0 again
ann w - m s2 0 - -
ann v - n s3 0 - -
ann z 2 n s4 1 0 -
ann w - n s4 0 - -
bob y 1 p - 1 - fine
bob z 1 p - 1 - -"""


def small_log() -> InteractionLog:
    columns = ["user_id", "item_id", "feedback", "session_id", "slate_id", "chosen"]
    columns += ["dwell_seconds", "text"]
    rows = [[None if x == "-" else x for x in line.split()] for line in ROWS.splitlines()]
    frame = pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String), orient="row")
    numbers = ["feedback", "chosen", "dwell_seconds"]
    frame = frame.with_columns(pl.col(numbers).cast(pl.Float64))
    return InteractionLog.from_frames(frame, ITEMS, name="small")


def signals_of(log: InteractionLog, items: str = "vwxyz") -> tuple[Signals, list[int]]:
    names = np.array(list(items))
    catalogue = Catalogue(names, names, np.ones(len(names), np.int64), np.ones(len(names)))
    every = log.histories(["ann", "bob"], catalogue, log.scale())
    histories, kept = every.without_repeats()
    found = Signals.of(log, every, kept, catalogue, np.array(["ann"]))
    return found, histories.items.tolist()


def test_a_dropped_repeat_takes_its_slate_its_end_and_its_words_along() -> None:
    found, items = signals_of(small_log())
    assert items == [2, 3, 4, 3, 4]  # x y z | y z
    slates = found.slates
    assert slates is not None and slates.ends is not None
    # s2, of which x was chosen again, is gone: z would have passed for its choice.
    assert slates.user.tolist() == [0, 0, 0]
    assert slates.earlier.tolist() == [1, 2, 2]
    assert slates.items.tolist() == [3, 0, 0, 4, 1]
    assert slates.chosen.tolist() == [0, -1, 0]
    assert slates.ends.tolist() == [False, False, True]
    # The repeat ended session m, and no kept event did.
    assert found.ends is not None and found.ends.tolist() == [False, False, True, False, True]
    assert found.dwell is not None
    assert found.dwell.tolist() == pytest.approx([30, 5, *[np.nan] * 3], nan_ok=True)
    assert found.texts is not None and found.texts.tolist() == ["good", "", "", "fine", ""]
    assert found.features.shape == (2, 0)


def test_a_bare_log_has_no_signals() -> None:
    log = small_log()
    events = log.interactions.select("user_id", "item_id", "feedback")
    once = events.unique(["user_id", "item_id"], keep="first", maintain_order=True)
    bare = InteractionLog.from_frames(once, log.items)
    found, _ = signals_of(bare)
    assert found.slates is found.ends is found.dwell is found.texts is None
    assert found.features.shape == (2, 0)


def test_taken_slates_keep_their_items() -> None:
    slates = signals_of(small_log())[0].slates
    assert slates is not None
    some = taken(slates, np.array([2, 0]))
    assert some.earlier.tolist() == [2, 1] and some.chosen.tolist() == [0, 0]
    assert some.items.tolist() == [4, 1, 3, 0] and some.offsets.tolist() == [0, 2, 4]
    assert some.ends is not None and some.ends.tolist() == [True, False]
    assert len(taken(slates, np.zeros(0, np.int64))) == 0


@pytest.fixture(scope="module")
def scripted_log() -> InteractionLog:
    log = ScriptedUsers(60).log(users=80, slate_size=3, step_limit=20)
    ages = pl.DataFrame({"user_id": log.user_ids, "age": np.arange(80) * 1.0})
    people = ages.with_columns(kind=pl.when(pl.col("age") < 20).then(pl.lit("a")).otherwise(None))
    assert log.shown is not None
    return InteractionLog.from_frames(log.shown, log.items, users=people)


def test_every_population_is_aligned_with_its_histories(scripted_log: InteractionLog) -> None:
    data = FitData.of(scripted_log, None, 0)
    assert data.feature_names == ("age", "kind is missing")
    for name in POPULATIONS:
        histories, found = data.histories[name], data.signals[name]
        assert found.slates is not None and found.ends is not None and found.dwell is not None
        assert found.ends.shape == found.dwell.shape == histories.items.shape
        assert found.features.shape == (len(histories), 2)
        slates = found.slates
        taken_up = np.flatnonzero(slates.chosen >= 0)
        event = histories.offsets[slates.user[taken_up]] + slates.earlier[taken_up]
        picked = slates.items[slates.offsets[taken_up] + slates.chosen[taken_up]]
        np.testing.assert_array_equal(histories.items[event], picked)
        assert np.isfinite(found.dwell[event]).all()
        assert slates.ends is not None
        np.testing.assert_array_equal(found.ends[event], slates.ends[taken_up])
    fitting = data.signals["fitting"].features
    assert fitting[:, 0].mean() == pytest.approx(0, abs=1e-5)
    assert fitting[:, 0].std() == pytest.approx(1, abs=1e-5)
    assert abs(data.signals["test"].features[:, 0].mean()) > 1e-3
    measures = data.quality(0)
    assert measures.signals is not None
    assert measures.signals["validation"] is data.signals["validation"]


def test_nobody_left_to_test_has_signals_of_nobody(scripted_log: InteractionLog) -> None:
    found = FitData.of(scripted_log, None, 0, everyone=True).signals["test"]
    assert found.slates is not None and len(found.slates) == 0
    assert found.ends is not None and found.dwell is not None
    assert len(found.ends) == len(found.dwell) == 0 and found.texts is None
    assert found.features.shape == (0, 2)
