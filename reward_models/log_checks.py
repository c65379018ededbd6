"""What a log must satisfy, checked when it is read.

Every message names the file (or the frame), the row, the rule, the value and the cure. *Data
row 3* is the third row of data: the header of a csv file is not counted.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from audience.reward_models.errors import LogError
from audience.reward_models.log_text import as_text, render_items

EXTRA_COLUMNS = (
    "text",
    "session_id",
    "slate_id",
    "position",
    "chosen",
    "propensity",
    "dwell_seconds",
)
"""Columns of the interactions that are kept as they are; all unknown columns are dropped."""

SECONDS_LIMIT = 1e11
"""Unix seconds beyond this lie after the year 5138: they are milliseconds."""

_DATE_FORMATS = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")
_TIME_RULE = "timestamp must be unix seconds or an ISO date such as 2016-05-01T12:30:00"


def scan(path: str | Path, label: str) -> pl.LazyFrame:
    """A csv or parquet file as a lazy table; a csv file's values as the strings it holds.

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
        case ending:
            raise LogError(
                f"{label}: the file must end in .csv or .parquet, got {ending or 'no ending'!r} "
                f"({file.name}). Convert it"
            )


def checked_interactions(table: pl.LazyFrame, label: str) -> pl.DataFrame:
    """The interactions with `user_id` and `item_id` as strings, numbers as Float64.

    `feedback` and `timestamp` (unix seconds) are kept where any row has them.

    Raises:
        LogError: A rule of the log is broken.
    """
    frame = _collect(table, ("user_id", "item_id"), label, keep=True)
    columns = [_ids(frame[name], label) for name in ("user_id", "item_id")]
    for name, parse in (("feedback", _feedback), ("timestamp", _timestamps)):
        if name in frame.columns and frame[name].null_count() < len(frame):
            columns.append(parse(frame[name], label))
    columns += [frame[name] for name in EXTRA_COLUMNS if name in frame.columns]
    checked = pl.DataFrame(columns)
    if "chosen" in checked.columns:
        skipped = as_text(checked["chosen"], label).str.to_lowercase()
        _refuse(
            skipped.is_in(["0", "0.0", "false"]),
            checked["chosen"],
            label,
            "every row must be an event: items that were shown and not chosen are not read yet",
            "Keep the rows with chosen = 1",
        )
    key = [name for name in ("user_id", "item_id", "timestamp") if name in checked.columns]
    _refuse(
        ~checked.select(pl.struct(key).is_first_distinct()).to_series(),
        checked.select(pl.struct(key)).to_series(),
        label,
        f"an event (same {', '.join(key)}) must stand once, but stands in an earlier row too",
        "Remove the duplicates, or give repeated events a timestamp of their own",
    )
    for name, what in (("user_id", "users"), ("item_id", "items")):
        if (distinct := checked[name].n_unique()) < 2:
            raise LogError(f"{label}: a log needs events of at least 2 {what}, got {distinct}")
    return checked


def checked_items(table: pl.LazyFrame, template: str | None, label: str) -> pl.DataFrame:
    """The items as two string columns, `item_id` (distinct) and `text`.

    Raises:
        LogError: A rule of the log or of the text template is broken.
    """
    frame = _collect(table, ("item_id",), label, keep=False)
    ids = _ids(frame["item_id"], label)
    _refuse(
        ~ids.is_first_distinct(),
        ids,
        label,
        "item_id must stand once, but stands in an earlier row too",
        "Remove the second row or give the item an id of its own",
    )
    text = render_items(frame, template, label)
    _refuse(
        text.is_null(),
        ids,
        label,
        "an item must have text, but this one's text is empty",
        "Fill its text columns, or remove the item and its events",
    )
    return pl.DataFrame([ids, text])


def check_items_known(interactions: pl.DataFrame, items: pl.DataFrame, labels: list[str]) -> None:
    """Refuse events whose item the items table lacks.

    Raises:
        LogError: An event's item_id is unknown.
    """
    _refuse(
        ~interactions["item_id"].is_in(items["item_id"].implode()),
        interactions["item_id"],
        labels[0],
        f"item_id must be listed in {labels[1]}, but is not",
        "Add the item there, or remove its events",
    )


