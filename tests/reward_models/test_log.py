import datetime as dt
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from audience.reward_models.log import SHRINKAGE_EVENTS, InteractionLog
from audience.reward_models.scale import FeedbackScale

ITEMS = pl.DataFrame({"item_id": ["x", "y", "z", "w"], "title": ["Ex", "Why", "Zed", "Dub"]})


def frame(rows: Sequence[tuple[object, ...]], *names: str) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=list(names), orient="row")


@pytest.fixture
def log() -> InteractionLog:
    """Cas has two events in one second, and x twice; w has no event."""
    events = [
        ("cas", "x", 5, 30), ("ann", "x", 4, 20), ("cas", "y", 1, 10), ("cas", "z", 2, 10),
        ("ann", "y", 2, 10), ("bob", "z", 3, 5), ("cas", "x", 4, 40),
    ]  # fmt: skip
    interactions = frame(events, "user_id", "item_id", "feedback", "timestamp")
    return InteractionLog.from_frames(interactions, ITEMS, name="tiny")


def test_counts(log: InteractionLog) -> None:
    assert (log.name, log.n_users, log.n_items, log.n_events) == ("tiny", 3, 4, 7)
    assert log.has_feedback and log.has_time
    assert log.user_ids.tolist() == ["ann", "bob", "cas"]


def test_histories_are_oldest_first_with_ties_in_file_order(log: InteractionLog) -> None:
    catalogue = log.catalogue(log.user_ids, min_events=1)
    assert catalogue.item_ids.tolist() == ["x", "y", "z"]
    histories = log.histories(["cas", "bob", "ann"], catalogue, log.scale())
    assert histories.users.tolist() == ["cas", "bob", "ann"]
    assert histories.offsets.tolist() == [0, 4, 5, 7]
    assert catalogue.item_ids[histories.items].tolist() == ["y", "z", "x", "x", "z", "y", "x"]
    values = log.values(["cas", "bob", "ann"], catalogue)
    assert values.tolist() == [1, 2, 5, 4, 3, 2, 4]
    assert np.array(log.scale().values)[histories.levels].tolist() == values.tolist()


def test_histories_without_timestamps_keep_file_order(log: InteractionLog) -> None:
    events = log.interactions.drop("timestamp")[:6]
    plain = InteractionLog.from_frames(events, ITEMS)
    catalogue = plain.catalogue(plain.user_ids, min_events=1)
    histories = plain.histories(["cas", "ann"], catalogue, plain.scale())
    assert not plain.has_time
    assert catalogue.item_ids[histories.items].tolist() == ["x", "y", "z", "x", "y"]


def test_items_beyond_the_catalogue_leave_empty_histories(log: InteractionLog) -> None:
    catalogue = log.catalogue(log.user_ids, min_events=2)
    catalogue = type(catalogue)(*(column[:2] for column in vars(catalogue).values()))
    assert catalogue.item_ids.tolist() == ["x", "y"]
    histories = log.histories(["bob", "ann"], catalogue, log.scale())
    assert histories.lengths.tolist() == [0, 2]


def test_catalogue_counts_and_shrinks_over_the_users_given(log: InteractionLog) -> None:
    catalogue = log.catalogue(["ann", "cas"], min_events=2)
    assert catalogue.item_ids.tolist() == ["x", "y"]
    assert catalogue.texts.tolist() == ["Ex", "Why"]
    assert catalogue.counts.tolist() == [3, 2]
    mean = (5 + 4 + 1 + 2 + 2 + 4) / 6
    expected = [
        (13 + SHRINKAGE_EVENTS * mean) / (3 + SHRINKAGE_EVENTS),
        (3 + SHRINKAGE_EVENTS * mean) / (2 + SHRINKAGE_EVENTS),
    ]
    assert catalogue.mean_feedback == pytest.approx(expected)


def test_groups_each_need_the_events(log: InteractionLog) -> None:
    groups = [["ann"], ["cas"]]
    catalogue = log.catalogue(log.user_ids, min_events=1, groups=groups)
    assert catalogue.item_ids.tolist() == ["x", "y"]  # z: cas and bob, not ann
    assert catalogue.counts.tolist() == [3, 2]


def test_scale_of_some_users(log: InteractionLog) -> None:
    assert log.scale().values == (1, 2, 3, 4, 5)
    assert log.scale(["ann"]).values == (2, 4)


def test_an_implicit_log_has_one_level(log: InteractionLog) -> None:
    implicit = InteractionLog.from_frames(log.interactions.drop("feedback"), ITEMS)
    scale = implicit.scale()
    assert not implicit.has_feedback and scale == FeedbackScale((1.0,))
    catalogue = implicit.catalogue(implicit.user_ids, min_events=1)
    assert catalogue.mean_feedback.tolist() == [1, 1, 1]
    assert implicit.histories(implicit.user_ids, catalogue, scale).levels.tolist() == [0] * 7
    assert implicit.values(implicit.user_ids, catalogue).tolist() == [1] * 7


def test_negative_feedback_is_legal() -> None:
    events = frame([("a", "x", -3), ("b", "y", 2)], "user_id", "item_id", "feedback")
    assert InteractionLog.from_frames(events, ITEMS).scale().values == (-3, 2)


def test_errors_of_arguments(log: InteractionLog) -> None:
    with pytest.raises(ValueError, match=r"tiny: .*at least 2 items with min_events=4 .*got 0"):
        log.catalogue(log.user_ids, min_events=4)
    with pytest.raises(ValueError, match="users of the log, got 'eve'"):
        log.scale(["ann", "eve"])
    with pytest.raises(ValueError, match="must be distinct"):
        log.scale(["ann", "ann"])
    with pytest.raises(ValueError, match="at least one user, got none"):
        log.catalogue([])
    with pytest.raises(TypeError, match="interactions must be a polars DataFrame, got list"):
        InteractionLog.from_frames([], ITEMS)  # type: ignore[arg-type]


