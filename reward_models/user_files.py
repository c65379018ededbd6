"""The files that every user model directory has, whatever its class: no torch, no pickle.

`users.json` says what the directory is (format, kind, feedback scale), `items.parquet` is the
catalogue, `starts.parquet` holds the first events of users under pseudonyms.
"""

from __future__ import annotations

import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from audience.reward_models.catalogue import Catalogue
from audience.reward_models.errors import UserModelError
from audience.reward_models.histories import Histories
from audience.reward_models.scale import FeedbackScale
from audience.reward_models.users import POPULATIONS, START_EVENTS, Population

FORMATS = {"bert": 3, "als": 5, "boosted": 5}
"""Version of the directory, by kind; a directory of another one is refused."""

CURE = "Fit it again with audience-fit, or name another directory."


def write_files(
    directory: Path,
    kind: str,
    catalogue: Catalogue,
    scale: FeedbackScale,
    starts: dict[Population, Histories],
) -> None:
    """Write users.json, items.parquet and starts.parquet into an existing directory."""
    pl.DataFrame(
        {
            "item_id": catalogue.item_ids,
            "text": catalogue.texts,
            "count": catalogue.counts,
            "mean_feedback": catalogue.mean_feedback,
        }
    ).write_parquet(directory / "items.parquet")
    pl.concat([_events(name, starts[name]) for name in POPULATIONS]).write_parquet(
        directory / "starts.parquet"
    )
    about = {
        "format": FORMATS[kind],
        "kind": kind,
        "audience": version("audience"),
        "values": list(scale.values),
        "edges": list(scale.edges) if scale.edges is not None else None,
    }
    (directory / "users.json").write_text(json.dumps(about, indent=2) + "\n")


def read_files(directory: Path) -> tuple[Catalogue, FeedbackScale, dict[Population, Histories]]:
    """What `write_files` wrote.

    Raises:
        UserModelError: The directory is missing, damaged or of another version.
    """
    about = read_about(directory)
    try:
        items = pl.read_parquet(directory / "items.parquet")
        rows = pl.read_parquet(directory / "starts.parquet")
        catalogue = Catalogue(
            items["item_id"].to_numpy().astype(np.str_),
            items["text"].to_numpy().astype(np.str_),
            items["count"].to_numpy().astype(np.int64),
            items["mean_feedback"].to_numpy().astype(np.float64),
        )
        edges = about["edges"]
        scale = FeedbackScale(tuple(about["values"]), None if edges is None else tuple(edges))
        starts = {name: _histories(rows, name) for name in POPULATIONS}
    except (OSError, ValueError, TypeError, KeyError, pl.exceptions.PolarsError) as error:
        raise damaged(directory, str(error)) from error
    return catalogue, scale, starts


def is_users(directory: Path) -> bool:
    """Whether a directory says that it holds a user model."""
    return (directory / "users.json").is_file()


def read_about(directory: Path) -> dict[str, Any]:
    """What users.json says; `kind` is "bert" where it says none.

    Raises:
        UserModelError: The directory is missing, damaged or of another version.
    """
    if not directory.is_dir():
        raise UserModelError(
            f"users {directory}: no such directory. Fit one with audience-fit --out {directory}, "
            f"or name another directory."
        )
    if not is_users(directory):
        raise UserModelError(f"users {directory}: no user model directory (no users.json). {CURE}")
    try:
        about = json.loads((directory / "users.json").read_text())
        found = about["format"]
        about["values"], about["edges"]
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(directory, f"users.json: {error!r}") from error
    about = {"kind": "bert"} | about
    if found != (wanted := FORMATS.get(str(about["kind"]), found)):
        raise UserModelError(
            f"users {directory}: format {found!r} of version {about.get('audience')}, this "
            f"version ({version('audience')}) reads format {wanted}. {CURE}"
        )
    return about


def damaged(directory: Path, reason: str) -> UserModelError:
    """The error for a directory that cannot be read, with the first line of the reason."""
    first = reason.strip().splitlines()[0] if reason.strip() else "unreadable"
    return UserModelError(f"users {directory}: the directory is damaged ({first}). {CURE}")


def pseudonymous(histories: Histories, population: Population) -> Histories:
    """The start of each history, under a name that says nothing of the user."""
    names = np.array([f"{population}-{i}" for i in range(len(histories))], dtype=np.str_)
    return Histories(names, histories.offsets, histories.items, histories.levels).first(
        START_EVENTS
    )


def _events(population: Population, histories: Histories) -> pl.DataFrame:
    # A row without an item stands for a user without events.
    lengths = histories.lengths
    padded = np.maximum(lengths, 1)
    item = np.full(int(padded.sum()), -1, np.int64)
    level = item.copy()
    filled = np.repeat(lengths > 0, padded)
    item[filled], level[filled] = histories.items, histories.levels
    return pl.DataFrame(
        {
            "population": np.repeat(population, len(item)),
            "user": np.repeat(histories.users, padded),
            "item": item,
            "level": level,
        },
        schema={
            "population": pl.String,
            "user": pl.String,
            "item": pl.Int64,
            "level": pl.Int64,
        },
    )


def _histories(starts: pl.DataFrame, population: Population) -> Histories:
    rows = starts.filter(pl.col("population") == population)
    users, first = np.unique(rows["user"].to_numpy().astype(np.str_), return_index=True)
    order = np.argsort(first)
    keep = rows["item"].to_numpy() >= 0
    index = np.searchsorted(first[order], np.arange(len(rows)), side="right") - 1
    offsets = np.concatenate([[0], np.cumsum(np.bincount(index[keep], minlength=len(users)))])
    return Histories(
        users[order],
        offsets.astype(np.int64),
        rows["item"].to_numpy()[keep].astype(np.int64),
        rows["level"].to_numpy()[keep].astype(np.int64),
    )


def replace_directory(new: Path, directory: Path) -> None:
    """Put a finished directory in the place of another (or of none)."""
    old = directory.with_name(directory.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if directory.exists():
        directory.rename(old)
    new.rename(directory)
    shutil.rmtree(old, ignore_errors=True)
