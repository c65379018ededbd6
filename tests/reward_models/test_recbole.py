from importlib.util import find_spec
from pathlib import Path

import pytest

from audience.reward_models.errors import LogError
from audience.reward_models.log import InteractionLog

INTER = (
    "user_id:token\titem_id:token\trating:float\tclick:float\ttimestamp:float\tpast:token_seq\n"
    '01\tx\t4\t1\t10\tx y\n2\ty"\t-1.5\t0\t20\t\n'
)
ITEM = (
    "item_id:token\ttitle:token_seq\tyear:token\tprice:float\tvector:float_seq\n"
    'x\tThe "Ex"\t1995\t3\t.1 .2\ny"\tWhy Not\t\t4\t.3 .4\n'
)
USER = "user_id:token\tage:float\tjob:token\n01\t20\t7\n2\t40\t9\n"


def write(folder: Path, inter: str = INTER, item: str = ITEM, user: str = USER) -> Path:
    folder.mkdir(exist_ok=True)
    for ending, content in (("inter", inter), ("item", item), ("user", user)):
        (folder / f"toy.{ending}").write_text(content, encoding="utf-8")
    return folder


@pytest.mark.parametrize("path", ["toy", "toy/toy", "toy/toy.inter"])
def test_a_data_set(tmp_path: Path, path: str) -> None:
    write(tmp_path / "toy")
    log = InteractionLog.from_recbole(tmp_path / path, text="{title} ({year})")
    assert log.name == "toy"
    assert log.interactions.columns == ["user_id", "item_id", "feedback", "timestamp"]
    assert log.interactions.rows() == [("01", "x", 4, 10), ("2", 'y"', -1.5, 20)]
    assert log.items["text"].to_list() == ['The "Ex" (1995)', "Why Not"]
    assert log.users is not None
    assert log.users.rows() == [("01", 20.0, "7"), ("2", 40.0, "9")]  # a token is no number
    assert log.user_features(["2", "01"])[0] == ("age", "job=7", "job=9")


def test_words_are_the_text_by_default_and_vectors_are_none(tmp_path: Path) -> None:
    log = InteractionLog.from_recbole(write(tmp_path))
    assert log.items["text"].to_list() == ['The "Ex"', "Why Not"]
    with pytest.raises(LogError, match=r"got {vector}; the columns are .*'price'\]"):
        InteractionLog.from_recbole(tmp_path, text="{vector}")


def test_the_feedback_is_chosen(tmp_path: Path) -> None:
    write(tmp_path)
    clicks = InteractionLog.from_recbole(tmp_path, feedback="click")
    assert clicks.interactions["feedback"].to_list() == [1, 0]
    write(tmp_path, INTER.replace("rating", "score"))
    assert not InteractionLog.from_recbole(tmp_path).has_feedback
    write(tmp_path, INTER.replace("click", "feedback"))
    assert InteractionLog.from_recbole(tmp_path).interactions["feedback"].to_list() == [1, 0]
    rated = InteractionLog.from_recbole(tmp_path, feedback="rating")
    assert rated.interactions["feedback"].to_list() == [4, -1.5]
    with pytest.raises(LogError, match=r"toy\.inter: feedback must name one of .*got 'stars'"):
        InteractionLog.from_recbole(tmp_path, feedback="stars")


def test_from_files_reads_them_too(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "toy.inter").write_text(INTER.replace("\n", "\r\n"), newline="")
    log = InteractionLog.from_files(tmp_path / "toy.inter", tmp_path / "toy.item")
    assert log.users is None and log.interactions["feedback"].to_list() == [4, -1.5]
    people = InteractionLog.from_files(
        tmp_path / "toy.inter", tmp_path / "toy.item", users=tmp_path / "toy.user"
    )
    assert people.fingerprint == InteractionLog.from_recbole(tmp_path).fingerprint


def test_several_data_sets_in_a_folder(tmp_path: Path) -> None:
    folder = write(tmp_path / "toy")
    (folder / "toy.part1.inter").write_text(INTER)
    assert InteractionLog.from_recbole(folder).n_events == 2
    folder = folder.rename(tmp_path / "other")
    with pytest.raises(LogError, match=r"one \.inter file.*got \['toy.inter', 'toy.part1.inter'\]"):
        InteractionLog.from_recbole(folder)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("rating:float", "rating", r"toy\.inter: each column .*must read name:type.*got 'rating'"),
        ("rating:float", "rating:int", r"with a type of token, .*got 'rating:int'"),
        ("click:float", "rating:float", r"must stand once in the header, got 'rating' twice"),
        ("user_id:token", "who:token", r"toy\.inter: the column user_id must be there"),
        (INTER, "", r"toy\.inter: the file is empty"),
        ("-1.5", "bad", r"toy\.inter, data row 2: feedback must be a finite number, got 'bad'"),
    ],
)
def test_broken_files(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert INTER.count(old) == 1
    with pytest.raises(LogError, match=message):
        InteractionLog.from_recbole(write(tmp_path, INTER.replace(old, new)))


def test_broken_and_missing_neighbours(tmp_path: Path) -> None:
    write(tmp_path, user=USER.replace("20", "old"))
    with pytest.raises(LogError, match=r"toy\.user: cannot be read"):
        InteractionLog.from_recbole(tmp_path)
    write(tmp_path, user=USER.replace("7", "7\t8"))
    with pytest.raises(LogError, match=r"toy\.user: cannot be read"):
        InteractionLog.from_recbole(tmp_path)
    (tmp_path / "toy.user").unlink()
    assert InteractionLog.from_recbole(tmp_path).users is None
    (tmp_path / "toy.item").unlink()
    with pytest.raises(LogError, match=r"no such file: .*toy\.item.*the items and their text"):
        InteractionLog.from_recbole(tmp_path)
    with pytest.raises(LogError, match=r"no such file: .*gone\.inter"):
        InteractionLog.from_recbole(tmp_path / "gone")
    (tmp_path / "none").mkdir()
    with pytest.raises(LogError, match=r"a folder must hold one \.inter file.*got \[\]"):
        InteractionLog.from_recbole(tmp_path / "none")
    (tmp_path / "toy.inter").write_bytes(b"user_id:token\titem_id:tok\xe9n\n")
    (tmp_path / "toy.item").write_text(ITEM)
    with pytest.raises(LogError, match=r"toy\.inter: cannot be read .*UTF-8"):
        InteractionLog.from_recbole(tmp_path)


@pytest.mark.skipif(find_spec("recbole") is None, reason="needs RecBole's example files")
def test_the_example_of_the_package() -> None:
    spec = find_spec("recbole")
    assert spec is not None and spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0], "dataset_example", "ml-100k")
    log = InteractionLog.from_recbole(folder, text="{movie_title} ({release_year}). {class}")
    assert (log.name, log.n_users, log.n_items, log.n_events) == ("ml-100k", 943, 1682, 100_000)
    assert log.items["text"][0] == "Toy Story (1995). Animation Children's Comedy"
    assert log.scale().values == (1, 2, 3, 4, 5)
    assert log.users is not None and log.users.columns[1:] == [
        "age", "gender", "occupation", "zip_code",
    ]  # fmt: skip
