"""Where a model computes, and in what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    import torch

DtypeName = Literal["float32", "bfloat16"]
"""Numbers, by torch's names, that running users may compute the tower and the heads of feedback
in. In bfloat16 keys and values take half the memory."""


def checked_dtype(dtype: DtypeName) -> DtypeName:
    """The same.

    Raises:
        ValueError: There is no such type.
    """
    if dtype not in (known := get_args(DtypeName)):
        raise ValueError(f"dtype must be one of {', '.join(known)}, got {dtype!r}")
    return dtype


def resolve_device(device: str) -> torch.device:
    """The torch device of a setting: "auto" takes a GPU where there is one.

    Raises:
        ValueError: The device is not to be had.
    """
    import torch  # settings are checked before anything large is loaded

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device must be auto, cpu or cuda, got {device!r}") from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device is {device!r}, but torch finds no GPU; use auto or cpu")
    return found
