"""Users taken a few at a time, so that what is read and written of them stays in the cache."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch import Tensor

CELLS = 2**17
"""Users times items of a tile (half a megabyte): two of these fit into a core's own cache."""


def tiles(columns: int, rows: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Rows of users, and what else has a row for each, in tiles of so many columns.

    On a GPU all are one tile.
    """
    size = max(1, CELLS // max(columns, 1)) if rows.device.type == "cpu" else len(rows)
    if len(rows) <= size:
        return iter([(rows, *others)])
    return zip(*(of.split(size) for of in (rows, *others)), strict=True)


def log_(values: Tensor) -> Tensor:
    """Natural logarithm in place, of contiguous values above 0.

    On a CPU it is NumPy's: in single precision a third of the time of torch's, whose error is at
    most 1 unit in the last place; NumPy's is at most 4.
    """
    if values.device.type != "cpu":
        return values.log_()
    array = values.numpy()
    np.log(array, out=array)
    return values
