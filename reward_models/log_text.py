"""From the columns of an items table to one text an item."""

from __future__ import annotations

from string import Formatter

import polars as pl

from audience.reward_models.errors import LogError

MISSING = "\x00"
"""Stands for a missing value until the punctuation around it is gone: no text contains it."""

_TIDY = [
    (rf"^\s*[(\[]\s*{MISSING}\s*[)\]]", MISSING),  # at the start: the third rule
    (rf"\s*[(\[]\s*{MISSING}\s*[)\]]", ""),  # "Alien ({year})" -> "Alien"
    (rf"^\s*(?:{MISSING}\s*[.,;:|/-]?\s*)+", ""),  # "{title}. Horror" -> "Horror"
    (rf"\s*[.,;:|/-]?\s*{MISSING}", ""),  # "Alien. {genres}" -> "Alien"
    (r"\s+", " "),
]


def render_items(items: pl.DataFrame, template: str | None, label: str) -> pl.Series:
    """The text of each item; null where the item has no value for any placeholder.

    Args:
        items: The columns of the items table.
        template: Literal text with column names in braces, such as "{title} ({year})"; None
            joins all text columns by ". ". A missing value takes the brackets or the
            punctuation before it along.
        label: Name of the table in error messages.

    Raises:
        LogError: The template is malformed, names no column or an unknown one, or is None
            where the table has no text column.
    """
    if template is None:
        names = [name for name in items.columns if name != "item_id" and _is_text(items[name])]
        if not names:
            raise LogError(
                f"{label}: an item needs text, but beside item_id no column holds any; found the "
                f"columns {items.columns}. Add one, or name columns: text='{{title}}. {{genres}}'"
            )
        template = ". ".join(f"{{{name}}}" for name in names)
    parts = _parse(template, items.columns, label)
    fields = {name: as_text(items[name], label) for _, name in parts if name is not None}
    filled: list[pl.Expr] = []
    for literal, name in parts:
        filled.append(pl.lit(literal))
        if name is not None:
            filled.append(pl.col(name).fill_null(MISSING))
    text = pl.concat_str(filled)
    for pattern, replacement in _TIDY:
        text = text.str.replace_all(pattern, replacement)
    has_any = pl.any_horizontal(pl.col(name).is_not_null() for name in fields)
    rendered = pl.DataFrame(list(fields.values())).select(
        pl.when(has_any).then(text.str.strip_chars()).alias("text")
    )
    return rendered["text"]


def as_text(series: pl.Series, label: str) -> pl.Series:
    """Any column as strings, stripped, null where blank; whole numbers without ".0".

    Raises:
        LogError: The column holds values that have no plain text, such as structs.
    """
    dtype = series.dtype
    if dtype == pl.String:
        text = series
    elif dtype.is_float():
        series = series.fill_nan(None)
        # A missing value turns a column of integers into floats in many tools.
        whole = (series.drop_nulls() % 1 == 0).all()
        text = series.cast(pl.Int64 if whole else dtype, strict=False).cast(pl.String)
    elif isinstance(dtype, pl.List):
        text = series.cast(pl.List(pl.String)).list.join(", ", ignore_nulls=True)
    elif dtype.is_nested() or dtype in (pl.Binary, pl.Object):
        raise LogError(
            f"{label}: the column {series.name!r} must hold text or numbers, got {dtype}. "
            "Convert it to strings"
        )
    else:
        text = series.cast(pl.String)
    text = text.str.strip_chars()
    return text.set(text == "", None)


def _is_text(series: pl.Series) -> bool:
    """Whether a column holds words: a csv file holds its numbers as strings too."""
    if series.dtype not in (pl.String, pl.Categorical, pl.Enum, pl.List(pl.String)):
        return False
    if series.dtype != pl.String:
        return True
    values = as_text(series, "items").drop_nulls()
    return values.cast(pl.Float64, strict=False).null_count() > 0


def _parse(template: str, columns: list[str], label: str) -> list[tuple[str, str | None]]:
    """Pairs of literal text and the column after it, the last column perhaps None."""
    example = "such as '{title} ({year}). {genres}'"
    try:
        parsed = list(Formatter().parse(template))
    except ValueError as error:
        raise LogError(f"text must be a template {example}, got {template!r}: {error}") from None
    for _, name, spec, conversion in parsed:
        if name is None:
            continue
        if name not in columns:
            raise LogError(
                f"text: every placeholder must name a column of {label}, got {{{name}}}; "
                f"the columns are {columns}"
            )
        if spec or conversion:
            raise LogError(
                f"text: a placeholder is a column name alone {example}, got {template!r}"
            )
    if all(name is None for _, name, _, _ in parsed):
        raise LogError(f"text must name at least one column {example}, got {template!r}")
    return [(literal, name) for literal, name, _, _ in parsed]
