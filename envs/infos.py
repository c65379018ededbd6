"""Gymnasium's two forms of info: one dict of arrays with masks, and a plain dict of one slot."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Info = dict[str, Any]


def masked(values: Info, present: NDArray[np.bool_]) -> Info:
    """Set each key beside `_key`, which says for which slots it holds.

    Args:
        values: Arrays of shape (slots, ...), or dicts of such.
        present: Which slots have these keys, shape (slots,).
    """
    info: Info = {}
    for key, value in values.items():
        info[key] = masked(value, present) if isinstance(value, dict) else value
        info[f"_{key}"] = present.copy()
    return info


def of_slot(info: Info, slot: int) -> Info:
    """The keys that hold for this slot, with its own values; numbers as Python's own."""
    own: Info = {}
    for key, value in info.items():
        if key.startswith("_") or not info[f"_{key}"][slot]:
            continue
        if isinstance(value, dict):
            own[key] = of_slot(value, slot)
        else:
            own[key] = value[slot].item() if value.ndim == 1 else np.array(value[slot])
    return own
