"""Independent fits side by side, one thread each.

Sums over events run in one thread each whatever the machine has; where several fits are to be made
(of folds, of settings to choose from), they are made beside each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

T = TypeVar("T")
R = TypeVar("R")

MOST = 4
"""Fits at a time: each holds matrices of items by items."""


def fits(fit: Callable[[T], R], settings: Sequence[T]) -> list[R]:
    """What `fit` gives for each of the settings, in their order.

    As many run at a time as torch has threads, so that a process that was told to use one does;
    meanwhile a product of matrices has one thread.

    Args:
        fit: Must change nothing that the other fits read or change.
        settings: Of each fit.
    """
    workers = min(torch.get_num_threads(), MOST, len(settings))
    if workers < 2:
        return [fit(each) for each in settings]
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(workers, "audience-fits") as pool:
        return list(pool.map(fit, settings))
