"""What is known of a log's users beside their events, and its form as numbers."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from audience.reward_models.errors import LogError
from audience.reward_models.log_checks import collect
from audience.reward_models.log_columns import ids, refuse
from audience.reward_models.log_text import as_text

MAX_CATEGORIES = 32
"""A column of words with more distinct values than this is left out of the features: each value
would belong to a handful of users."""


def checked_users(table: pl.LazyFrame, label: str, untyped: bool) -> pl.DataFrame:
    """The users: `user_id` (String, distinct), numbers as Float64 and all else as String.

    Args:
        table: The users table.
        label: Name of the table in messages.
        untyped: Whether the file holds strings only (csv): then a column is one of numbers where
            all its values are numbers.

    Raises:
        LogError: `user_id` is missing, blank or stands twice, there is no other column, or a
            number is infinite.
    """
    frame = collect(table, ("user_id",), label)
    user_ids = ids(frame["user_id"], label)
    refuse(
        ~user_ids.is_first_distinct(),
        user_ids,
        label,
        "user_id must stand once, but stands in an earlier row too",
        "Remove the second row",
    )
    columns = [_feature(frame[name], label, untyped) for name in frame.columns if name != "user_id"]
    if not columns:
        raise LogError(
            f"{label}: users need at least one column beside user_id, found none. Add one, or "
            "leave the users out"
        )
    return pl.DataFrame([user_ids, *columns])


def encode_users(
    table: pl.DataFrame, users: NDArray[np.str_], fitting: NDArray[np.str_]
) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """Users' features as numbers, by what is known of the fitting users alone.

    Columns of words with 2 to `MAX_CATEGORIES` values are one-hot ("gender=F"; a value that no
    fitting user has is all 0); numbers are standardised, blanks 0 (the mean). Where some fitting
    users lack the value, "gender is missing" marks those who do. What is the same for all fitting
    users is left out.

    Args:
        table: As `checked_users` returns it; users without a row have no value in any column.
        users: Users to encode.
        fitting: Users that give values, means and deviations.

    Returns:
        Names, and features of shape (users, features).
    """
    columns = [name for name in table.columns if name != "user_id"]
    known, wanted = (
        pl.DataFrame({"user_id": pl.Series(names, dtype=pl.String)}).join(
            table, on="user_id", how="left", maintain_order="left"
        )
        for names in (fitting, users)
    )
    features: dict[str, NDArray[np.float64]] = {}
    for name in columns:
        seen, column = known[name].drop_nulls(), wanted[name]
        if column.dtype == pl.Float64:
            values = seen.to_numpy()
            if len(values) and (deviation := values.std()) > 0:
                standard = (column - values.mean()) / deviation
                features[name] = standard.fill_null(0).to_numpy()
        elif 2 <= len(levels := seen.unique().sort()) <= MAX_CATEGORIES:
            for level in levels:
                features[f"{name}={level}"] = (column == level).fill_null(False).to_numpy()
        if 0 < len(seen) < len(known):
            features[f"{name} is missing"] = column.is_null().to_numpy()
    encoded = np.zeros((len(users), len(features)), np.float32)
    for at, values in enumerate(features.values()):
        encoded[:, at] = values
    return tuple(features), encoded


def _feature(series: pl.Series, label: str, untyped: bool) -> pl.Series:
    """Numbers as Float64, all else as String; null where blank."""
    if series.dtype.is_numeric():
        numbers = series.cast(pl.Float64).fill_nan(None)
    else:
        texts = as_text(series, label)
        numbers = texts.cast(pl.Float64, strict=False)
        if not untyped or numbers.null_count() > texts.null_count():
            return texts
        numbers = numbers.set(numbers.is_nan(), None)
    rule = f"{series.name} must be a finite number (or blank)"
    refuse(numbers.is_infinite(), series, label, rule, "Correct the row")
    return numbers
