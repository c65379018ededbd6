"""A start from imitation: of the choices in the log, or of greedy on the user model."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm

from audience.agents.base import Agent
from audience.agents.distribution import MASKED
from audience.agents.vec_env import SB3VecEnv
from audience.reward_models.histories import Histories
from audience.reward_models.users import UserModel

BATCH = 1024
"""Events of a gradient step."""

RATE = 1e-3
"""Of Adam."""

LEARNER_SHARE = 0.5
"""Share of the users to whom the learner recommends while it imitates greedy: it must learn what
to do where it comes by itself, not only where greedy would be (Ross et al., "A reduction of
imitation learning and structured prediction to no-regret online learning", 2011)."""

STEPS_A_STATE = 4
"""Gradient steps after each step of all users: asking the teacher costs several times as much as
a gradient step, and the last states are kept."""


def clone_choices(
    model: BaseAlgorithm,
    users: UserModel,
    histories: Histories,
    steps: int,
    generator: np.random.Generator,
) -> list[float]:
    """Behaviour cloning: raise the probability of what real users took next and liked.

    An event counts as much as its feedback, scaled to 0…1; where all feedback is the lowest, as
    much as any other.

    Args:
        model: An algorithm with an `ItemScoringPolicy`.
        users: Their catalogue and scale.
        histories: Real events.
        steps: Gradient steps.
        generator: Of the batches.

    Returns:
        The loss of each step: minus the mean log-probability.

    Raises:
        ValueError: No user has two events.
    """
    policy: Any = model.policy
    shapes = policy.shapes
    first = np.repeat(histories.offsets[:-1], histories.lengths)
    place = np.arange(len(histories.items)) - first
    weight = users.scale.scaled[histories.levels]
    weight = np.where(place > 0, weight if weight[place > 0].any() else 1.0, 0.0)
    if not weight.any():
        raise ValueError(
            f"warm_start='log' needs users with at least two events, got {len(histories)} users "
            f"with fewer; use another warm_start"
        )
    losses, learn = [], _Steps(policy, steps)
    for _ in range(steps):
        event = generator.choice(len(weight), BATCH, p=weight / weight.sum())
        lengths = np.minimum(place[event], shapes.history)
        source = (event - lengths)[:, None] + np.arange(shapes.history)
        used = np.arange(shapes.history) < lengths[:, None]
        source = np.where(used, source, 0)
        target = histories.items[event]
        obs = {
            "item": np.where(used, histories.items[source], 0),
            "feedback": np.where(used, histories.levels[source], 0),
            "length": lengths[:, None],
        }
        if shapes.candidates:
            among, target = _candidates(target, shapes.candidates, users, generator)
            obs["candidates"] = among
        tensors = {key: torch.as_tensor(value, device=model.device) for key, value in obs.items()}
        logits = policy.get_distribution(tensors).logits
        wanted = logits.gather(1, torch.as_tensor(target, device=model.device)[:, None])[:, 0]
        # What a user took again is closed to the policy: nothing is to be learned from it.
        open_ = wanted > MASKED / 2
        losses.append(learn(-(wanted * open_).sum() / open_.sum().clamp_min(1)))
    return losses


def imitate(
    model: BaseAlgorithm, teacher: Agent, steps: int, generator: np.random.Generator
) -> list[float]:
    """Distil an agent: raise the probability of its slates in states that both of them reach.

    Args:
        model: An algorithm with an `ItemScoringPolicy`, in an `SB3VecEnv`.
        teacher: Whom to imitate, in the same environment.
        steps: Gradient steps; before every STEPS_A_STATE of them all users take a step.
        generator: Says who follows the learner's own recommendations.

    Returns:
        The loss of each step: minus the mean log-probability of the teacher's slate.
    """
    env, policy = model.get_env(), model.policy
    assert isinstance(env, SB3VecEnv)
    seen: Any = env.reset()
    losses, learn = [], _Steps(policy, steps)
    kept: list[tuple[dict[str, NDArray[Any]], NDArray[Any]]] = []
    for step in range(steps):
        if step % STEPS_A_STATE == 0:
            wanted, _ = teacher.predict(seen, deterministic=True)
            own, _ = policy.predict(seen)
            kept.append((seen, wanted))
            kept = kept[-max(1, BATCH * 8 // env.num_envs) :]
            follows = generator.random(env.num_envs) < LEARNER_SHARE
            wide = follows.reshape(-1, *[1] * (np.ndim(wanted) - 1))
            seen, _, _, _ = env.step(np.where(wide, own, wanted))
        batch, actions = _drawn(kept, generator)
        tensors = {key: torch.as_tensor(value, device=model.device) for key, value in batch.items()}
        distribution: Any = policy.get_distribution(tensors)  # type: ignore[operator]
        log_prob = distribution.log_prob(torch.as_tensor(actions, device=model.device))
        losses.append(learn(-log_prob.clamp_min(MASKED / 2).mean()))
    return losses


class _Steps:
    """Gradient steps of a policy, whose own optimiser stays as it is.

    Adam remembers the size of gradients for a thousand steps: those of imitation, which are
    larger, would hold up what comes after it.

    Args:
        policy: What learns.
        steps: How many there will be: in the second half the rate falls to 0.
    """

    def __init__(self, policy: Any, steps: int) -> None:
        self.policy = policy
        self.optimizer = torch.optim.Adam(policy.parameters(), lr=RATE)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: min(1.0, 2 * (1 - step / max(steps, 1)))
        )

    def __call__(self, loss: torch.Tensor) -> float:
        """Take one; the loss as a number."""
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        return float(loss.detach())


def _drawn(
    kept: list[tuple[dict[str, NDArray[Any]], NDArray[Any]]], generator: np.random.Generator
) -> tuple[dict[str, NDArray[Any]], NDArray[Any]]:
    """A batch of what was met in the last steps."""
    rows = len(kept[0][1])
    which, row = generator.integers(len(kept), size=BATCH), generator.integers(rows, size=BATCH)
    keys = kept[0][0]
    stacked = {key: np.stack([seen[key] for seen, _ in kept])[which, row] for key in keys}
    return stacked, np.stack([wanted for _, wanted in kept])[which, row]


def _candidates(
    target: NDArray[np.int64], count: int, users: UserModel, generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Candidates by popularity with the target among them, and its place."""
    below = users.catalogue.popularity.cumsum()
    drawn = np.searchsorted(below, generator.random((len(target), count)) * below[-1])
    place = generator.integers(count, size=len(target))
    drawn = np.minimum(drawn, len(below) - 1)
    # A second copy of the target would take part of its probability.
    drawn = np.where(drawn == target[:, None], (drawn + 1) % len(below), drawn)
    drawn[np.arange(len(target)), place] = target
    return drawn, place
