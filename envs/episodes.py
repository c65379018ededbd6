"""The course of the episodes of an environment: who comes, what is paid, and when each ends."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from typing import Any

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from audience.envs.candidates import Candidates
from audience.envs.infos import Info
from audience.envs.observations import ALL, Observation, ObservedHistories, Rows
from audience.envs.starts import Starts, Wishes, written_histories
from audience.envs.steps import Step
from audience.envs.uniforms import Streams
from audience.reward_models.histories import Histories
from audience.reward_models.rewards import Parts, RewardContext, RewardFunction, unit_rows
from audience.reward_models.users import DRAWS, Response, Sessions, UserModel

USER_COLUMN = np.array([DRAWS])
"""Column of the draw of an episode's user, beside those of responses."""

DAY_SECONDS = 86_400.0


class Episodes(VectorEnv[Observation, NDArray[Any], NDArray[Any]]):
    """What `RecommendVectorEnv` is made of: the part of it that happens between its spaces.

    Attributes:
        steps: Steps of each slot's episode so far, shape (num_envs,).
        session: Which session of the episode runs, likewise.
        clock: Seconds since the episode began, likewise.
        user_names: Pseudonyms, likewise.
    """

    users: UserModel
    candidates: Candidates | None
    reward: RewardFunction
    slate_size: int
    history_size: int
    step_limit: int
    sessions_per_episode: int
    return_days: float
    seconds_per_step: float
    in_order: bool
    autoreset_mode: AutoresetMode
    steps: NDArray[np.int64]
    session: NDArray[np.int64]
    clock: NDArray[np.float64]
    user_names: NDArray[np.str_]
    _starts: Starts
    _sessions: Sessions
    _observed: ObservedHistories
    _streams: Streams
    _finished: NDArray[np.bool_]
    _episode_parts: Parts
    _given_vectors: NDArray[np.floating] | None

    @cached_property
    def item_vectors(self) -> NDArray[np.float32] | None:
        """Vectors of the items, of norm 1 (or 0), shape (items, dim); None where there are none.

        Raises:
            ValueError: `item_vectors` does not give one row for each item.
        """
        given = self._given_vectors
        vectors = getattr(self.users, "text_vectors", None) if given is None else given
        if vectors is None:
            return None
        n_items, found = len(self.users.catalogue), unit_rows(vectors)
        if len(found) != n_items or not found.any():
            raise ValueError(
                f"item_vectors must have one row for each of the {n_items} items, not all of "
                f"zeros, got shape {found.shape}"
            )
        return found

    @abstractmethod
    def _observe(self, rows: Rows = ALL) -> Observation:
        """The observation of these slots; new arrays, which later steps leave alone."""

    @abstractmethod
    def _situation(self, present: NDArray[np.bool_]) -> Info:
        """What is known of these slots, at a reset too."""

    @abstractmethod
    def _renew_candidates(self) -> None:
        """Draw the candidates of the next step, where there are any."""

    def _begin(self, which: NDArray[np.bool_], wishes: Wishes | None = None) -> None:
        """Begin the next episode in these slots."""
        slots = np.flatnonzero(which)
        if len(slots) == 0:
            return
        self._streams.episodes[slots] += 1
        self.steps[slots], self.session[slots], self.clock[slots] = 0, 0, 0.0
        self._finished[slots] = False
        for total in self._episode_parts.values():
            total[slots] = 0.0
        if self.in_order:
            who = slots % len(self._starts)
        else:
            draw = self._streams.draw(USER_COLUMN, self.steps, slots)[:, 0]
            who = (draw * len(self._starts)).astype(np.int64)
        rows = self._starts.members[who]
        if wishes is not None:
            rows = np.where(wishes.rows[slots] >= 0, wishes.rows[slots], rows)
            written = np.array([wishes.histories[slot] is not None for slot in slots])
            events = [history for slot in slots if (history := wishes.histories[slot])]
            self._start(slots[written], written_histories(events))
            slots, rows = slots[~written], rows[~written]
        self._start(slots, self._starts.everyone.take(rows))

    def _start(self, slots: NDArray[np.int64], histories: Histories) -> None:
        if len(slots) == 0:
            return
        self.user_names[slots] = histories.users
        self._sessions.start(slots, histories)
        open_items = getattr(self._sessions, "open_items", None)
        among = None if open_items is None else open_items(slots)
        self._observed.start(slots, histories, among)

    def _resting(self) -> NDArray[np.bool_]:
        """The slots whose episode finished at the last step, and begins anew at this one."""
        if not self._streams.keyed.all():
            raise ResetNeeded("step needs a running session: call reset() first")
        if self._finished.any() and self.autoreset_mode is AutoresetMode.DISABLED:
            raise ResetNeeded(
                f"the sessions of environments {np.flatnonzero(self._finished).tolist()} have "
                f"finished: reset them, for a vector by reset(options={{'reset_mask': ...}})"
            )
        return self._finished

    def _context(self, slates: NDArray[np.int64]) -> RewardContext:
        observed = self._observed
        return RewardContext(
            self.users.scale,
            slates,
            observed.items,
            observed.levels,
            observed.lengths,
            lambda: self.item_vectors,
        )

    def _paid(
        self, slates: NDArray[np.int64], response: Response, active: NDArray[np.bool_]
    ) -> Parts:
        """The parts of the reward, 0 where no user took part; adds them to the episode's."""
        parts = {
            name: np.where(active, part, 0.0)
            for name, part in self.reward(response, self._context(slates)).items()
        }
        for name, part in parts.items():
            total = self._episode_parts.setdefault(name, np.zeros(self.num_envs))
            total += part
        return parts

    def _judge(
        self,
        slates: NDArray[np.int64],
        response: Response,
        parts: Parts,
        active: NDArray[np.bool_],
    ) -> Step:
        """Whether the user stays, leaves for good or returns, and what time it is."""
        reward = np.zeros(self.num_envs)
        for part in parts.values():
            reward += part
        leaves = response.leave & active
        terminated = leaves & (self.session == self.sessions_per_episode - 1)
        over = (self.steps >= self.step_limit) | (self._observed.open.remaining < self.slate_size)
        truncated = over & ~terminated & active
        returns = leaves & ~terminated & ~truncated
        dwell = response.dwell_seconds
        seconds = self.seconds_per_step + np.where(np.isnan(dwell), 0.0, dwell)
        self.clock += np.where(active, seconds, 0.0) + returns * self.return_days * DAY_SECONDS
        self.session += returns
        sums = self._episode_parts
        return Step(slates, response, parts, reward, terminated, truncated, sums)

    def _final(self, step: Step) -> Info:
        """The last observation and info of the episodes that finished, before they make place."""
        finished = step.finished
        slots = np.flatnonzero(finished)
        if len(slots) == 0:
            return {}
        self._renew_candidates()
        batch = self._observe(slots)
        observations = np.full(self.num_envs, None, np.object_)
        for row, slot in enumerate(slots):  # Gymnasium's form: an object a finished slot
            observations[slot] = {key: value[row] for key, value in batch.items()}
        told = step.told(self.users.scale, finished) | self._situation(finished)
        return {
            "final_obs": observations,
            "_final_obs": finished.copy(),
            "final_info": told,
            "_final_info": finished.copy(),
        }
