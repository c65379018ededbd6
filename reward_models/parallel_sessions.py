"""Sessions in parts that answer side by side, each in a thread of its own."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from threading import Barrier
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from audience.reward_models.histories import Histories
from audience.reward_models.sessions import BertSessions
from audience.reward_models.users import Response

LEAST_SLOTS = 1024
"""Slots of a part: the calls of a step are made by one thread at a time, and with fewer slots they
are most of it. On 2 cores, two parts of 2,048 users step a seventh more users than one block whose
products are shared; two of 512, a fifth less."""

MOST_PARTS = 4
"""Parts, at most; further cores compute within them."""


class ParallelSessions:
    """A block of sessions, the parts of which answer at the same time.

    A step is some thousand small products. Sharing each among the cores has them wait for each
    other thousands of times; here they meet once a step. No draw hangs on the parts.

    Args:
        parts: Sessions of neighbouring slots; the first part has the first ones.
        slots: How many each has.
    """

    def __init__(self, parts: Sequence[BertSessions], slots: Sequence[int]) -> None:
        self._parts = parts
        self._begin = np.concatenate([[0], np.cumsum(slots)])
        self._pool: ThreadPoolExecutor | None = None

    def start(self, slots: NDArray[np.int64], histories: Histories) -> None:
        """Begin a new session in each of these slots, with one history a slot."""
        owner = np.searchsorted(self._begin, slots, side="right") - 1
        pool = self._threads()
        for which, part in enumerate(self._parts):
            mine = np.flatnonzero(owner == which)
            if len(mine):
                # One after another, for what they learn of starts is shared; not in this thread,
                # whose helpers would wait for more to do on the cores of the others.
                own = slots[mine] - self._begin[which]
                pool.submit(part.start, own, histories.take(mine)).result()

    def respond(
        self,
        slates: NDArray[np.int64],
        uniforms: NDArray[np.float64],
        active: NDArray[np.bool_],
    ) -> Response:
        """Show every active slot its slate; draw the response; remember it as history."""
        pool = self._threads()
        bounds = zip(self._begin[:-1], self._begin[1:], strict=True)
        ranges = [slice(int(begin), int(end)) for begin, end in bounds]
        waiting = [
            pool.submit(part.respond, slates[own], uniforms[own], active[own])
            for part, own in zip(self._parts, ranges, strict=True)
        ]
        found = [answer.result() for answer in waiting]
        names = [field.name for field in fields(Response)]
        return Response(*(np.concatenate([getattr(r, name) for r in found]) for name in names))

    def get_state(self) -> list[Any]:
        """A copy of what is kept of all slots."""
        return [part.get_state() for part in self._parts]

    def set_state(self, state: list[Any]) -> None:
        """Go on from a copy that `get_state` gave."""
        for part, own in zip(self._parts, state, strict=True):
            part.set_state(own)

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            whole = torch.get_num_threads()
            each = max(1, whole // len(self._parts))
            begun = Barrier(len(self._parts))

            def begin() -> None:
                torch.get_num_threads()  # else the first sum sets what all threads begin with
                torch.set_num_threads(each)
                begun.wait()

            self._pool = ThreadPoolExecutor(len(self._parts), "users")
            for thread in [self._pool.submit(begin) for _ in self._parts]:
                thread.result()
            # What each was told holds for it alone, but for threads yet to come.
            torch.set_num_threads(whole)
        return self._pool


def parts_of(slots: int, device: torch.device) -> list[int]:
    """Slots of the parts that so many sessions are best cut into."""
    if device.type != "cpu":
        return [slots]
    parts = max(1, min(torch.get_num_threads(), slots // LEAST_SLOTS, MOST_PARTS))
    return [len(own) for own in np.array_split(np.arange(slots), parts)]
