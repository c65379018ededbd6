"""The core of every environment here: many simulated users who respond together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from audience.envs.actions import EMBEDDING_DIM, ActionKind
from audience.envs.candidates import Generator
from audience.envs.checks import amount, one_of, population_of, reset_mask, seeds_of, whole
from audience.envs.default_users import shared_users
from audience.envs.infos import Info, masked
from audience.envs.observations import (
    ALL,
    Observation,
    ObservedHistories,
    Rows,
    observation_space,
)
from audience.envs.parts import checked_repeats, checked_reward, new_actions, new_candidates
from audience.envs.picture import picture
from audience.envs.screen import screen
from audience.envs.starts import Starts, Wishes
from audience.envs.states import Saved
from audience.envs.steps import Step
from audience.envs.uniforms import Streams
from audience.reward_models.rewards import Parts, RewardFunction
from audience.reward_models.users import (
    DRAWS,
    START_EVENTS,
    Assumptions,
    Population,
    UserModel,
)

RESPONSE_COLUMNS = np.arange(DRAWS)


class RecommendVectorEnv(Saved):
    """Recommend items to `num_envs` simulated users, who all respond in one call a step.

    Observation, of each user (a `Dict`; H is `history_size`, batched along a first axis):
        `item`: int64 (H,), catalogue indices of the user's last H events, the start history and
            then what was chosen in the episode, oldest first, left-aligned, 0 from `length` on.
        `feedback`: int64 (H,), the level of the feedback on each: an index into the user
            model's `scale.values`.
        `length`: int64 (1,), how many of the H places are used.
        `candidates`: int64 (C,), only with candidates: the catalogue indices that actions
            index, drawn anew for each step among the items that are open.
        `mask`: int8 (items,), or (C,) with candidates, only with `mask_in_observation`: 1 where
            an item may be recommended, 0 where the user consumed it (or the users say no).
    Action, of each user: with `actions="index"` a catalogue index, `Discrete(items)`, for slates
        `MultiDiscrete([items] * slate_size)`; with candidates, places among them in their stead.
        An item that is not open (the user consumed it in the start history or in the episode),
        and the second copy of an item in a slate, are shown but never chosen. With
        `actions="embedding"` a point, `Box(-1, 1, (dim,))`, for slates `(slate_size, dim)`: each
        place shows the open item of the largest inner product that no earlier place shows.
    Reward: float64, the sum of the parts that `reward` computes from the response; by default
        the feedback on the chosen item scaled to 0…1, and 0 if none is chosen.
    Start: a user drawn evenly from `population` (with `in_order`, the slot's own), with the
        first `start` of that user's real events (all of them where there are fewer); or as
        `reset(options=...)` says.
    Termination: the user leaves, for the `sessions_per_episode`-th time.
    Truncation: after `step_limit` steps, or when fewer open items remain than a slate holds;
        only where the episode was not terminated.
    Time: each step takes `seconds_per_step`, and what the user dwelt on the chosen item, where
        the users know; between two sessions of an episode lie `return_days`.
    Info: arrays with masks `_key`, as Gymnasium's vector environments have them.
        `action_mask`: int8 (items,), or (C,), as `mask` above.
        `candidates`: as above, only with candidates.
        `user`: pseudonym of the user; "given" for a hand-written history.
        `session`: which session of the episode runs, from 0.
        `clock_seconds`: simulated time since the episode began.
        After a step also `choice` (position in the slate) and `item` and `level` of what was
        chosen, each -1 where nothing was; `feedback`, the value of the level in the log's unit,
        and `dwell_seconds` (each nan, and masked out, where nothing was chosen; the latter too
        where the users know no dwell times); `accept_probability`, the probability with which
        something of the slate was chosen; `disagreement`, see `Response`; `leave`, whether the
        user leaves, be it to return; and `reward_parts`, a dict. At the end of an episode also
        `episode_parts`, the sums of these over it.
    Randomness: all draws are looked up by (key, episode, step), and environment i of a vector
        seeded s has the key of a single environment seeded s + i, so it lives the same
        episodes (but for `in_order`, where the slot decides who comes). `reset()` without a
        seed goes on to the next episode of the same key; the first key, without a seed, comes
        from `np_random`.
    State: `get_state` and `set_state` go back to an earlier moment; environments can be pickled
        and deep-copied, whereby users given as a directory are loaded again, not copied.

    Args:
        num_envs: Number of users at a time, at least 1.
        users: A user model, or the directory of a fitted one.
        slate_size: Items shown at each step, at least 1.
        reward: What a response is worth, a sum of `audience.reward_models.rewards` or a function
            of (response, context); `FeedbackReward()` by default.
        pessimism: How often the disagreement of an ensemble of users about the reward is
            subtracted from it, at least 0; see `UncertaintyPenalty`.
        step_limit: Steps after which an episode is cut off, at least 1.
        start: Real events at the start of an episode, 1 to START_EVENTS.
        history_size: Events in the observation (H), at least 1; by default `start +
            step_limit`, which holds the whole episode.
        acceptance: See `Assumptions`, as for the next three.
        popularity_discount: See `Assumptions`.
        leave_after_choice: See `Assumptions`.
        leave_after_skip: See `Assumptions`.
        sessions_per_episode: Sessions that a user lives in one episode, at least 1; what
            happened in one is history for the next.
        return_days: Days from a leave to the user's return, at least 0; an assumption.
        seconds_per_step: Seconds that a step takes beside the dwell time, at least 0; an
            assumption.
        repeats: Whether consumed items may be chosen again: "never", or "allowed", which needs
            users that say so by an attribute `allows_repeats`.
        population: Whose start histories: "fitting", "validation" or "test" users, or a list of
            pseudonyms of users.
        in_order: Slot i starts each episode with user i of the population (modulo its size)
            instead of a drawn one: how an evaluation meets every user once.
        actions: "index" or "embedding".
        item_vectors: Vectors of the catalogue's items, (items, any width), for embeddings and
            rewards; by default the users' `text_vectors`, where they have them.
        embedding_dim: Width of an embedding, at least 1: item vectors that are wider are reduced
            to their principal components; all are scaled to norm 1.
        candidates: How many candidates actions index, from `slate_size` to the number of items;
            by default CANDIDATES above LARGE items, else no candidates but all items.
        candidate_generator: Proposes them; by default they are drawn by popularity, without
            replacement. See `audience.envs.candidates.Generator`.
        mask_in_observation: Whether `mask` stands in the observation, for algorithms that
            take no masks.
        autoreset_mode: When a finished episode makes place for the next, as in Gymnasium's
            own vector environments: at the next step, whose action is then ignored
            (`NEXT_STEP`); at once, with `final_obs` and `final_info` in the info
            (`SAME_STEP`); or by `reset(options={"reset_mask": ...})` (`DISABLED`).
        render_mode: None; "ansi", where `render()` returns a screen of text for each user; or
            "rgb_array", a picture, uint8 (height, width, 3), for each.

    Raises:
        ValueError: A setting breaks its rule, or the population has no users.
        UserModelError: `users` is a directory that holds no sound user model.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 1}

    def __init__(
        self,
        num_envs: int = 1,
        *,
        users: str | Path | UserModel | None = None,
        slate_size: int = 1,
        reward: RewardFunction | None = None,
        pessimism: float = 0.0,
        step_limit: int = 30,
        start: int = START_EVENTS,
        history_size: int | None = None,
        acceptance: float | None = Assumptions.acceptance,
        popularity_discount: float = Assumptions.popularity_discount,
        leave_after_choice: float | None = Assumptions.leave_after_choice,
        leave_after_skip: float | None = Assumptions.leave_after_skip,
        sessions_per_episode: int = 1,
        return_days: float = 1.0,
        seconds_per_step: float = 10.0,
        repeats: Literal["never", "allowed"] = "never",
        population: Population | Sequence[str] = "fitting",
        in_order: bool = False,
        actions: ActionKind = "index",
        item_vectors: NDArray[np.floating] | None = None,
        embedding_dim: int = EMBEDDING_DIM,
        candidates: int | None = None,
        candidate_generator: Generator | None = None,
        mask_in_observation: bool = False,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
    ) -> None:
        self._settings = {
            name: value for name, value in locals().items() if name not in ("self", "__class__")
        }
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
        whole_episode = self.start + self.step_limit
        window = whole_episode if history_size is None else history_size
        self.history_size = whole("history_size", window, 1)
        n_items = len(self.users.catalogue)
        if self.slate_size > n_items - self.start:
            raise ValueError(
                f"slate_size must be at most {n_items - self.start} (the {n_items} items of the "
                f"catalogue less start={self.start} consumed ones), got {self.slate_size}"
            )
        self.sessions_per_episode = whole("sessions_per_episode", sessions_per_episode, 1)
        self.return_days = amount("return_days", return_days)
        self.seconds_per_step = amount("seconds_per_step", seconds_per_step)
        self.pessimism = amount("pessimism", pessimism)
        self.repeats = checked_repeats(repeats, self.users)
        self.population = population_of(population)
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
        self.mask_in_observation = mask_in_observation
        self._given_vectors = item_vectors
        self._starts = Starts(self.users, self.population, self.start)
        self.candidates = new_candidates(
            candidates, candidate_generator, self.users, self.num_envs, self.slate_size
        )
        self.actions = new_actions(
            actions,
            self.slate_size,
            n_items if self.candidates is None else self.candidates.items.shape[1],
            self.candidates is not None,
            whole("embedding_dim", embedding_dim, 1),
            lambda: self.item_vectors,
        )

        self.single_observation_space = observation_space(
            n_items,
            len(self.users.scale),
            self.history_size,
            mask_in_observation,
            None if self.candidates is None else self.candidates.items.shape[1],
        )
        self.single_action_space: spaces.Space[Any] = self.actions.space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

        self._sessions = self.users.open(self.num_envs, self.slate_size, self.assumptions)
        self._observed = ObservedHistories(
            self.num_envs,
            n_items,
            self.history_size,
            self.repeats == "allowed",
            whole=self.candidates is None or hasattr(self._sessions, "open_items"),
        )
        self._streams = Streams(self.num_envs)
        self._finished = np.zeros(self.num_envs, np.bool_)
        self.steps = np.zeros(self.num_envs, np.int64)
        self.session = np.zeros(self.num_envs, np.int64)
        self.clock = np.zeros(self.num_envs)
        self.user_names = np.full(self.num_envs, "", self._starts.name_type)
        self.last_step: Step | None = None
        # The last item: vectors of too few rows fail now, not somewhere in a training.
        context = self._context(np.full((self.num_envs, self.slate_size), n_items - 1))
        self.reward: RewardFunction = checked_reward(reward, self.pessimism, context)
        self._episode_parts: Parts = {}

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Observation, Info]:
        """Begin a new episode in all environments, or in those of `options["reset_mask"]`.

        Args:
            seed: Environment i is seeded with `seed + i`, or with entry i of a sequence; None
                goes on to the next episode of the key.
            options: `reset_mask`, which environments to reset, bool (num_envs,); `user`, the
                pseudonym of the user to begin with, of any population; `history`, a hand-written
                start in a user's stead, [(item id, feedback), ...]. The latter two for all
                environments, or as a list of one (or None) for each.

        Raises:
            ValueError: An option is unknown or breaks its rule.
        """
        slots = reset_mask(options, self.num_envs)
        wishes = Wishes.of(
            options or {},
            self.num_envs,
            self._starts,
            self.users.catalogue,
            self.users.scale,
            len(self.users.catalogue) - self.slate_size,
            self.repeats == "allowed",
        )
        seeds = seeds_of(seed, self.num_envs)
        if seed is None or isinstance(seed, int):
            super().reset(seed=seed)
        self._streams.seed(seeds, slots, lambda: self.np_random)
        self._begin(slots, wishes)
        self._renew_candidates()
        return self._observe(), self._situation(slots)

    def step(
        self, actions: ArrayLike
    ) -> tuple[Observation, NDArray[Any], NDArray[Any], NDArray[Any], Info]:
        """Show every user a slate.

        Raises:
            ValueError: An action is of the wrong kind or shape, or out of range.
            ResetNeeded: `reset` has not been called, or not after an episode finished.
        """
        return self.taken(self.actions.checked(actions, (self.num_envs,)))

    def taken(
        self, checked: NDArray[Any]
    ) -> tuple[Observation, NDArray[Any], NDArray[Any], NDArray[Any], Info]:
        """`step` with actions that were found to be valid, of a shape (num_envs, ...)."""
        resting = self._resting()
        active = ~resting
        slates = self.actions.slates(checked, self._open, self._named())
        uniforms = self._streams.draw(RESPONSE_COLUMNS, self.steps)
        response = self._sessions.respond(slates, uniforms, active)
        parts = self._paid(slates, response, active)
        self._observed.append(response)
        self.steps += active
        step = self.last_step = self._judge(slates, response, parts, active)
        self._finished = step.finished
        if self.autoreset_mode is AutoresetMode.SAME_STEP:
            info = step.told(self.users.scale, active & ~step.finished) | self._final(step)
            self._begin(step.finished)
        else:
            info = step.told(self.users.scale, active)
            self._begin(resting)  # none in DISABLED mode
        self._renew_candidates()
        info |= self._situation(np.ones_like(active))
        return self._observe(), step.reward, step.terminated, step.truncated, info

    def action_masks(self) -> NDArray[np.bool_]:
        """Which items (or candidates) are open, bool (num_envs, slate_size * items).

        The form that sb3-contrib's MaskablePPO takes, each place of a slate with its own copy.
        """
        return np.tile(self._open(), (1, self.slate_size))

    def history(self, slot: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Items and levels of the last events of a slot's user, as far as observed."""
        length = self._observed.lengths[slot]
        return self._observed.items[slot, :length], self._observed.levels[slot, :length]

    def render(self) -> tuple[Any, ...] | None:
        """A screen of text or a picture for each user, as `render_mode` says; None without."""
        if self.render_mode is None:
            return None
        draw = picture if self.render_mode == "rgb_array" else screen
        return tuple(draw(self, slot) for slot in range(self.num_envs))

    def _make(self, settings: dict[str, Any]) -> None:
        RecommendVectorEnv.__init__(self, **settings)

    def _named(self) -> NDArray[np.int64] | None:
        """Catalogue indices of the candidates, shape (num_envs, C); None where there are none."""
        return None if self.candidates is None else self.candidates.items

    def _open(self) -> NDArray[np.bool_]:
        """Which items, or candidates, may be recommended, shape (num_envs, items or C)."""
        if self.candidates is None:
            return self._observed.open.masks()
        return self.candidates.mask(self._observed)

    def _renew_candidates(self) -> None:
        if self.candidates is not None:
            self.candidates.renew(
                self._observed, lambda columns: self._streams.draw(columns, self.steps)
            )

    def _observe(self, rows: Rows = ALL) -> Observation:
        """The observation of these slots; new arrays, which later steps leave alone."""
        observation = self._observed.observe(rows)
        if self.candidates is not None:
            observation["candidates"] = np.array(self.candidates.items[rows])
        if self.mask_in_observation:
            observation["mask"] = np.array(self._open()[rows]).view(np.int8)
        return observation

    def _situation(self, present: NDArray[np.bool_]) -> Info:
        """What is known of these slots, at a reset too."""
        info = {
            "action_mask": self._open().view(np.int8).copy(),
            "user": self.user_names.copy(),
            "session": self.session.copy(),
            "clock_seconds": self.clock.copy(),
        }
        if self.candidates is not None:
            info["candidates"] = self.candidates.items.copy()
        return masked(info, present)
