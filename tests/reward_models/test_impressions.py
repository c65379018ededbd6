from pathlib import Path

import numpy as np
import polars as pl
import pytest

from audience.reward_models.catalogue import Catalogue
from audience.reward_models.errors import LogError
from audience.reward_models.log import InteractionLog
from audience.reward_models.log_slates import Slates

ITEMS = pl.DataFrame({"item_id": list("vwxyz"), "title": ["A", "B", "C", "D", "E"]})

# Two users. Ann: a slate with a choice, one without, an event beside slates, and one of two
# choices whose times tie. Bob: a slate without a choice before his only event.
EVENTS = """user_id,item_id,feedback,timestamp,session_id,slate_id,position,chosen
ann,x,,10,m,s1,1,0
ann,y,4,10,m,s1,2,1
ann,z,,10,m,s1,3,0
bob,x,,11,m,s1,1,0
bob,v,,11,m,s1,2,0
ann,x,,20,m,s2,2,0
ann,w,,20,m,s2,1,0
ann,z,5,30,n,,,
ann,v,3,40,o,s3,1,1
ann,w,,40,o,s3,2,0
bob,y,2,50,p,s9,2,
bob,x,,50,p,s9,1,false
"""


def read(folder: Path, events: str = EVENTS) -> InteractionLog:
    (folder / "events.csv").write_text(events)
    ITEMS.write_csv(folder / "items.csv")
    return InteractionLog.from_files(folder / "events.csv", folder / "items.csv")


def catalogue_of(items: str) -> Catalogue:
    names = np.array(list(items))
    return Catalogue(names, names, np.ones(len(names), np.int64), np.ones(len(names)))


def lists(slates: Slates) -> list[tuple[int, int, list[int], list[int], int]]:
    ends = zip(slates.offsets[:-1], slates.offsets[1:], strict=True)
    return [
        (user, earlier, slates.items[a:b].tolist(), slates.places[a:b].tolist(), choice)
        for (a, b), user, earlier, choice in zip(
            ends, slates.user.tolist(), slates.earlier.tolist(), slates.chosen.tolist(), strict=True
        )
    ]


def test_events_are_the_chosen_rows(tmp_path: Path) -> None:
    log = read(tmp_path)
    assert log.has_impressions and log.n_events == 4 and log.n_users == 2
    assert log.interactions["item_id"].to_list() == ["y", "z", "v", "y"]
    assert log.shown is not None and len(log.shown) == 12
    assert "chosen" not in log.interactions.columns
    assert log.scale().values == (2, 3, 4, 5)
    # Other tools hold a missing number as NaN.
    for shown in (log.shown, log.shown.with_columns(pl.col("feedback").fill_null(float("nan")))):
        assert InteractionLog.from_frames(shown, log.items).fingerprint == log.fingerprint
    other = InteractionLog.from_frames(log.interactions, log.items)
    assert not other.has_impressions and other.fingerprint != log.fingerprint


def test_slates_by_user_and_time(tmp_path: Path) -> None:
    log = read(tmp_path)
    catalogue = catalogue_of("vwxyz")
    slates = log.slates(["bob", "ann"], catalogue)
    assert lists(slates) == [
        (0, 0, [2, 0], [0, 1], -1),
        (0, 0, [2, 3], [0, 1], 1),
        (1, 0, [2, 3, 4], [0, 1, 2], 1),
        (1, 1, [1, 2], [0, 1], -1),
        (1, 2, [0, 1], [0, 1], 0),
    ]
    assert len(slates) == 5 and slates.sizes.tolist() == [2, 2, 3, 2, 2]
    # A choice is the event that follows the slate's history.
    histories = log.histories(["bob", "ann"], catalogue, log.scale())
    taken = np.flatnonzero(slates.chosen >= 0)
    events = histories.items[histories.offsets[slates.user[taken]] + slates.earlier[taken]]
    picked = slates.items[slates.offsets[taken] + slates.chosen[taken]]
    assert events.tolist() == picked.tolist() == [3, 3, 0]


def test_items_beyond_the_catalogue(tmp_path: Path) -> None:
    log = read(tmp_path)
    # y and w are unknown: the slates with y chosen go, and so does y from the count of events.
    assert lists(log.slates(["ann", "bob"], catalogue_of("zxv"))) == [
        (0, 0, [1], [1], -1),
        (0, 1, [2], [0], 0),
        (1, 0, [1, 2], [0, 1], -1),
    ]
    assert lists(log.slates(["bob"], catalogue_of("wz"))) == []


def test_without_positions_and_times_the_rows_count(tmp_path: Path) -> None:
    log = read(tmp_path)
    assert log.shown is not None
    plain = InteractionLog.from_frames(log.shown.drop("position", "timestamp"), log.items)
    assert lists(plain.slates(["ann"], catalogue_of("vwxyz"))) == [
        (0, 0, [2, 3, 4], [0, 1, 2], 1),
        (0, 1, [2, 1], [0, 1], -1),
        (0, 2, [0, 1], [0, 1], 0),
    ]


