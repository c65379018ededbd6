"""Work on many users in parts side by side, one thread each, instead of sharing every product.

A step of many users is some hundred small sums and products. Where threads share each of them,
they wait for each other as many times, and one that has lost its core stops the others. What costs
calls more than sums is done in one thread: Python makes the calls of one part after those of
another, and each hand-over costs more than the call.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from threading import Barrier
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")

LEAST = 64
"""Users of a part, at least: with fewer, work is calls more than sums."""

_whole = threading.local()  # the threads of one who computes alone for now


def part_count(users: int, device: torch.device, least: int = LEAST) -> int:
    """In how many parts so many users are best worked on, each of `least` or more."""
    return max(1, min(_threads(), users // least)) if device.type == "cpu" else 1


@contextmanager
def one_thread(device: torch.device, users: int = 0) -> Iterator[None]:
    """Let torch compute in this thread alone meanwhile, but for parts side by side.

    Args:
        device: Nothing changes where users live on a GPU.
        users: Nor where so many of them are worked on that sharing their products pays.
    """
    whole = torch.get_num_threads()
    if whole == 1 or device.type != "cpu" or users >= 2 * LEAST:
        yield
        return
    torch.set_num_threads(1)
    _whole.threads = whole
    try:
        yield
    finally:
        _whole.threads = 0
        torch.set_num_threads(whole)


def side_by_side(work: Callable[[T], R], parts: Sequence[T]) -> list[R]:
    """What `work` gives for each part; the first is done here, the others by helpers.

    Args:
        work: Must change nothing that the other parts read or change.
        parts: As many as `part_count` says; on a GPU one.
    """
    if len(parts) == 1:
        return [work(parts[0])]
    inference = torch.is_inference_mode_enabled()  # which holds in a thread alone

    def help_with(part: T) -> R:
        with torch.inference_mode(inference):
            return work(part)

    helpers = _helpers(max(_threads(), len(parts)) - 1)  # those of few parts help with many
    with one_thread(torch.device("cpu")):
        others = [helpers.submit(help_with, part) for part in parts[1:]]
        try:
            first = work(parts[0])
        finally:  # nobody goes on while others still work
            for other in others:
                other.exception()
    return [first, *(other.result() for other in others)]


def _threads() -> int:
    """Those that work here, this one among them, even while torch computes in it alone."""
    threads: int = getattr(_whole, "threads", 0) or torch.get_num_threads()
    return threads


@cache
def _helpers(count: int) -> ThreadPoolExecutor:
    """This many threads, in each of which torch computes alone."""
    whole = torch.get_num_threads()
    begun = Barrier(count)

    def begin() -> None:
        torch.get_num_threads()  # else the first sum sets what all threads begin with
        torch.set_num_threads(1)
        begun.wait()

    pool = ThreadPoolExecutor(count, "audience-users")
    for thread in [pool.submit(begin) for _ in range(count)]:
        thread.result()
    # What each was told holds for it alone, but for threads yet to come.
    torch.set_num_threads(whole)
    return pool


if hasattr(os, "register_at_fork"):  # a forked process has none of these threads
    os.register_at_fork(after_in_child=_helpers.cache_clear)
