"""DQN and QR-DQN over items: values as inner products; exploration among what is open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from sb3_contrib import QRDQN
from stable_baselines3 import DQN
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor

from audience.agents.base import allowed_choices, histories_of
from audience.agents.item_scorer import ItemScorer, Shapes, observed_tensors, value_net
from audience.agents.item_to_item import ItemToItem

CLOSED = -1e9
"""Value of what may not be recommended: never the largest, in the bootstrap either."""


class ItemValueNet(torch.nn.Module):
    """Values of all choices: a value of the state plus a score of the item.

    Args:
        shapes: Of the environment.
        quantiles: Of each value; 0 for values as such.
        given: `item_vectors`, `dim`, `item_bias` and `item_to_item` of `ItemScorer`.
    """

    def __init__(self, shapes: Shapes, quantiles: int, given: dict[str, Any]) -> None:
        super().__init__()
        self.quantiles = quantiles
        self.scorer = ItemScorer(shapes, **given)
        heads = max(quantiles, 1)
        self.query_net = self.scorer.query_net(heads)
        self.value_net = value_net(self.scorer.width, heads)

    def forward(self, obs: Mapping[str, Tensor]) -> Tensor:
        """Values (n, choices), or (n, quantiles, choices); CLOSED where not allowed."""
        encoded = self.scorer.encode(obs)
        # As in the actor-critic policies, the size of returns is not to rule the item vectors.
        state = self.value_net(encoded.history.detach())  # (n, heads)
        score = self.scorer.scores(encoded, self.query_net(encoded.history))
        # Where a full session leaves nothing open, there is nothing to bootstrap from.
        open_ = encoded.allowed | ~encoded.allowed.any(1, keepdim=True)
        if self.quantiles:
            return (score + state[:, :, None]).masked_fill(~open_[:, None], CLOSED)
        return (score + state).masked_fill(~open_, CLOSED)

    def set_training_mode(self, mode: bool) -> None:
        """As Stable-Baselines3's networks have it."""
        self.train(mode)


class _ValuePolicy(BasePolicy):
    """What both policies below have in common; see `ItemValuePolicy`."""

    quantiles: int

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        item_vectors: NDArray[np.floating] | None = None,
        dim: int = 64,
        item_bias: NDArray[np.floating] | None = None,
        item_to_item: ItemToItem | None = None,
        **kwargs: Any,
    ) -> None:
        name = type(self).__name__
        self.shapes = Shapes.of(observation_space, name)
        self.shapes.slate_size(action_space, name, slates=False)
        self.given: dict[str, Any] = {
            "item_vectors": item_vectors,
            "dim": dim,
            "item_bias": item_bias,
            "item_to_item": item_to_item,
        }
        super().__init__(observation_space, action_space, **kwargs)
        self.net, self.target = self._new_net(), self._new_net()
        self.target.load_state_dict(self.net.state_dict())
        self.target.set_training_mode(False)
        self.optimizer = self.optimizer_class(
            self.net.parameters(),
            lr=lr_schedule(1),  # type: ignore[call-arg]
            **self.optimizer_kwargs,
        )

    def values(self, obs: Mapping[str, Tensor]) -> Tensor:
        """Expected returns of the choices, (n, choices)."""
        found = self.net(obs)
        return found.mean(1) if self.quantiles else found

    def forward(self, obs: Any, deterministic: bool = True) -> Tensor:
        """The best choice of each observation, (n,)."""
        return self._predict(obs, deterministic)

    def _predict(self, observation: Any, deterministic: bool = True) -> Tensor:
        del deterministic
        return self.values(observation).argmax(1)

    def predict(  # type: ignore[override]
        self,
        observation: Mapping[str, NDArray[Any]],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
        action_masks: NDArray[Any] | None = None,
    ) -> tuple[Any, Any]:
        """The best choices; see `ItemScoringPolicy.predict`. `deterministic` changes nothing."""
        del episode_start, deterministic
        self.set_training_mode(False)
        obs = observed_tensors(observation, self.shapes.n_items, self.device, action_masks)
        with torch.no_grad():
            actions = self.values(obs).argmax(1).cpu().numpy()
        return (actions[0] if np.ndim(observation["item"]) == 1 else actions), state

    def set_training_mode(self, mode: bool) -> None:
        """The target network is never trained."""
        self.net.train(mode)
        self.training = mode

    def _new_net(self) -> ItemValueNet:
        return ItemValueNet(self.shapes, self.quantiles, self.given)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            "observation_space": self.observation_space,
            "action_space": self.action_space,
            "lr_schedule": self._dummy_schedule,
            "optimizer_class": self.optimizer_class,
            "optimizer_kwargs": self.optimizer_kwargs,
            **self.given,
        }