def _collect(table: pl.LazyFrame, needed: tuple[str, ...], label: str, keep: bool) -> pl.DataFrame:
    """Read the table; of the interactions (`keep`) only the columns that have a meaning."""
    try:
        found = table.collect_schema().names()
        missing = [name for name in needed if name not in found]
        if missing:
            raise LogError(
                f"{label}: the column{'s' if len(missing) > 1 else ''} {', '.join(missing)} must "
                f"be there, found {found}. Rename or add"
            )
        if keep:
            known = ("user_id", "item_id", "feedback", "timestamp", *EXTRA_COLUMNS)
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


def _refuse(bad: pl.Series, values: pl.Series, label: str, rule: str, cure: str) -> None:
    """Raise an error that names the first bad row, if there is one."""
    bad = bad.fill_null(False)
    if not (count := int(bad.sum())):
        return
    row = bad.arg_max()
    assert row is not None
    value = values[row]
    shown = ", ".join(map(str, value.values())) if isinstance(value, dict) else repr(value)
    more = f" (and {count - 1} more rows)" if count > 1 else ""
    raise LogError(f"{label}, data row {row + 1}{more}: {rule}, got {shown}. {cure}")


def _ids(series: pl.Series, label: str) -> pl.Series:
    ids = as_text(series, label)
    _refuse(ids.is_null(), series, label, f"{series.name} must not be empty", "Remove the row")
    return ids


def _numbers(series: pl.Series, label: str, rule: str) -> pl.Series:
    """The column as Float64, null where it is no number."""
    if series.dtype == pl.String:
        return as_text(series, label).cast(pl.Float64, strict=False)
    if not (series.dtype.is_numeric() or series.dtype == pl.Boolean):
        raise LogError(f"{label}: {rule}, got a column of {series.dtype}. Convert it")
    return series.cast(pl.Float64)


def _feedback(series: pl.Series, label: str) -> pl.Series:
    rule = "feedback must be a finite number"
    values = _numbers(series, label, rule)
    blank = as_text(series, label).is_null() if series.dtype == pl.String else series.is_null()
    partly = "feedback must be there for every event or for none"
    cure = "Fill it, remove the row, or leave the column out (an implicit log)"
    _refuse(blank, series, label, partly, cure)
    bad = values.is_null() | ~values.is_finite()
    _refuse(bad, series, label, rule, "Correct or remove the row")
    return values


def _timestamps(series: pl.Series, label: str) -> pl.Series:
    if series.dtype in (pl.Date, pl.Datetime):
        seconds = _seconds(series.cast(pl.Datetime("us")))
    else:
        seconds = _numbers(series, label, _TIME_RULE)
        if series.dtype == pl.String and seconds.null_count():
            seconds = seconds.fill_null(_seconds(_parse_dates(as_text(series, label))))
    bad = seconds.is_null() | ~seconds.is_finite()
    _refuse(bad, series, label, _TIME_RULE, "Correct the row, or leave the column out")
    too_large = seconds.abs() > SECONDS_LIMIT
    _refuse(too_large, series, label, _TIME_RULE, "Divide milliseconds by 1000")
    return seconds


def _parse_dates(text: pl.Series) -> pl.Series:
    """ISO dates and times, taken as UTC where they name no time zone; null for all else."""
    # One form: a space for the T, and the zone as +hh:mm at the end.
    text = text.str.replace(r"^(\S+?)[Tt](\d)", "$1 $2").str.replace(r"\s*[Zz]$", "+00:00")
    zone = text.str.extract(r":\d{2}(?:\.\d+)?\s*([+-]\d{2}:?\d{2})$")
    text = text.str.replace(r"(:\d{2}(?:\.\d+)?)\s*[+-]\d{2}:?\d{2}$", "$1")
    sign = pl.when(pl.col("zone").str.starts_with("-")).then(-1).otherwise(1)
    hours = pl.col("zone").str.slice(1, 2).cast(pl.Int64)
    minutes = pl.col("zone").str.slice(-2).cast(pl.Int64)
    offset = pl.duration(minutes=(sign * (60 * hours + minutes)).fill_null(0), time_unit="us")
    local = pl.coalesce(
        pl.col("text").str.to_datetime(form, time_unit="us", strict=False) for form in _DATE_FORMATS
    )
    return pl.DataFrame({"text": text, "zone": zone}).select(local - offset).to_series()


def _seconds(moments: pl.Series) -> pl.Series:
    return moments.dt.timestamp("us").cast(pl.Float64) / 1e6
