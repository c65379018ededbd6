"""Timing of an environment and of the bare forward pass of the network behind it, in turns."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from audience.agents.base import Agent
from audience.benchmarks.speed_settings import SpeedPreset
from audience.benchmarks.speed_views import Taken, View, valid_actions
from audience.envs import RecommendEnv
from audience.reward_models.behaviour import BehaviourModel
from audience.reward_models.bert_users import BertUserModel
from audience.reward_models.frozen import frozen
from audience.reward_models.incremental import append, ask, new_cache
from audience.reward_models.users import UserModel

WARM_STEPS = 24
"""Steps before the measurement, at most: sessions begin together, and end at random places."""

WARM_SHARE = 0.5
"""Of the measured time: what these steps may take, but for the first two."""


class BareForward:
    """The behaviour tower alone, on the rows of an environment: one query and one event a user.

    Both pass the cached layers (`incremental.ask` and `append`); tokens and what was cached are
    random numbers, features, heads, choice and bookkeeping are left out.

    Args:
        model: The behaviour model.
        users: Rows of the cache.
    """

    def __init__(self, model: BehaviourModel, users: int) -> None:
        self.model, self._blocks = model, frozen(model)
        generator = torch.Generator().manual_seed(0)
        self._cache = new_cache(model, users)
        for kept in (*self._cache.keys, *self._cache.values):
            kept.copy_(torch.randn(kept.shape[1:], generator=generator).to(kept))
        tokens = torch.randn(users, 1, model.config.hidden_size, generator=generator)
        self._tokens = tokens.to(model.device, model.dtype)
        self._rows = torch.arange(users, device=model.device)

    def hold(self, events: NDArray[np.int64]) -> None:
        """Set how many events each user has, shape (users,).

        What overflows the window leaves half of it, as at the start of a session.
        """
        window = self.model.config.window
        kept = np.where(events < window, events, window // 2)
        self._length = torch.from_numpy(1 + kept).to(self._cache.length)

    @torch.inference_mode()
    def seconds(self, rows: int) -> float:
        """Time of a pass of the first rows."""
        own, tokens = self._rows[:rows], self._tokens[:rows]
        self._cache.length.copy_(self._length)
        self._wait()
        began = time.perf_counter()
        _, past = ask(self._blocks, self._cache, own, tokens)
        append(self._blocks, self._cache, own, tokens, past)
        self._wait()
        return time.perf_counter() - began

    def _wait(self) -> None:
        if self.model.device.type == "cuda":
            torch.cuda.synchronize(self.model.device)


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

    bare = BareForward(users.model, core.num_envs) if isinstance(users, BertUserModel) else None
    warm = steps(WARM_SHARE * budget.seconds, WARM_STEPS, least=2)
    choosing = warm.chosen / max(warm.steps, 1)
    turn = budget.seconds / budget.rounds / 3
    whole, rates = Taken(), []
    forward: dict[str, list[float]] = {"all": [], "choosers": []}
    for _ in range(budget.rounds):
        taken = steps(turn)
        whole += taken
        rates.append(taken.steps / taken.seconds)
        if bare is None:
            continue
        bare.hold(view.lengths if events is None else np.full(core.num_envs, events))
        choosers = max(1, round(choosing * core.num_envs))
        for name, rows in (("all", core.num_envs), ("choosers", choosers)):
            forward[name].append(core.num_envs / _mean_seconds(bare, rows, turn))
    rate = float(np.median(rates))
    found: dict[str, Any] = {"user_steps_per_second": rate}
    for name, key in (("all", ""), ("choosers", "_choosers")):
        per_second = float(np.median(forward[name])) if forward[name] else None
        found[f"forward_only{key}_per_second"] = per_second
        found[f"efficiency{key}"] = None if per_second is None else rate / per_second
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


def _mean_seconds(bare: BareForward, rows: int, least: float) -> float:
    total, count = 0.0, 0
    while not count or total < least:
        total += bare.seconds(rows)
        count += 1
    return total / count
