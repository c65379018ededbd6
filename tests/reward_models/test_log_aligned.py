"""Optional columns: parsed to their types, and aligned with histories."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from audience.reward_models.errors import LogError
from audience.reward_models.log import InteractionLog

ITEMS = pl.DataFrame({"item_id": list("xyz"), "title": ["Ex", "Why", "Zed"]})
EVENTS = """user_id,item_id,timestamp,session_id,dwell_seconds,text,propensity
bob,z,50,1,2.5,fine,1
ann,x,20,1,,"good, really",.5
ann,y,10,1,0,,0.25
ann,z,30,1,7,,
bob,x,40,1,1,bad,1
ann,x,90,2,8, ,1
"""


def read(folder: Path, events: str = EVENTS) -> InteractionLog:
    (folder / "events.csv").write_text(events)
    ITEMS.write_csv(folder / "items.csv")
    return InteractionLog.from_files(folder / "events.csv", folder / "items.csv")


def test_aligned_with_histories(tmp_path: Path) -> None:
    log = read(tmp_path)
    catalogue = log.catalogue(log.user_ids, min_events=1)
    users = ["bob", "ann"]
    histories = log.histories(users, catalogue, log.scale())
    assert catalogue.item_ids[histories.items].tolist() == ["x", "z", "y", "x", "z", "x"]
    times, dwell = log.times(users, catalogue), log.dwell(users, catalogue)
    assert times is not None and times.tolist() == [40, 50, 10, 20, 30, 90]
    assert dwell is not None
    assert dwell.tolist() == pytest.approx([1, 2.5, 0, np.nan, 7, 8], nan_ok=True)
    texts = log.texts(users, catalogue)
    assert texts is not None
    assert texts.tolist() == ["bad", "fine", "", "good, really", "", ""]
    ends, gaps = log.session_ends(users, catalogue), log.return_gaps(users, catalogue)
    assert log.has_sessions and ends is not None and gaps is not None
    # Both users have a session 1.
    assert ends.tolist() == [False, True, False, False, True, True]
    assert gaps.tolist() == pytest.approx([np.nan] * 4 + [60, np.nan], nan_ok=True)


def test_a_session_that_went_on_beyond_the_catalogue_did_not_end(tmp_path: Path) -> None:
    log = read(tmp_path)
    catalogue = log.catalogue(log.user_ids, min_events=1)
    small = type(catalogue)(*(column[:2] for column in vars(catalogue).values()))
    assert small.item_ids.tolist() == ["x", "y"]
    ends = log.session_ends(["bob", "ann"], small)
    assert ends is not None and ends.tolist() == [False, False, False, True]


def test_what_the_log_lacks_is_none_and_never_invented(tmp_path: Path) -> None:
    log = read(tmp_path)
    catalogue = log.catalogue(log.user_ids, min_events=1)
    timed = InteractionLog.from_frames(
        log.interactions.drop("session_id", "dwell_seconds", "text"), ITEMS
    )
    users = ["ann", "bob"]
    assert timed.has_time and not timed.has_sessions and not timed.has_impressions
    assert timed.session_ends(users, catalogue) is None
    assert timed.return_gaps(users, catalogue) is None
    assert timed.dwell(users, catalogue) is None and timed.texts(users, catalogue) is None
    untimed = InteractionLog.from_frames(
        log.interactions.filter(pl.col("timestamp") < 90).drop("timestamp"), ITEMS
    )
    assert untimed.times(users, catalogue) is None and untimed.has_sessions
    ends = untimed.session_ends(users, catalogue)
    assert ends is not None and ends.tolist() == [False, False, True, False, True]
    assert untimed.return_gaps(users, catalogue) is None
    with pytest.raises(LogError, match="users of the log, got 'joe'"):
        timed.dwell(["joe"], catalogue)


def test_types_and_parquet(tmp_path: Path) -> None:
    log = read(tmp_path)
    types = {name: str(kind) for name, kind in log.interactions.schema.items()}
    assert types == {
        "user_id": "String", "item_id": "String", "timestamp": "Float64", "text": "String",
        "session_id": "String", "propensity": "Float64", "dwell_seconds": "Float64",
    }  # fmt: skip
    # Other tools hold a missing number as NaN, and ids as numbers.
    typed = log.interactions.with_columns(
        pl.col("dwell_seconds").fill_null(float("nan")), pl.col("session_id").cast(pl.Int32)
    )
    typed.write_parquet(tmp_path / "events.parquet")
    again = InteractionLog.from_files(tmp_path / "events.parquet", tmp_path / "items.csv")
    assert again.fingerprint == log.fingerprint


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("1,7,,", "1,-7,,", "row 4: dwell_seconds must be a finite number from 0 on .*got '-7'"),
        ("1,7,,", "1,inf,,", "row 4: dwell_seconds must be .*got 'inf'.*leave the value out"),
        ("1,7,,", "1,nan,,", "row 4: dwell_seconds must be .*got 'nan'"),
        ("1,7,,", "1,long,,", "row 4: dwell_seconds must be .*got 'long'"),
        ("1,7,,", "1,7,,0", "row 4: propensity must be a probability above 0, at most 1.*got '0'"),
        ("1,7,,", "1,7,,1.01", "row 4: propensity must be .*got '1.01'"),
        ("z,30,1,7", "z,30,,7", "row 4: session_id must be there for every row or for none"),
    ],
)
def test_bad_values(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert EVENTS.count(old) == 1
    with pytest.raises(LogError, match=rf"events\.csv, data {message}"):
        read(tmp_path, EVENTS.replace(old, new))


def test_columns_of_other_types_are_refused() -> None:
    events = pl.DataFrame({"user_id": ["a", "b"], "item_id": ["x", "y"]})
    with pytest.raises(LogError, match="^interactions: dwell_seconds must be .*got a column of Li"):
        InteractionLog.from_frames(events.with_columns(dwell_seconds=[[1], [2]]), ITEMS)
    with pytest.raises(LogError, match="^interactions: the column 'text' must hold text"):
        InteractionLog.from_frames(events.with_columns(text=pl.struct("user_id")), ITEMS)


def ties(ids: list[str], rows: list[int]) -> pl.DataFrame:
    """Events of two users with these items, in this order; two at every moment."""
    moments = [place // 2 for place in range(len(rows))]
    return pl.concat(
        pl.DataFrame(
            {
                "user_id": [name] * len(rows),
                "item_id": [ids[row] for row in rows],
                "timestamp": [float(moment) for moment in moments],
            }
        )
        for name in ("ann", "bob")
    )


def order_of(events: pl.DataFrame, ids: list[str]) -> list[int]:
    """What a log makes of them: the items of both users."""
    log = InteractionLog.from_frames(
        events, pl.DataFrame({"item_id": ids, "title": [f"Film {name}" for name in ids]})
    )
    catalogue = log.catalogue(log.user_ids, min_events=1)
    items = log.histories(log.user_ids.tolist(), catalogue, log.scale()).items
    return [ids.index(name) for name in catalogue.item_ids[items].tolist()]


def test_ties_of_a_file_that_is_sorted_by_item_stand_by_chance() -> None:
    """By number, 9 before 10; moments stay in order, and the log reads the same again."""
    ids = [str(number) for number in range(80)]
    found = order_of(ties(ids, list(range(80))), ids)
    assert found == order_of(ties(ids, list(range(80))), ids)
    pairs = np.array(found).reshape(2, 40, 2)
    assert (np.sort(pairs, 2).reshape(2, 80) == np.arange(80)).all()
    rising = pairs[..., 0] < pairs[..., 1]
    assert 20 < rising.sum() < 60
    assert (rising[0] != rising[1]).any()  # each user has an order of their own


def test_other_ties_stand_as_in_the_file() -> None:
    """One in ten falls: an order that may tell something. Or all rise, but they are few."""
    ids = [str(number) for number in range(80)]
    rows = list(range(80))
    for place in range(0, 80, 20):
        rows[place], rows[place + 1] = rows[place + 1], rows[place]
    assert order_of(ties(ids, rows), ids) == rows * 2
    assert order_of(ties(ids, rows[2:20]), ids) == rows[2:20] * 2


def test_without_times_all_of_a_user_are_ties_but_where_sessions_tell() -> None:
    ids = [str(number) for number in range(80)]
    for rows in (list(range(80)), list(range(79, -1, -1))):
        untimed = ties(ids, rows).drop("timestamp")
        found = order_of(untimed, ids)
        assert sorted(found[:80]) == sorted(found[80:]) == list(range(80))
        rising = np.diff(found[:80]) > 0
        assert 20 < rising.sum() < 60 and found[:80] != found[80:]
        told = untimed.with_columns(session_id=pl.lit("s"))
        assert order_of(told, ids) == rows * 2
    rows = [*range(40, 80), *range(40)]  # one step in 79 falls: not all but a few
    assert order_of(ties(ids, rows).drop("timestamp"), ids) == rows * 2
