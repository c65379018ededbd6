"""Timing of an environment and of the bare forward pass of the network behind it, in turns."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audience.agents.base import Agent
from audience.benchmarks.speed_settings import SpeedPreset
from audience.benchmarks.speed_views import Taken, View, valid_actions
from audience.envs import RecommendEnv
from audience.reward_models.bert_users import BertUserModel
from audience.reward_models.incremental import Part, pass_one, shares
from audience.reward_models.parts import one_thread, side_by_side
from audience.reward_models.users import UserModel

WARM_STEPS = 24
"""Steps before the measurement, at most: sessions begin together, and end at random places."""

WARM_SHARE = 0.5
"""Of the measured time: what these steps may take, but for the first two."""

PASSES = {
    "": (False, False),
    "_choosers": (True, False),
    "_heads": (False, True),
    "_heads_choosers": (True, True),
}
"""Forward passes by the ends of their keys: whether of as many rows as choose something, who alone
need one, instead of all; and whether with the heads."""


class BareForward:
    """The network alone, on the rows of an environment: one query and one event a user.

    The tower alone: both pass the cached layers (`incremental.pass_one`). With its heads, also the
    feedback of all members to the query, and from the event's state the utilities of all items, as
    far as an answer needs them: what they sum to. Tokens, features and what was cached are random
    numbers. Left out are the look-ups, sums and collaborative scores behind features and tokens,
    draws, and all that an environment is. It computes in parts as the users do.

    Args:
        users: The user model.
        count: Rows of the cache.
    """

    def __init__(self, users: BertUserModel, count: int) -> None:
        model, self._engine = users.model, users.engine()
        self._window, self._device = model.config.window, model.device
        generator = torch.Generator().manual_seed(0)

        def draw(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator).to(model.device, model.dtype)

        self._states = self._engine.new_states(count)
        cache = self._states.cache
        for kept in (*cache.keys, *cache.values):
            kept.copy_(draw(*kept.shape[1:]))
        self._tokens = draw(count, model.config.hidden_size)
        self._features = draw(count, len(model.feature_mean))
        self._rows = torch.arange(count, device=model.device)

    def hold(self, events: NDArray[np.int64]) -> None:
        """Set how many events each user has, shape (users,).

        What overflows the window leaves half of it, as at the start of a session. They stand by
        rising length, as those do who are asked in an environment.
        """
        kept = np.where(events < self._window, events, self._window // 2)
        self._length = torch.from_numpy(1 + np.sort(kept)).to(self._device)

    @torch.inference_mode()
    def seconds(self, rows: int, heads: bool = False) -> float:
        """Time of a pass of the first rows, of the tower alone or with its heads."""
        self._states.cache.length.copy_(self._length)
        self._wait()
        began = time.perf_counter()
        with one_thread(self._device):
            self._pass(self._rows[:rows], heads)
        self._wait()
        return time.perf_counter() - began

    def _pass(self, rows: Tensor, heads: bool) -> None:
        states, blocks = self._states, self._engine.blocks
        tokens, features = self._tokens[: len(rows)], self._features[: len(rows)]

        def passed(own: slice) -> None:
            part = Part.of(states.cache, rows, own)
            asked = pass_one(blocks, part, tokens[own])
            if heads:
                self._engine.feedback_heads.logits(asked, features[own]).softmax(-1)
            hidden = pass_one(blocks, part, tokens[own], states.cache)
            if heads:
                states.hidden.index_copy_(0, part.rows, hidden)
                states.stale.index_fill_(0, part.rows, True)
                self._engine.choosing.refresh(states, part.rows)

        side_by_side(passed, shares(rows))

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def measure(
    view: View, users: UserModel, budget: SpeedPreset, seed: int, events: int | None = None
) -> dict[str, Any]:
    """Rates of a view that was reset, and of the bare forward pass of its users.

    Args:
        view: The environment.
        users: Its users.
        budget: How long, and in how many turns.
        seed: Of the actions.
        events: Events of each user where the observation does not tell, being shorter.

    Returns:
        The figures of a row of `speed.json`.
    """
    rng, core = np.random.default_rng(seed), view.core
    popularity = users.catalogue.popularity
    weights = popularity if core.candidates is None else np.ones(core.candidates.items.shape[1])

    def steps(seconds: float, most: int | None = None, least: int = 1) -> Taken:
        taken, count = Taken(), 0
        while count < least or (taken.seconds < seconds and (most is None or count < most)):
            taken += view.step(valid_actions(view.mask, core.slate_size, weights, rng))
            count += 1
        return taken

    bare = BareForward(users, core.num_envs) if isinstance(users, BertUserModel) else None
    warm = steps(WARM_SHARE * budget.seconds, WARM_STEPS, least=2)
    choosing = warm.chosen / max(warm.steps, 1)
    turn = budget.seconds / budget.rounds / (1 + len(PASSES))
    whole, rates = Taken(), []
    forward: dict[str, list[float]] = {name: [] for name in PASSES}
    for _ in range(budget.rounds):
        taken = steps(turn)
        whole += taken
        rates.append(taken.steps / taken.seconds)
        if bare is None:
            continue
        bare.hold(view.lengths if events is None else np.full(core.num_envs, events))
        choosers = max(1, round(choosing * core.num_envs))
        for name, (some, heads) in PASSES.items():
            seconds = _mean_seconds(bare, choosers if some else core.num_envs, heads, turn)
            forward[name].append(core.num_envs / seconds)
    rate = float(np.median(rates))
    found: dict[str, Any] = {"user_steps_per_second": rate}
    for name, rates in forward.items():
        per_second = float(np.median(rates)) if rates else None
        found[f"forward_only{name}_per_second"] = per_second
        found[f"efficiency{name}"] = None if per_second is None else rate / per_second
    return found | {
        "choosing": whole.chosen / max(whole.steps, 1),
        "resets": whole.ended / max(whole.steps, 1),
        "measured_steps": whole.steps,
    }


def latency(agent: Agent, users: UserModel, predictions: int, seed: int) -> dict[str, float]:
    """Time of `predict` for one user, in milliseconds: median and 99th percentile.

    Args:
        agent: Who recommends.
        users: Whose histories are recommended to.
        predictions: How many, of sessions in which the recommendations are followed.
        seed: Of the sessions.
    """
    env = RecommendEnv(users=users)
    observation, info = env.reset(seed=seed)
    seconds = np.zeros(predictions)
    for count in range(-2, predictions):  # two to warm up
        began = time.perf_counter()
        action, _ = agent.predict(observation, deterministic=True, action_masks=info["action_mask"])
        seconds[max(count, 0)] = time.perf_counter() - began
        observation, _, terminated, truncated, info = env.step(action)
        if terminated or truncated:
            observation, info = env.reset()
    middle, high = 1000 * np.percentile(seconds, [50, 99])
    return {"p50_ms": float(middle), "p99_ms": float(high), "predictions": predictions}


def _mean_seconds(bare: BareForward, rows: int, heads: bool, least: float) -> float:
    total, count = 0.0, 0
    while not count or total < least:
        total += bare.seconds(rows, heads)
        count += 1
    return total / count