def test_ends_of_slates_and_events(tmp_path: Path) -> None:
    log = read(tmp_path)
    catalogue = catalogue_of("vwxyz")
    ends = log.slates(["ann", "bob"], catalogue).ends
    assert ends is not None and ends.tolist() == [False, True, True, True, True]
    # Ann looked at one more slate after y; v ended session o although another row follows it.
    events = log.session_ends(["ann", "bob"], catalogue)
    assert events is not None and events.tolist() == [False, True, True, True]
    gaps = log.return_gaps(["ann", "bob"], catalogue)
    assert gaps is not None
    assert gaps.tolist() == pytest.approx([np.nan, 10, np.nan, np.nan], nan_ok=True)
    assert log.shown is not None
    plain = InteractionLog.from_frames(log.shown.drop("session_id"), log.items)
    assert plain.slates(["ann"], catalogue).ends is None


def test_users_who_never_chose_are_users(tmp_path: Path) -> None:
    log = read(tmp_path, EVENTS + "eve,x,,5,q,s1,1,0\n")
    assert log.user_ids.tolist() == ["ann", "bob", "eve"]
    catalogue = catalogue_of("vwxyz")
    assert log.histories(["eve", "bob"], catalogue, log.scale()).lengths.tolist() == [0, 1]
    assert lists(log.slates(["eve"], catalogue)) == [(0, 0, [2], [0], -1)]


def test_renumbered_counts_the_kept_events_only() -> None:
    none = np.zeros(0, np.int64)
    slates = Slates(
        np.array([0, 0, 1]), np.array([1, 3, 2]), np.zeros(4, np.int64), none, none,
        np.full(3, -1), None,
    )  # fmt: skip
    offsets = np.array([0, 3, 5])
    assert slates.renumbered(offsets, np.array([0, 2, 4])).earlier.tolist() == [1, 2, 1]
    assert slates.renumbered(offsets, np.arange(5)).earlier.tolist() == [1, 3, 2]


def test_a_log_without_impressions_has_no_slates(tmp_path: Path) -> None:
    log = read(tmp_path)
    bare = InteractionLog.from_frames(log.interactions, log.items)
    with pytest.raises(LogError, match="slates need impressions, .*Ask has_impressions first"):
        bare.slates(["ann"], catalogue_of("vw"))
    with pytest.raises(LogError, match="users of the log, got 'joe'"):
        log.slates(["joe"], catalogue_of("vw"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "ann,z,,10,m,s1,3,0",
            "ann,z,,10,m,,3,0",
            r"row 3: a row with chosen = 0 .*must have a slate_id",
        ),
        ("ann,z,,10,m,s1,3,0", "ann,x,,10,m,s1,3,0", "row 3: an item must stand once.*ann, s1, x"),
        ("ann,z,,10,m,s1,3,0", "ann,z,1,10,m,s1,3,1", "row 3: only one row .*chosen.*ann, s1, z"),
        ("ann,z,,10,m,s1,3,0", "ann,z,,10,m,s1,2,0", "row 3: a position must stand once.*ann, s1"),
        ("ann,z,,10,m,s1,3,0", "ann,z,,10,m,s1,,0", "row 3: position must be there for every row"),
        ("s1,3,0", "s1,3,maybe", "row 3: chosen must be 1 or 0 .*got 'maybe'"),
        ("s1,3,0", "s1,-1,0", "row 3: position must be a whole number from 0 on .*got '-1'"),
        ("s1,3,0", "s1,1.5,0", "row 3: position must be a whole number .*got '1.5'"),
        ("ann,z,,10", "ann,z,nan,10", "row 3: feedback must be a finite number, got 'nan'"),
        ("ann,y,4,10", "ann,y,,10", "row 2: feedback must be there for every event"),
        ("ann,z,,10,m", "ann,z,,10,", "row 3: session_id must be there for every row or for none"),
        ("ann,z,,10,m", "ann,q,,10,m", "row 3: item_id must be listed in"),
        ("ann,z,,10,m", "ann,z,,,m", "row 3: timestamp must be"),
    ],
)
def test_impressions_that_cannot_be(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert EVENTS.count(old) == 1
    with pytest.raises(LogError, match=rf"events\.csv, data {message}"):
        read(tmp_path, EVENTS.replace(old, new))


def test_equal_items_in_different_slates_are_different_events() -> None:
    events = pl.DataFrame(
        {"user_id": ["a", "a", "b"], "item_id": ["x", "x", "y"], "slate_id": ["1", "2", "1"]}
    )
    assert InteractionLog.from_frames(events, ITEMS).n_events == 3