class ItemValuePolicy(_ValuePolicy):
    """Q-values for the `audience` environments: ItemDQN(ItemValuePolicy, env).

    Value of an item = value of the state + query . item vector / sqrt(dim) + item bias, from the
    encoder of `ItemScoringPolicy`, whose arguments it takes. What may not be recommended is never
    the best, neither in prediction nor in the bootstrap. Slates of one item.
    """

    quantiles = 0

    @property
    def q_net(self) -> ItemValueNet:
        """The network, by DQN's name."""
        return self.net

    @property
    def q_net_target(self) -> ItemValueNet:
        """The target network, by DQN's name."""
        return self.target


class ItemQuantilePolicy(_ValuePolicy):
    """`ItemValuePolicy` with quantiles of the return: ItemQRDQN(ItemQuantilePolicy, env).

    Args:
        observation_space: As there.
        action_space: As there.
        lr_schedule: As there.
        n_quantiles: Quantiles of each value, each with a query of its own.
        **kwargs: As there.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        n_quantiles: int = 16,
        **kwargs: Any,
    ) -> None:
        self.quantiles = self.n_quantiles = n_quantiles
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)

    @property
    def quantile_net(self) -> ItemValueNet:
        """The network, by QR-DQN's name."""
        return self.net

    @property
    def quantile_net_target(self) -> ItemValueNet:
        """The target network, by QR-DQN's name."""
        return self.target

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "n_quantiles": self.n_quantiles}


class _OpenExploration:
    """Epsilon-greedy exploration, of each user on their own, among what is open to them.

    Stable-Baselines3 draws one number for all users, and then from the whole action space.
    """

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
        action_masks: Any = None,
    ) -> tuple[Any, Any]:
        """See `audience.agents.Agent`; explores unless `deterministic`."""
        this: Any = self
        actions, state = this.policy.predict(
            observation, state, episode_start, deterministic, action_masks
        )
        rate = 1.0 if this.num_timesteps < this.learning_starts else this.exploration_rate
        if deterministic or rate <= 0:
            return actions, state
        items, _, lengths = histories_of(observation)
        n_items = this.policy.shapes.n_items
        open_ = allowed_choices(observation, items, lengths, n_items, action_masks)
        generator = this.action_space.np_random  # seeded with the algorithm
        explores = (generator.random(len(open_)) < rate) & open_.any(1)
        turn = (generator.random(len(open_)) * open_.sum(1)).astype(np.int64)
        drawn = (open_.cumsum(1) <= turn[:, None]).sum(1)
        chosen = np.where(explores, drawn, np.atleast_1d(actions))
        return (chosen[0] if np.ndim(observation["item"]) == 1 else chosen), state

    def _sample_action(
        self, learning_starts: int, action_noise: Any = None, n_envs: int = 1
    ) -> tuple[Any, Any]:
        this: Any = self
        actions, _ = self.predict(this._last_obs)
        return actions, actions


class ItemDQN(_OpenExploration, DQN):
    """DQN whose exploration, too, recommends nothing that the user consumed."""


class ItemQRDQN(_OpenExploration, QRDQN):
    """QR-DQN whose exploration, too, recommends nothing that the user consumed."""
