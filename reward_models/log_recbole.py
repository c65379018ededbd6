"""RecBole's atomic files: tab-separated, each column's type behind its name.

The format: https://recbole.io/docs/user_guide/data/atomic_files.html. Quotes are ordinary
characters in it, and a sequence is written with spaces between its parts.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from audience.reward_models.errors import LogError

ENDINGS = (".inter", ".item", ".user")
"""Of interactions, items and users; other atomic files (.kg, .link, .net) are not read."""

TYPES = ("token", "token_seq", "float", "float_seq")

FEEDBACK_COLUMNS = ("feedback", "rating")
"""The feedback of an .inter file where none is named: the first of these that it has."""


def scan_recbole(path: Path, label: str, feedback: str | None = None) -> pl.LazyFrame:
    """An atomic file as a lazy table of strings, its columns without their types.

    Sequences of floats are left out: they are no text and no single number. In a .user file
    floats are numbers (Float64), and tokens stay strings even where they look like numbers.

    Args:
        path: The file, ending in .inter, .item or .user.
        label: Name of the file in messages.
        feedback: Column of an .inter file that becomes `feedback`, by default the first of
            `FEEDBACK_COLUMNS` that is there.

    Raises:
        LogError: The header is not RecBole's, or lacks the feedback column that was named.
    """
    ending = path.suffix.lower()
    types = _header(path, label)
    columns = {name: name for name, kind in types.items() if kind != "float_seq"}
    if ending == ".inter":
        source = feedback or next((name for name in FEEDBACK_COLUMNS if name in columns), None)
        if source is not None:
            if source not in columns:
                raise LogError(
                    f"{label}: feedback must name one of the columns {list(columns)}, got "
                    f"{feedback!r}"
                )
            columns.pop("feedback", None)
            columns |= {source: "feedback"}
    table = pl.scan_csv(path, separator="\t", infer_schema=False, quote_char=None)
    numeric = ending == ".user"
    return table.select(
        pl.col(f"{name}:{types[name]}")
        .cast(pl.Float64 if numeric and types[name] == "float" else pl.String)
        .alias(renamed)
        for name, renamed in columns.items()
    )


def atomic_files(path: str | Path) -> dict[str, Path]:
    """The atomic files of a data set that exist, by their endings; .inter and .item always.

    Args:
        path: The folder of a data set, or the path of one of its files with or without ending.

    Raises:
        LogError: There is no .inter or no .item file, or a folder holds several .inter files
            and none is named like the folder.
    """
    given = Path(path).expanduser()
    prefix = _only(given) if given.is_dir() else given
    if prefix.suffix in ENDINGS:
        prefix = prefix.with_suffix("")
    files = {ending: prefix.with_name(prefix.name + ending) for ending in ENDINGS}
    for ending, what in ((".inter", "the interactions"), (".item", "the items and their text")):
        if not files[ending].is_file():
            raise LogError(
                f"{path}: no such file: {files[ending]}. RecBole's {ending} file holds {what}; "
                "give the folder of a data set, or its path without the ending"
            )
    return {ending: file for ending, file in files.items() if file.is_file()}


def _only(folder: Path) -> Path:
    """The one data set of a folder: its .inter file."""
    found = sorted(folder.glob("*.inter"))
    named = [file for file in found if file.stem == folder.resolve().name]
    if len(named or found) != 1:
        raise LogError(
            f"{folder}: a folder must hold one .inter file, or one that is named like the "
            f"folder, got {[file.name for file in found]}. Give the path of one"
        )
    return (named or found)[0]


def _header(path: Path, label: str) -> dict[str, str]:
    """Type of each column."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            written = file.readline().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise LogError(f"{label}: cannot be read ({error}). Save it anew in UTF-8") from error
    types: dict[str, str] = {}
    for column in written.split("\t") if written else []:
        name, _, kind = column.rpartition(":")
        if not name or kind not in TYPES:
            raise LogError(
                f"{label}: each column of the header must read name:type, separated by tabs, "
                f"with a type of {', '.join(TYPES)}, got {column!r}. Write user_id:token, say"
            )
        if name in types:
            raise LogError(
                f"{label}: a column must stand once in the header, got {name!r} twice. Remove one"
            )
        types[name] = kind
    if not types:
        raise LogError(f"{label}: the file is empty. It needs a header and rows")
    return types
