"""Start histories that were encoded before: sessions begin with the same ones again and again."""

from __future__ import annotations

from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray

from audience.reward_models.engine import BehaviourEngine
from audience.reward_models.histories import Histories
from audience.reward_models.user_states import UserStates
from audience.reward_models.users import START_EVENTS

MOST = 2048
"""Starts that are kept, at most: about 35 kB each with the default tower and 3,000 items."""


AHEAD = 32
"""Starts that are encoded with one that is met for the first time: together they take twice as long
as one alone, and sooner or later they are met."""


class StartMemo:
    """The states in which sessions begin, copied where they are known, else encoded and kept.

    A tenth of the users of a step begin anew, each with some events: encoding these costs as
    much as all answers of the step.

    Args:
        engine: What encodes.
        starts: Those that sessions may begin with, as they are or their first events; more than
            MOST, or starts of named users (whose features and notes enter), are not kept.
    """

    def __init__(self, engine: BehaviourEngine, starts: Histories) -> None:
        config, count = engine.model.config, len(starts)
        self._engine, self._starts = engine, starts
        self._size = count if count <= MOST and not config.context_dim + config.note_dim else 0
        self._ahead = 0  # the next of the starts to encode with others
        self._kept: UserStates | None = None
        self._row: dict[bytes, int] = {}
        self._tilt = self._version()
        self._lock = Lock()  # environments of the same users may run in threads

    def begin(self, states: UserStates, rows: torch.Tensor, histories: Histories) -> None:
        """Begin these rows anew with these histories; as `BehaviourEngine.encode`."""
        most = min(START_EVENTS, self._engine.model.config.window - 1)
        if len(rows) > self._size or histories.lengths.max(initial=0) > most:
            self._engine.encode(states, rows, histories)
            return
        with self._lock:
            self._copy(states, rows, histories, most)

    def _copy(
        self, states: UserStates, rows: torch.Tensor, histories: Histories, most: int
    ) -> None:
        if self._tilt != self._version():  # while it is fitted
            self._row, self._ahead, self._tilt = {}, 0, self._version()
        if self._kept is None:
            self._kept = self._engine.new_states(self._size, most)
        keys = _keys(histories, most)
        fresh = {key: at for at, key in enumerate(keys) if key not in self._row}
        if fresh:
            if len(self._row) + len(fresh) > self._size:  # other starts, such as shorter ones
                self._row, self._ahead = {}, 0
                fresh = {key: at for at, key in enumerate(keys)}
            self._learn(self._kept, *self._with_more(fresh, histories, most))
        theirs = torch.tensor([self._row[key] for key in keys], device=rows.device)
        states.put(rows, self._kept, theirs)

    def _version(self) -> int:
        """Changes with the weights of the tilt, which kept normalisers hang on."""
        return self._engine.model.tilt.weights._version

    def _with_more(
        self, fresh: dict[bytes, int], histories: Histories, most: int
    ) -> tuple[dict[bytes, int], Histories]:
        """Fresh starts, and where they are few the next that are not known yet, as long as they."""
        room = self._size - len(self._row) - len(fresh)
        count = min(AHEAD - len(fresh), room, len(self._starts) - self._ahead)
        if count <= 0:
            return fresh, histories
        own = histories.take(np.fromiter(fresh.values(), np.int64, len(fresh)))
        next_ = self._starts.take(self._ahead + np.arange(count)).first(int(own.lengths.max()))
        self._ahead += count
        both = Histories.joined([own, next_])
        keys = enumerate(_keys(both, most))
        return {key: at for at, key in keys if key not in self._row}, both

    def _learn(self, kept: UserStates, fresh: dict[bytes, int], histories: Histories) -> None:
        first = len(self._row)
        rows = torch.arange(first, first + len(fresh), device=kept.hidden.device)
        own = histories.take(np.fromiter(fresh.values(), np.int64, len(fresh)))
        self._engine.encode(kept, rows, own)
        if self._engine.looks is None:
            self._engine.choosing.refresh(kept, rows)
        self._row |= {key: first + place for place, key in enumerate(fresh)}


def _keys(histories: Histories, most: int) -> list[bytes]:
    """The events of each history as one string of bytes."""
    items, levels, lengths = histories.padded(most)
    rows = np.ascontiguousarray(np.concatenate([lengths[:, None], items, levels], 1))
    packed: NDArray[np.void] = rows.view(np.dtype((np.void, rows.strides[0])))[:, 0]
    return packed.tolist()