def test_fingerprint_follows_the_content(log: InteractionLog) -> None:
    again = InteractionLog.from_frames(log.interactions, ITEMS, name="other")
    assert again.fingerprint == log.fingerprint and len(log.fingerprint) == 32
    changes = [
        log.interactions.with_columns(pl.col("feedback") + 1e-9),
        log.interactions.with_columns(pl.col("timestamp") + 1),
        log.interactions.with_columns(session_id=pl.lit("s")),
        log.interactions.drop("feedback"),
        log.interactions[:-1],
    ]
    prints = {InteractionLog.from_frames(change, ITEMS).fingerprint for change in changes}
    retold = ITEMS.with_columns(pl.col("title").replace("Dub", "Double"))
    prints.add(InteractionLog.from_frames(log.interactions, retold).fingerprint)
    assert len(prints | {log.fingerprint}) == len(changes) + 2


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_and_parquet_give_the_same_log(tmp_path: Path) -> None:
    events = write(
        tmp_path / "events.csv",
        "user_id,item_id,feedback,timestamp,session_id,colour\n"
        "007,1,4.5,1462104000,s1,red\n"
        "7,02,-1,1462104001.5,s2,blue\n",
    )
    items = write(tmp_path / "items.csv", "item_id,title,category,price\n1,A,B,3\n02,C,D,4\n")
    from_csv = InteractionLog.from_files(events, items)
    assert from_csv.name == "events"
    assert from_csv.user_ids.tolist() == ["007", "7"]  # ids stay as written
    assert from_csv.items.rows() == [("1", "A. B"), ("02", "C. D")]
    assert from_csv.interactions.columns == [
        "user_id", "item_id", "feedback", "timestamp", "session_id",
    ]  # fmt: skip
    assert from_csv.interactions["timestamp"].to_list() == [1462104000, 1462104001.5]
    typed = from_csv.interactions.with_columns(pl.col("feedback").cast(pl.Float32))
    typed.write_parquet(tmp_path / "events.parquet")
    from_csv.items.write_parquet(tmp_path / "items.parquet")
    from_parquet = InteractionLog.from_files(
        tmp_path / "events.parquet", tmp_path / "items.parquet"
    )
    assert from_parquet.fingerprint == from_csv.fingerprint


def test_whole_numbers_as_ids_read_alike_in_all_types() -> None:
    for kind in (pl.Int32, pl.Float64, pl.String):
        ids = pl.Series([17, 18]).cast(kind)
        if kind == pl.String:
            assert ids.to_list() == ["17", "18"]
        events = pl.DataFrame({"user_id": ids, "item_id": ids.reverse()})
        items = pl.DataFrame({"item_id": ["17", "18"], "title": ["a", "b"]})
        assert InteractionLog.from_frames(events, items).user_ids.tolist() == ["17", "18"]


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("1462104000", 1462104000.0),
        ("2016-05-01", 1462060800.0),
        ("2016-05-01 12:00", 1462104000.0),
        ("2016-05-01T12:00:00", 1462104000.0),
        ("2016-05-01T12:00:00.25Z", 1462104000.25),
        ("2016-05-01T14:00:00+02:00", 1462104000.0),
        ("2016-05-01 08:30:00.5-0330", 1462104000.5),
        (dt.date(2016, 5, 1), 1462060800.0),
        (dt.datetime(2016, 5, 1, 12), 1462104000.0),
        (dt.datetime(2016, 5, 1, 14, tzinfo=dt.timezone(dt.timedelta(hours=2))), 1462104000.0),
        (-5, -5.0),
    ],
)
def test_timestamps_become_unix_seconds(written: object, seconds: float) -> None:
    events = pl.DataFrame(
        {"user_id": ["a", "b"], "item_id": ["x", "y"], "timestamp": [written, written]}
    )
    log = InteractionLog.from_frames(events, ITEMS)
    assert log.interactions["timestamp"].to_list() == [seconds, seconds]


def test_a_column_without_any_value_counts_as_absent() -> None:
    events = frame([("a", "x", None), ("b", "y", None)], "user_id", "item_id", "feedback")
    assert not InteractionLog.from_frames(events, ITEMS).has_feedback


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (("Alien", 1979, "Horror"), "Alien (1979). Horror"),
        (("Alien", None, "Horror"), "Alien. Horror"),
        (("Alien", 1979, None), "Alien (1979)"),
        (("Alien", None, "  "), "Alien"),
        ((None, None, "Horror"), "Horror"),
        ((None, 1979, "Horror"), "(1979). Horror"),
        (("E.T.", None, None), "E.T."),
        (("What?  (Was ist) ()", None, "A/B"), "What? (Was ist) (). A/B"),
    ],
)
def test_missing_values_take_their_punctuation_along(row: tuple[object, ...], text: str) -> None:
    items = pl.DataFrame(
        [("x", *row), ("y", "Other", 2000, "Drama")],
        schema={"item_id": pl.String, "title": pl.String, "year": pl.Float64, "genres": pl.String},
        orient="row",
    )
    events = frame([("a", "x"), ("b", "y")], "user_id", "item_id")
    log = InteractionLog.from_frames(events, items, text="{title} ({year}). {genres}")
    assert log.items["text"].to_list() == [text, "Other (2000). Drama"]
