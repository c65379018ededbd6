"""A critic's first lessons, after its policy has imitated."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import obs_as_tensor
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from audience.agents.vec_env import SB3VecEnv

STEPS = 64
"""Steps of all users that are learned from: two sessions of each or more."""

ROUNDS, PASSES = 5, 6
"""Returns are computed ROUNDS times, as what is not over counts what the critic expects of it; in
each, the critic passes PASSES times over all steps."""

BATCH, RATE = 1024, 1e-3
"""Of the gradient steps."""


def fit_critic(model: OnPolicyAlgorithm, generator: np.random.Generator) -> list[float]:
    """Teach the critic what the policy, as it stands, returns; the policy stays as it is.

    Args:
        model: With an `ItemScoringPolicy` or its sister, in an `SB3VecEnv`.
        generator: Of the order of the batches.

    Returns:
        Mean squared error of the values before each round, and after the last.
    """
    net: Any = model.policy.value_net
    encodings, rewards, going, ends = _played(model)
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE)
    inputs = encodings[:-1].flatten(0, 1)
    errors = []
    for _ in range(ROUNDS):
        with torch.no_grad():
            value, after = net(encodings)[..., 0], net(ends)[..., 0]
        following, returns = value[-1], torch.zeros_like(rewards)
        for step in reversed(range(len(rewards))):
            # What follows a step: the session goes on, was cut off, or is over.
            cut = (ends[step] != 0).any(1)
            following = torch.where(going[step] > 0, going[step] * following, 0.0)
            following = rewards[step] + model.gamma * (following + torch.where(cut, after[step], 0))
            returns[step] = following
        targets = returns.flatten()
        errors.append(float(F.mse_loss(value[:-1].flatten(), targets)))
        for _ in range(PASSES):
            order = generator.permutation(len(targets))
            for at in np.array_split(order, -(-len(order) // BATCH)):
                loss = F.mse_loss(net(inputs[at])[:, 0], targets[at])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    with torch.no_grad():
        errors.append(float(F.mse_loss(net(inputs)[:, 0], targets)))
    return errors


def _played(model: OnPolicyAlgorithm) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """STEPS steps of all users under the policy.

    Returns:
        Encodings of what was seen, (steps + 1, users, width); rewards, and how far the session
        went on, from 0 to 1, (steps, users); encodings of what was last seen of sessions that were
        cut off, 0 elsewhere, (steps, users, width).
    """
    env, policy = model.get_env(), model.policy
    assert isinstance(env, SB3VecEnv)
    scorer: Any = policy.scorer

    def encoded(seen: Any) -> Tensor:
        with torch.no_grad():
            found: Tensor = scorer.histories(obs_as_tensor(seen, model.device))
        return found

    seen: Any = env.reset()
    encodings, rewards, going, ends = [encoded(seen)], [], [], []
    stay = getattr(model.rollout_buffer, "stay", lambda: np.float32(1))  # see `chance`
    for _ in range(STEPS):
        actions, _ = policy.predict(seen)
        seen, reward, done, infos = env.step(actions)
        encodings.append(encoded(seen))
        rewards.append(torch.as_tensor(reward, device=model.device))
        going.append(torch.as_tensor(~done * stay(), device=model.device))
        end = torch.zeros_like(encodings[0])
        cut = [row for row in np.flatnonzero(done).tolist() if infos[row]["TimeLimit.truncated"]]
        if cut:
            last = [infos[row]["terminal_observation"] for row in cut]
            end[cut] = encoded({key: np.stack([one[key] for one in last]) for key in last[0]})
        ends.append(end)
    return torch.stack(encodings), torch.stack(rewards), torch.stack(going), torch.stack(ends)
