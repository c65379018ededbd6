"""The columns of the interactions, each parsed to its type.

Every message names the file (or the frame), the row, the rule, the value and the cure. *Data
row 3* is the third row of data: the header of a csv file is not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import polars as pl

from audience.reward_models.errors import LogError
from audience.reward_models.log_text import as_text

SECONDS_LIMIT = 1e11
"""Unix seconds beyond this lie after the year 5138: they are milliseconds."""

_DATE_FORMATS = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")
_TIME_RULE = "timestamp must be unix seconds or an ISO date such as 2016-05-01T12:30:00"


def refuse(bad: pl.Series, values: pl.Series, label: str, rule: str, cure: str) -> None:
    """Raise an error that names the first bad row, if there is one.

    Raises:
        LogError: A row is bad.
    """
    bad = bad.fill_null(False)
    if not (count := int(bad.sum())):
        return
    row = bad.arg_max()
    assert row is not None
    value = values[row]
    shown = ", ".join(map(str, value.values())) if isinstance(value, dict) else repr(value)
    more = f" (and {count - 1} more rows)" if count > 1 else ""
    raise LogError(f"{label}, data row {row + 1}{more}: {rule}, got {shown}. {cure}")


def ids(series: pl.Series, label: str) -> pl.Series:
    """An id for every row, as strings.

    Raises:
        LogError: A row has none.
    """
    texts = as_text(series, label)
    refuse(texts.is_null(), series, label, f"{series.name} must not be empty", "Remove the row")
    return texts


def chosen(series: pl.Series | None, rows: int, label: str) -> pl.Series:
    """Which rows are events, shape (rows,), Boolean: all where the column is missing or blank.

    Raises:
        LogError: A value is neither yes nor no.
    """
    if series is None:
        return pl.repeat(True, rows, dtype=pl.Boolean, eager=True).alias("chosen")
    written = as_text(series, label).str.to_lowercase()
    yes, no = written.is_in(["1", "1.0", "true"]), written.is_in(["0", "0.0", "false"])
    refuse(~(yes | no), series, label, "chosen must be 1 or 0 (blank: 1)", "Correct the row")
    return (~no).fill_null(True).alias("chosen")


def _feedback(series: pl.Series, label: str, event: pl.Series) -> pl.Series:
    rule = "feedback must be a finite number"
    values = _numbers(series, label, rule)
    blank = _blank(series, label)
    partly = "feedback must be there for every event or for none"
    cure = "Fill it, remove the row, or leave the column out (an implicit log)"
    refuse(blank & event, series, label, partly, cure)
    if series.dtype.is_float():
        blank |= values.is_nan()  # how many tools hold what a row shown and not chosen lacks
    bad = values.is_null() | ~values.is_finite()
    refuse(bad & (event | ~blank), series, label, rule, "Correct or remove the row")
    return values.fill_nan(None)


def _timestamps(series: pl.Series, label: str, event: pl.Series) -> pl.Series:
    if series.dtype in (pl.Date, pl.Datetime):
        seconds = _seconds(series.cast(pl.Datetime("us")))
    else:
        seconds = _numbers(series, label, _TIME_RULE)
        if series.dtype == pl.String and seconds.null_count():
            seconds = seconds.fill_null(_seconds(_parse_dates(as_text(series, label))))
    bad = seconds.is_null() | ~seconds.is_finite()
    refuse(bad, series, label, _TIME_RULE, "Correct the row, or leave the column out")
    too_large = seconds.abs() > SECONDS_LIMIT
    refuse(too_large, series, label, _TIME_RULE, "Divide milliseconds by 1000")
    return seconds


def _texts(series: pl.Series, label: str, event: pl.Series) -> pl.Series:
    return as_text(series, label)


def _sessions(series: pl.Series, label: str, event: pl.Series) -> pl.Series:
    sessions = as_text(series, label)
    rule = "session_id must be there for every row or for none"
    cure = "Fill it, remove the row, or leave the column out"
    refuse(sessions.is_null(), series, label, rule, cure)
    return sessions


def _positions(series: pl.Series, label: str, event: pl.Series) -> pl.Series:
    rule = "position must be a whole number from 0 on (or blank)"
    return _optional(series, label, rule, lambda values: (values >= 0) & (values % 1 == 0))


def _propensities(series: pl.Series, label: str, event: pl.Series) -> pl.Series:
    rule = "propensity must be a probability above 0, at most 1 (or blank)"
    return _optional(series, label, rule, lambda values: (values > 0) & (values <= 1))


def _dwell(series: pl.Series, label: str, event: pl.Series) -> pl.Series:
    rule = "dwell_seconds must be a finite number from 0 on (or blank)"
    return _optional(series, label, rule, lambda values: values >= 0)


PARSERS: Mapping[str, Callable[[pl.Series, str, pl.Series], pl.Series]] = MappingProxyType(
    {
        "feedback": _feedback,
        "timestamp": _timestamps,
        "text": _texts,
        "session_id": _sessions,
        "slate_id": _texts,
        "position": _positions,
        "propensity": _propensities,
        "dwell_seconds": _dwell,
    }
)
"""From the name of an optional column to its parser: of (column, label, which rows are events)."""


def _blank(series: pl.Series, label: str) -> pl.Series:
    return as_text(series, label).is_null() if series.dtype == pl.String else series.is_null()


def _optional(
    series: pl.Series, label: str, rule: str, legal: Callable[[pl.Series], pl.Series]
) -> pl.Series:
    """A column of finite numbers, null where it is blank."""
    values = _numbers(series, label, rule)
    # Many tools hold a missing number as NaN; written out, in a column of strings, it is an error.
    blank = values.is_nan() if series.dtype.is_float() else _blank(series, label)
    blank |= series.is_null()
    fine = (values.is_finite() & legal(values)).fill_null(False)
    refuse(~blank & ~fine, series, label, rule, "Correct the row, or leave the value out")
    return values.fill_nan(None)


def _numbers(series: pl.Series, label: str, rule: str) -> pl.Series:
    """The column as Float64, null where it is no number."""
    if series.dtype == pl.String:
        return as_text(series, label).cast(pl.Float64, strict=False)
    if not (series.dtype.is_numeric() or series.dtype == pl.Boolean):
        raise LogError(f"{label}: {rule}, got a column of {series.dtype}. Convert it")
    return series.cast(pl.Float64)


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
