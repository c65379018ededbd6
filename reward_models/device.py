"""Where a model computes."""

from __future__ import annotations

import torch


def resolve_device(device: str) -> torch.device:
    """The torch device of a setting: "auto" takes a GPU where there is one.

    Raises:
        ValueError: The device is not to be had.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device must be auto, cpu or cuda, got {device!r}") from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device is {device!r}, but torch finds no GPU; use auto or cpu")
    return found
