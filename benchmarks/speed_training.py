"""Rows of speed.json about agents: what training and recommending cost by the catalogue."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from audience.agents.algorithms import make_algorithm
from audience.agents.latency import latency
from audience.agents.recommender import Recommender
from audience.agents.trained import TrainedScorer
from audience.agents.training import policy_arguments, training_env
from audience.agents.training_settings import TrainSettings
from audience.benchmarks.speed_rows import too_large
from audience.benchmarks.speed_settings import CANDIDATES, SpeedSettings
from audience.benchmarks.speed_users import MODEL_BYTES, synthetic_users
from audience.reward_models.users import START_EVENTS

RECOMMENDED = 10
"""Items of a recommendation that is timed."""


def training_row(settings: SpeedSettings, items: int) -> dict[str, Any]:
    """PPO in synthetic users with a catalogue of this size: rollouts, updates, recommendations.

    At every size each step offers as many candidates, so that only the catalogue grows.

    Returns:
        `items`, `candidates`, `users`; `step_ms`, the median time over rollouts of a step of all
        users together with its share of the updates; `user_steps_per_second`; `p50_ms` and
        `p99_ms` of one `Recommender.recommend` by the trained policy from the whole catalogue.
        Where memory does not do, these are None and `note` says why.
    """
    budget, candidates = settings.budget, min(CANDIDATES, items)
    found: dict[str, Any] = {"items": items, "candidates": candidates, "users": budget.learners}
    figures = ("step_ms", "user_steps_per_second", "p50_ms", "p99_ms")
    found |= dict.fromkeys(figures)
    if note := too_large(MODEL_BYTES * items):
        return found | {"note": note}
    users = synthetic_users(items, settings.tower, device=settings.device, seed=settings.seed)
    training = TrainSettings(
        users="synthetic",
        num_envs=budget.learners,
        candidates=candidates,
        evaluations=0,
        seed=settings.seed,
    )
    env = training_env(users, training)
    model: Any = make_algorithm(
        training.algo,
        env,
        seed=settings.seed,
        device=settings.device,
        steps=budget.learned,
        **policy_arguments(users, training),
    )
    seconds = []
    for _ in range(1 + budget.rounds):  # the first warms up
        before = model.num_timesteps
        began = time.perf_counter()
        model.learn(budget.learned, reset_num_timesteps=False)
        seconds.append((time.perf_counter() - began) / (model.num_timesteps - before))
    env.close()
    each = float(np.median(seconds[1:]))
    scorer = TrainedScorer(model)
    recommender = Recommender(scorer, users.catalogue.item_ids, users.scale, scorer.window)
    rng = np.random.default_rng(settings.seed)
    met = users.catalogue.item_ids[rng.integers(items, size=(budget.predictions, START_EVENTS))]
    histories = met.tolist()
    told = latency(
        lambda call: recommender.recommend(histories[call % len(histories)], RECOMMENDED),
        budget.predictions,
    )
    return found | {
        "step_ms": 1000 * each * budget.learners,
        "user_steps_per_second": 1 / each,
        "p50_ms": told.p50,
        "p99_ms": told.p99,
    }
