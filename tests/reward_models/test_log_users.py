from pathlib import Path

import numpy as np
import polars as pl
import pytest

from audience.reward_models.errors import LogError
from audience.reward_models.log import InteractionLog
from audience.reward_models.log_users import MAX_CATEGORIES

EVENTS = pl.DataFrame({"user_id": ["a", "b", "c", "d"], "item_id": ["x", "y", "x", "y"]})
ITEMS = pl.DataFrame({"item_id": ["x", "y"], "title": ["Ex", "Why"]})
USERS = "user_id,age,gender,land\nb,40,F,de\na,20,M,de\nstranger,900,X,fr\nc,,M,de\n"


def read(folder: Path, users: str = USERS) -> InteractionLog:
    EVENTS.write_csv(folder / "events.csv")
    ITEMS.write_csv(folder / "items.csv")
    (folder / "users.csv").write_text(users)
    return InteractionLog.from_files(
        folder / "events.csv", folder / "items.csv", users=folder / "users.csv"
    )


def test_users_are_read_with_types(tmp_path: Path) -> None:
    log = read(tmp_path)
    assert log.users is not None
    assert log.users.schema == {
        "user_id": pl.String, "age": pl.Float64, "gender": pl.String, "land": pl.String,
    }  # fmt: skip
    assert log.user_ids.tolist() == ["a", "b", "c", "d"]  # strangers are no users of the log
    without = InteractionLog.from_files(tmp_path / "events.csv", tmp_path / "items.csv")
    assert without.users is None and without.fingerprint != log.fingerprint
    names, features = without.user_features(["a", "b"])
    assert names == () and features.shape == (2, 0) and features.dtype == np.float32


def test_features_by_hand(tmp_path: Path) -> None:
    names, features = read(tmp_path).user_features(["a", "b", "c"])
    # One land for all; nobody lacks the gender.
    assert names == ("age", "age is missing", "gender=F", "gender=M")
    assert features.tolist() == [[-1, 0, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1]]
    assert features.dtype == np.float32


def test_features_of_others_follow_the_fitting_users(tmp_path: Path) -> None:
    log = read(tmp_path)
    names, features = log.user_features(["c", "d", "b"], fitting=["a", "b"])
    assert names == ("age", "gender=F", "gender=M")
    assert features.tolist() == [[0, 0, 1], [0, 0, 0], [1, 1, 0]]
    names, features = log.user_features(["b", "a"], fitting=["a", "c", "d"])
    # b's F is unknown to them; d has no row. All who have an age are 20: no deviation.
    assert names == ("age is missing", "gender is missing", "land is missing")
    assert features.tolist() == [[0, 0, 0], [0, 0, 0]]
    with pytest.raises(LogError, match="users of the log, got 'stranger'"):
        log.user_features(["stranger"])
    with pytest.raises(LogError, match="must be distinct"):
        log.user_features(["a"], fitting=["b", "b"])


def test_columns_of_too_many_words_are_left_out() -> None:
    many = MAX_CATEGORIES + 1
    ids = [f"u{i}" for i in range(many)]
    events = pl.DataFrame({"user_id": ids, "item_id": ["x", "y"] * (many // 2) + ["x"]})
    users = pl.DataFrame({"user_id": ids, "name": ids, "group": [i % 2 == 0 for i in range(many)]})
    log = InteractionLog.from_frames(events, ITEMS, users=users)
    assert log.user_features(ids)[0] == ("group=false", "group=true")
    names, features = log.user_features(ids[:MAX_CATEGORIES])
    assert len(names) == MAX_CATEGORIES + 2
    assert features[:, :MAX_CATEGORIES].sum(axis=1).tolist() == [1] * MAX_CATEGORIES


def test_words_that_look_like_numbers_stay_words_in_typed_tables() -> None:
    users = pl.DataFrame({"user_id": [1, 2], "code": ["1", "2"], "age": [1, 2]})
    events = pl.DataFrame({"user_id": [1, 2], "item_id": ["x", "y"]})
    log = InteractionLog.from_frames(events, ITEMS, users=users)
    assert log.user_features(["1", "2"])[0] == ("code=1", "code=2", "age")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("c,,M", "a,,M", r"users\.csv, data row 4: user_id must stand once.*got 'a'"),
        ("c,,M", ",,M", r"users\.csv, data row 4: user_id must not be empty"),
        ("c,,M", "c,inf,M", r"users\.csv, data row 4: age must be a finite number.*got 'inf'"),
        ("user_id", "id", r"users\.csv: the column user_id must be there, found \['id', 'age'"),
        (USERS, "user_id\na\nb\n", r"users\.csv: users need at least one column beside user_id"),
        (USERS, "", r"users\.csv: the file is empty"),
    ],
)
def test_broken_users(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert USERS.count(old) == 1
    with pytest.raises(LogError, match=message):
        read(tmp_path, USERS.replace(old, new))


def test_missing_files_and_wrong_types(tmp_path: Path) -> None:
    read(tmp_path)
    with pytest.raises(LogError, match="no such file"):
        InteractionLog.from_files(
            tmp_path / "events.csv", tmp_path / "items.csv", users=tmp_path / "gone.csv"
        )
    with pytest.raises(TypeError, match="users must be a polars DataFrame, got dict"):
        InteractionLog.from_frames(EVENTS, ITEMS, users={})  # type: ignore[arg-type]
