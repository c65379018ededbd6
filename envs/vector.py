"""The core of every environment here: many simulated users who respond together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from audience.envs.checks import catalogue_indices, one_of, reset_mask, seeds_of, whole
from audience.envs.default_users import shared_users
from audience.envs.infos import Info, masked
from audience.envs.observations import Observation, ObservedHistories, observation_space
from audience.envs.screen import screen
from audience.envs.steps import Step
from audience.envs.uniforms import Streams
from audience.reward_models.rewards import FeedbackReward, Reward
from audience.reward_models.users import (
    DRAWS,
    POPULATIONS,
    START_EVENTS,
    Assumptions,
    Population,
    Response,
    UserModel,
)

RESPONSE_COLUMNS = np.arange(DRAWS)
USER_COLUMN = np.array([DRAWS])
"""Column of the draw of a session's user, beside those of its responses."""


class RecommendVectorEnv(VectorEnv[Observation, NDArray[np.int64], NDArray[Any]]):
    """Recommend items to `num_envs` simulated users, who all respond in one call a step.

    Observation, of each user (a `Dict`; H is `history_size`, batched along a first axis):
        `item`: int64 (H,), catalogue indices of the user's last H events, the start history and
            then what was chosen in the session, oldest first, left-aligned, 0 from `length` on.
        `feedback`: int64 (H,), the level of the feedback on each: an index into the user
            model's `scale.values`.
        `length`: int64 (1,), how many of the H places are used.
        `mask`: int8 (items,), only with `mask_in_observation`: 1 where an item may be
            recommended, 0 where the user consumed it.
    Action, of each user: a catalogue index, `Discrete(items)`; for slates
        `MultiDiscrete([items] * slate_size)`. An item that the user consumed before, in the
        start history or in the session, and the second copy of an item in a slate, are shown
        but never chosen.
    Reward: float64, the sum of the parts that `reward` computes from the response; by default
        the feedback on the chosen item scaled to 0…1, and 0 if none is chosen.
    Start: a user drawn evenly from `population` (with `in_order`, the slot's own), with the
        first `start` of that user's real events (all of them where there are fewer).
    Termination: the user leaves.
    Truncation: after `step_limit` steps, or when fewer unconsumed items remain than a slate
        holds; only where the user did not leave.
    Info: arrays with masks `_key`, as Gymnasium's vector environments have them.
        `action_mask`: int8 (items,), as `mask` above.
        `user`: pseudonym of the user.
        After a step also `choice` (position in the slate) and `item` and `level` of what was
        chosen, each -1 where nothing was; `feedback`, the value of the level in the log's unit
        (nan, and masked out, where nothing was chosen); `accept_probability`, the probability
        with which something of the slate was chosen; and `reward_parts`, a dict.
    Randomness: all draws are looked up by (key, session, step), and environment i of a vector
        seeded s has the key of a single environment seeded s + i, so it lives the same
        sessions (but for `in_order`, where the slot decides who comes). `reset()` without a
        seed goes on to the next session of the same key; the first key, without a seed, comes
        from `np_random`.

    Args:
        num_envs: Number of users at a time, at least 1.
        users: A user model, or the directory of a fitted one.
        slate_size: Items shown at each step, at least 1.
        reward: What a response is worth; `FeedbackReward()` by default.
        step_limit: Steps after which a session is cut off, at least 1.
        start: Real events at the start of a session, 1 to START_EVENTS.
        history_size: Events in the observation (H), at least 1; by default `start +
            step_limit`, which holds the whole session.
        acceptance: See `Assumptions`, as for the next three.
        popularity_discount: See `Assumptions`.
        leave_after_choice: See `Assumptions`.
        leave_after_skip: See `Assumptions`.
        population: Whose start histories: "fitting", "validation" or "test" users.
        in_order: Slot i starts each session with user i of the population (modulo its size)
            instead of a drawn one: how an evaluation meets every user once.
        mask_in_observation: Whether `mask` stands in the observation, for algorithms that
            take no masks.
        autoreset_mode: When a finished session makes place for the next, as in Gymnasium's
            own vector environments: at the next step, whose action is then ignored
            (`NEXT_STEP`); at once, with `final_obs` and `final_info` in the info
            (`SAME_STEP`); or by `reset(options={"reset_mask": ...})` (`DISABLED`).
        render_mode: None, or "ansi": `render()` returns a screen of text for each user.

    Raises:
        ValueError: A setting breaks its rule, or the population has no users.
        UserModelError: `users` is a directory that holds no sound user model.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 1}

    def __init__(
        self,
        num_envs: int = 1,
        *,
        users: str | Path | UserModel | None = None,
        slate_size: int = 1,
        reward: Reward | None = None,
        step_limit: int = 30,
        start: int = START_EVENTS,
        history_size: int | None = None,
        acceptance: float | None = Assumptions.acceptance,
        popularity_discount: float = Assumptions.popularity_discount,
        leave_after_choice: float | None = Assumptions.leave_after_choice,
        leave_after_skip: float | None = Assumptions.leave_after_skip,
        population: Population = "fitting",
        in_order: bool = False,
        mask_in_observation: bool = False,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
    ) -> None:
        if users is None:
            raise ValueError(
                "users is required: pass the directory of a fitted user model (written by "
                "audience-fit) or a user model; audience/MovieLens-v0 brings its own"
            )
        self.num_envs = whole("num_envs", num_envs, 1)
        self.users = shared_users(users)
        self.slate_size = whole("slate_size", slate_size, 1)
        self.step_limit = whole("step_limit", step_limit, 1)
        self.start = whole("start", start, 1, START_EVENTS)
        whole_session = self.start + self.step_limit
        window = whole_session if history_size is None else history_size
        self.history_size = whole("history_size", window, 1)
        n_items = len(self.users.catalogue)
        if self.slate_size > n_items - self.start:
            raise ValueError(
                f"slate_size must be at most {n_items - self.start} (the {n_items} items of the "
                f"catalogue less start={self.start} consumed ones), got {self.slate_size}"
            )
        if reward is not None and not callable(reward):
            raise TypeError(
                f"reward must be callable with (response, scale), such as FeedbackReward(), "
                f"got {reward!r}"
            )
        self.reward: Reward = FeedbackReward() if reward is None else reward
        self.population = one_of("population", population, POPULATIONS)
        self.render_mode = one_of(
            "render_mode", render_mode, (None, *type(self).metadata["render_modes"])
        )
        mode = autoreset_mode.value if isinstance(autoreset_mode, AutoresetMode) else autoreset_mode
        modes = [known.value for known in AutoresetMode]
        self.autoreset_mode = AutoresetMode(one_of("autoreset_mode", mode, modes))
        self.metadata = {**type(self).metadata, "autoreset_mode": self.autoreset_mode}
        self.assumptions = Assumptions(
            acceptance, popularity_discount, leave_after_choice, leave_after_skip
        )
        self.in_order = in_order
        self._starts = self.users.starts(population).at_least(1).first(self.start)
        if len(self._starts) == 0:
            raise ValueError(
                f"population must have users with events, but the user model has none for "
                f"{population!r}; pick another of {', '.join(POPULATIONS)}"
            )

        self.single_observation_space = observation_space(
            n_items, len(self.users.scale), self.history_size, mask_in_observation
        )
        self.single_action_space: spaces.Space[Any] = (
            spaces.Discrete(n_items)
            if self.slate_size == 1
            else spaces.MultiDiscrete([n_items] * self.slate_size)
        )
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

        self._sessions = self.users.open(self.num_envs, self.slate_size, self.assumptions)
        self._observed = ObservedHistories(
            self.num_envs, n_items, self.history_size, mask_in_observation
        )
        self._streams = Streams(self.num_envs)
        self._finished = np.zeros(self.num_envs, np.bool_)
        self.steps = np.zeros(self.num_envs, np.int64)
        self.user_names = np.zeros(self.num_envs, self._starts.users.dtype)
        self.last_step: Step | None = None

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Observation, Info]:
        """Begin a new session in all environments, or in those of `options["reset_mask"]`.

        Args:
            seed: Environment i is seeded with `seed + i`, or with entry i of a sequence; None
                goes on to the next session of the key.
            options: `reset_mask`, which environments to reset, bool (num_envs,).

        Raises:
            ValueError: Another option, or a mask or sequence of another shape.
        """
        slots = reset_mask(options, self.num_envs)
        if seed is None or isinstance(seed, int):
            super().reset(seed=seed)
        self._streams.seed(seeds_of(seed, self.num_envs), slots, lambda: self.np_random)
        self._begin(slots)
        return self._observed.observe(), self._situation(slots)

    def step(
        self, actions: ArrayLike
    ) -> tuple[Observation, NDArray[Any], NDArray[Any], NDArray[Any], Info]:
        """Show every user a slate.

        Raises:
            ValueError: An action is no whole number, out of range or of the wrong shape.
            ResetNeeded: `reset` has not been called, or not after a session finished.
        """
        slates = self._slates(actions)
        resting = self._resting()
        active = ~resting
        uniforms = self._streams.draw(RESPONSE_COLUMNS, self.steps)
        response = self._sessions.respond(slates, uniforms, active)
        self._observed.append(response)
        self.steps += active
        step = self.last_step = self._judge(slates, response, active)
        self._finished = step.finished
        if self.autoreset_mode is AutoresetMode.SAME_STEP:
            info = step.told(self.users.scale, active & ~step.finished) | self._final(step)
            self._begin(step.finished)
        else:
            info = step.told(self.users.scale, active)
            self._begin(resting)  # none in DISABLED mode
        info |= self._situation(np.ones_like(active))
        return self._observed.observe(), step.reward, step.terminated, step.truncated, info

    def action_masks(self) -> NDArray[np.bool_]:
        """Which actions are open: items not consumed, bool (num_envs, slate_size * items).

        The form that sb3-contrib's MaskablePPO takes, each place of a slate with its own copy.
        """
        return np.tile(~self._observed.consumed, (1, self.slate_size))

    def history(self, slot: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Items and levels of the last events of a slot's user, as far as observed."""
        length = self._observed.lengths[slot]
        return self._observed.items[slot, :length], self._observed.levels[slot, :length]

    def render(self) -> tuple[str, ...] | None:
        """A screen of text for each user, with `render_mode="ansi"`; else None."""
        if self.render_mode is None:
            return None
        return tuple(screen(self, slot) for slot in range(self.num_envs))

    def _begin(self, which: NDArray[np.bool_]) -> None:
        """Begin the next session in these slots."""
        slots = np.flatnonzero(which)
        if len(slots) == 0:
            return
        self._streams.episodes[slots] += 1
        self.steps[slots] = 0
        self._finished[slots] = False
        if self.in_order:
            who = slots % len(self._starts)
        else:
            draw = self._streams.draw(USER_COLUMN, self.steps, slots)[:, 0]
            who = (draw * len(self._starts)).astype(np.int64)
        histories = self._starts.take(who)
        self.user_names[slots] = histories.users
        self._observed.start(slots, histories)
        self._sessions.start(slots, histories)

    def _slates(self, actions: ArrayLike) -> NDArray[np.int64]:
        """The actions as slates, shape (num_envs, slate_size)."""
        shape = (self.num_envs,) if self.slate_size == 1 else (self.num_envs, self.slate_size)
        chosen = catalogue_indices(actions, shape, len(self.users.catalogue))
        return chosen.reshape(self.num_envs, self.slate_size)

    def _resting(self) -> NDArray[np.bool_]:
        """The slots whose session finished at the last step, and begins anew at this one."""
        if not self._streams.keyed.all():
            raise ResetNeeded("step needs a running session: call reset() first")
        if self._finished.any() and self.autoreset_mode is AutoresetMode.DISABLED:
            raise ResetNeeded(
                f"the sessions of environments {np.flatnonzero(self._finished).tolist()} have "
                f"finished: reset them, for a vector by reset(options={{'reset_mask': ...}})"
            )
        return self._finished

    def _judge(
        self, slates: NDArray[np.int64], response: Response, active: NDArray[np.bool_]
    ) -> Step:
        """What the response is worth, and whether the session ends with it."""
        parts = {
            name: np.where(active, part, 0.0)
            for name, part in self.reward(response, self.users.scale).items()
        }
        reward = np.sum([np.zeros(self.num_envs), *parts.values()], axis=0)
        terminated = response.leave & active
        over = (self.steps >= self.step_limit) | (self._observed.remaining < self.slate_size)
        return Step(slates, response, parts, reward, terminated, over & ~terminated & active)

    def _situation(self, present: NDArray[np.bool_]) -> Info:
        """What is known of these slots, at a reset too."""
        mask, user = self._observed.mask(), self.user_names.copy()
        return masked({"action_mask": mask, "user": user}, present)

    def _final(self, step: Step) -> Info:
        """The last observation and info of the sessions that finished, before they make place."""
        finished = step.finished
        slots = np.flatnonzero(finished)
        if len(slots) == 0:
            return {}
        batch = self._observed.observe(slots)
        observations = np.full(self.num_envs, None, np.object_)
        for row, slot in enumerate(slots):  # Gymnasium's form: an object a finished slot
            observations[slot] = {key: value[row].copy() for key, value in batch.items()}
        told = step.told(self.users.scale, finished) | self._situation(finished)
        return {
            "final_obs": observations,
            "_final_obs": finished.copy(),
            "final_info": told,
            "_final_info": finished.copy(),
        }
