import re
from pathlib import Path

import polars as pl
import pytest

from audience.reward_models.errors import LogError
from audience.reward_models.log import InteractionLog

EVENTS = "user_id,item_id,feedback,timestamp\na,x,1,10\nb,y,2,20\nb,x,3,30\n"
ITEMS = "item_id,title\nx,Ex\ny,Why\n"


def read(
    folder: Path, events: str = EVENTS, items: str = ITEMS, text: str | None = None
) -> InteractionLog:
    """Read two csv files of this content."""
    Path(folder, "events.csv").write_text(events)
    Path(folder, "items.csv").write_text(items)
    return InteractionLog.from_files(folder / "events.csv", folder / "items.csv", text=text)


def test_the_files_that_the_errors_are_made_of_are_legal(tmp_path: Path) -> None:
    assert read(tmp_path).n_events == EVENTS.strip().count("\n")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("user_id,item_id", "user,item", r"columns user_id, item_id must be there, found \['user'"),
        (EVENTS, "", "the file is empty"),
        (EVENTS, "user_id,item_id\n", "there are no rows"),
        ("b,y", ",y", "data row 2: user_id must not be empty, got None"),
        ("b,x", "b, ", "data row 3: item_id must not be empty"),
        ("b,y", "b,q", r"data row 2: item_id must be listed in .*items\.csv, but is not, got 'q'"),
        ("b,x,3,30", "b,y,3,20", "data row 3: an event .*must stand once.*got b, y, 20"),
        ("2,20", "NaN,20", "data row 2: feedback must be a finite number, got 'NaN'"),
        ("2,20", "-inf,20", "data row 2: feedback must be a finite number, got '-inf'"),
        ("2,20", "good,20", "data row 2: feedback must be a finite number, got 'good'"),
        ("2,20", ",20", "data row 2: feedback must be there for every event or for none"),
        ("2,20", "2,noon", "data row 2: timestamp must be unix seconds or an ISO .*got 'noon'"),
        ("2,20", "2,2016-13-01", "data row 2: timestamp must be .*got '2016-13-01'"),
        ("2,20", "2,", "data row 2: timestamp must be .*got None"),
        ("2,20", "2,inf", "data row 2: timestamp must be .*got 'inf'"),
        ("2,20", "2,1462104000000", "data row 2: timestamp .*Divide milliseconds by 1000"),
        (EVENTS, "user_id,item_id\na,x\na,y\n", "events of at least 2 users, got 1"),
        (EVENTS, "user_id,item_id\na,x\nb,x\n", "events of at least 2 items, got 1"),
        (EVENTS, "user_id,item_id\na,x\nb,y\na,x\n", r"data row 3: .*same user_id, item_id\) must"),
        ("timestamp\na,x,1,10", "chosen\na,x,1,0", "data row 2 .*: chosen must be 1 or 0 .*'20'"),
        ("a,x,1,10", "a,x,1,10,5,6", "cannot be read"),
    ],
)
def test_broken_interactions(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in EVENTS
    with pytest.raises(LogError, match=rf"events\.csv.*{message}"):
        read(tmp_path, events=EVENTS.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("item_id", "id", r"the column item_id must be there, found \['id', 'title'\]"),
        (ITEMS, "", "the file is empty"),
        ("y,Why", "y,", "data row 2: an item must have text, .*got 'y'"),
        ("y,Why", "y,Why\nx,Ex", "data row 3: item_id must stand once, .*got 'x'"),
        ("y,Why", ",Why", "data row 2: item_id must not be empty"),
        (ITEMS, "item_id,price\nx,3\ny,4\n", r"no column holds any; found .*'price'"),
    ],
)
def test_broken_items(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in ITEMS
    with pytest.raises(LogError, match=rf"items\.csv.*{message}"):
        read(tmp_path, items=ITEMS.replace(old, new))


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{title} ({year})", r"got {year}; the columns are \['item_id', 'title'\]"),
        ("{title", "must be a template"),
        ("A film", "must name at least one column"),
        ("{}", "must name a column"),
        ("{title:>5}", "a column name alone"),
    ],
)
def test_broken_templates(tmp_path: Path, template: str, message: str) -> None:
    with pytest.raises(LogError, match=message):
        read(tmp_path, text=template)


def test_literal_text_alone_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="data row 2: an item must have text"):
        read(tmp_path, items="item_id,title\nx,Ex\ny,\n", text="Film: {title}")


def test_several_bad_rows_are_counted(tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r"data row 1 \(and 2 more rows\): feedback"):
        read(tmp_path, events=re.sub(r"[123],", "?,", EVENTS))


def test_unusable_files(tmp_path: Path) -> None:
    read(tmp_path)
    items = tmp_path / "items.csv"
    with pytest.raises(LogError, match=r"no such file: .*gone\.csv"):
        InteractionLog.from_files(tmp_path / "gone.csv", items)
    (tmp_path / "events.xlsx").write_bytes(b"PK")
    with pytest.raises(LogError, match=r"must end in \.csv or \.parquet, got '\.xlsx'"):
        InteractionLog.from_files(tmp_path / "events.xlsx", items)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 this is no parquet")
    with pytest.raises(LogError, match=r"broken\.parquet: cannot be read"):
        InteractionLog.from_files(tmp_path / "broken.parquet", items)
    (tmp_path / "latin.csv").write_bytes(b"user_id,item_id\n\xe9t\xe9,x\nb,y\n")
    with pytest.raises(LogError, match=r"latin\.csv: cannot be read .*UTF-8"):
        InteractionLog.from_files(tmp_path / "latin.csv", items)


def test_frames_are_named_and_columns_of_other_types_refused() -> None:
    events = pl.DataFrame({"user_id": ["a", "b"], "item_id": ["x", "y"]})
    items = pl.DataFrame({"item_id": ["x", "y"], "title": ["Ex", "Why"]})
    with pytest.raises(LogError, match=r"^interactions: feedback must be .*List"):
        InteractionLog.from_frames(events.with_columns(feedback=[[1], [2]]), items)
    with pytest.raises(LogError, match=r"^interactions, data row 2: feedback must be a finite"):
        InteractionLog.from_frames(
            events.with_columns(feedback=pl.Series([1.0, float("nan")])), items
        )
    with pytest.raises(LogError, match=r"^interactions: the column 'user_id' .*got Struct"):
        InteractionLog.from_frames(events.with_columns(user_id=pl.struct("item_id")), items)


def test_repeat_consumption_at_other_times_is_legal(tmp_path: Path) -> None:
    assert read(tmp_path, events=EVENTS + "b,x,3,31\n").n_events == EVENTS.strip().count("\n") + 1
