"""What a log must satisfy as a whole, checked when it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import polars as pl

from audience.reward_models.errors import LogError
from audience.reward_models.log_columns import PARSERS, chosen, ids, refuse
from audience.reward_models.log_recbole import ENDINGS, scan_recbole
from audience.reward_models.log_text import render_items

EmptyText = Literal["error", "allow"]
"""What an item without text is: an error, or an item whose text is ""."""


def scan(path: str | Path, label: str, feedback: str | None = None) -> pl.LazyFrame:
    """A csv, parquet or RecBole file as a lazy table; written values as the strings they are.

    Args:
        path: The file.
        label: Name of the file in messages.
        feedback: Column of a RecBole .inter file that is the feedback.

    Raises:
        LogError: The file is missing or has another ending.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise LogError(f"{label}: no such file: {file}. Check the path")
    match file.suffix.lower():
        case ".csv":
            # As strings, so that an id 007 stays 007 and a bad number can be named.
            return pl.scan_csv(file, infer_schema=False)
        case ".parquet":
            return pl.scan_parquet(file)
        case ending if ending in ENDINGS:
            return scan_recbole(file, label, feedback)
        case ending:
            raise LogError(
                f"{label}: the file must end in .csv or .parquet, got {ending or 'no ending'!r} "
                f"({file.name}). Convert it (RecBole's {', '.join(ENDINGS)} are read too)"
            )


def checked_interactions(table: pl.LazyFrame, label: str) -> pl.DataFrame:
    """The interactions: `user_id` and `item_id` as strings, and optional columns that hold values.

    `chosen` (Boolean) is among them only where some row was not chosen.

    Raises:
        LogError: A rule of the log is broken.
    """
    known = ("user_id", "item_id", "chosen", *PARSERS)
    frame = collect(table, ("user_id", "item_id"), label, known)
    columns = [ids(frame[name], label) for name in ("user_id", "item_id")]
    event = chosen(frame.get_column("chosen", default=None), len(frame), label)
    for name, parse in PARSERS.items():
        if name in frame.columns and frame[name].null_count() < len(frame):
            columns.append(parse(frame[name], label, event))
    checked = pl.DataFrame(columns)
    _check_slates(checked, event, label)
    whole = ["user_id", "item_id", "timestamp", "slate_id"]
    key = [name for name in whole if name in checked.columns]
    refuse(
        ~_first(checked, key) & event,
        checked.select(pl.struct(key)).to_series(),
        label,
        f"an event (same {', '.join(key)}) must stand once, but stands in an earlier row too",
        "Remove the duplicates, or give repeated events a timestamp of their own",
    )
    events = checked.filter(event)
    for name, what in (("user_id", "users"), ("item_id", "items")):
        if (distinct := events[name].n_unique()) < 2:
            raise LogError(f"{label}: a log needs events of at least 2 {what}, got {distinct}")
    return checked if event.all() else checked.with_columns(event)


def checked_items(
    table: pl.LazyFrame, template: str | None, label: str, empty_text: EmptyText = "error"
) -> pl.DataFrame:
    """The items as two string columns, `item_id` (distinct) and `text`.

    Raises:
        LogError: A rule of the log or of the text template is broken.
        ValueError: `empty_text` is neither "error" nor "allow".
    """
    if empty_text not in ("error", "allow"):
        raise ValueError(f'empty_text must be "error" or "allow", got {empty_text!r}')
    frame = collect(table, ("item_id",), label)
    item_ids = ids(frame["item_id"], label)
    refuse(
        ~item_ids.is_first_distinct(),
        item_ids,
        label,
        "item_id must stand once, but stands in an earlier row too",
        "Remove the second row or give the item an id of its own",
    )
    text = render_items(frame, template, label)
    if empty_text == "error":
        refuse(
            text.is_null(),
            item_ids,
            label,
            "an item must have text, but this one's text is empty",
            "Fill its text columns, remove the item and its events, or pass empty_text='allow'",
        )
    elif text.is_null().all():
        raise LogError(
            f"{label}: at least one item must have text, but all {len(text)} are empty. Fill a "
            "text column, or name another in the template"
        )
    return pl.DataFrame([item_ids, text.fill_null("")])


def check_items_known(interactions: pl.DataFrame, items: pl.DataFrame, labels: list[str]) -> None:
    """Refuse rows whose item the items table lacks.

    Raises:
        LogError: A row's item_id is unknown.
    """
    refuse(
        ~interactions["item_id"].is_in(items["item_id"].implode()),
        interactions["item_id"],
        labels[0],
        f"item_id must be listed in {labels[1]}, but is not",
        "Add the item there, or remove its rows",
    )


def collect(
    table: pl.LazyFrame, needed: tuple[str, ...], label: str, known: tuple[str, ...] | None = None
) -> pl.DataFrame:
    """Read the table, of its columns only those `known` (default: all).

    Raises:
        LogError: It cannot be read, has no rows, or a needed column is missing.
    """
    try:
        found = table.collect_schema().names()
        missing = [name for name in needed if name not in found]
        if missing:
            raise LogError(
                f"{label}: the column{'s' if len(missing) > 1 else ''} {', '.join(missing)} must "
                f"be there, found {found}. Rename or add"
            )
        if known is not None:
            table = table.select([name for name in known if name in found])
        frame = table.collect()
    except pl.exceptions.NoDataError:
        raise LogError(f"{label}: the file is empty. It needs a header and rows") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        raise LogError(
            f"{label}: cannot be read ({str(error).splitlines()[0]}). Save it anew as Parquet, "
            "or as csv in UTF-8 with commas and one header row"
        ) from error
    if frame.is_empty():
        raise LogError(f"{label}: there are no rows. Add at least two")
    return frame


def _check_slates(rows: pl.DataFrame, event: pl.Series, label: str) -> None:
    """Refuse slates that cannot have been shown: rows that share user_id and slate_id are one."""
    has_slates = "slate_id" in rows.columns
    in_slate = rows["slate_id"].is_not_null() if has_slates else event & False
    refuse(
        ~event & ~in_slate,
        rows["item_id"],
        label,
        "a row with chosen = 0 (shown, not chosen) must have a slate_id",
        "Fill it for all rows that were shown together, or remove the rows with chosen = 0",
    )
    if not has_slates:
        return
    names = ["user_id", "slate_id", "item_id"]
    shown = rows.select(pl.struct(names)).to_series()

    def once(counted: pl.Series, more: list[str], rule: str, cure: str) -> None:
        at = counted.arg_true()
        bad = (event & False).scatter(at, ~_first(rows[at], [*names[:2], *more]))
        refuse(bad, shown, label, f"{rule} ({', '.join(names)})", cure)

    once(in_slate, names[2:], "an item must stand once in a slate", "Remove the second row")
    once(
        in_slate & event,
        [],
        "only one row of a slate may be chosen",
        "Mark what was shown and not chosen with chosen = 0, give each choice a slate_id of its "
        "own, or leave slate_id out",
    )
    if "position" in rows.columns:
        placed = in_slate & rows["position"].is_not_null()
        refuse(
            in_slate & ~placed & placed.any(),
            shown,
            label,
            f"position must be there for every row of a slate, or for none ({', '.join(names)})",
            "Fill it, or leave the column out (then the order of the rows counts)",
        )
        once(placed, ["position"], "a position must stand once in a slate", "Number them anew")


def _first(rows: pl.DataFrame, key: list[str]) -> pl.Series:
    return rows.select(pl.struct(key).is_first_distinct()).to_series()
