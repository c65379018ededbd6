"""Actor and critic for PPO, A2C and MaskablePPO: items scored by inner products."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from gymnasium import spaces
from numpy.typing import NDArray
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor

from audience.agents.distribution import PlackettLuceDistribution
from audience.agents.item_scorer import (
    Encoded,
    ItemScorer,
    Shapes,
    observed_tensors,
    value_net,
)
from audience.agents.item_to_item import ItemToItem


class _ItemScoring:
    """What both policies below have in common; see `ItemScoringPolicy`."""

    observation_space: Any
    action_space: Any
    device: Any
    optimizer_class: Any
    optimizer_kwargs: dict[str, Any]

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        item_vectors: NDArray[Any] | None = None,
        dim: int = 64,
        item_bias: NDArray[Any] | None = None,
        item_to_item: ItemToItem | None = None,
        **kwargs: Any,
    ) -> None:
        name = type(self).__name__
        self.shapes = Shapes.of(observation_space, name)
        self.slate_size = self.shapes.slate_size(action_space, name)
        self.given: dict[str, Any] = {
            "item_vectors": item_vectors,
            "dim": dim,
            "item_bias": item_bias,
            "item_to_item": item_to_item,
        }
        # Its two towers of [64, 64] and their orthogonal initial values would be thrown away.
        kwargs = {**kwargs, "net_arch": [], "ortho_init": False}
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)  # type: ignore[call-arg]

    def _build(self, lr_schedule: Schedule) -> None:
        """Make the networks and the optimiser; called at the end of the base's constructor."""
        self.scorer = ItemScorer(self.shapes, **self.given)
        self.query_net = self.scorer.query_net()
        self.value_net = value_net(self.scorer.width)
        self.action_dist = PlackettLuceDistribution(self.slate_size)
        self.optimizer = self.optimizer_class(
            self.parameters(),  # type: ignore[attr-defined]
            lr=lr_schedule(1),
            **self.optimizer_kwargs,
        )

    def forward(
        self, obs: Any, deterministic: bool = False, action_masks: Any = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Actions (n, *action shape), values (n, 1) and log-probabilities (n,)."""
        encoded = self.scorer.encode(obs)
        distribution = self._distribution(encoded, action_masks)
        actions = distribution.get_actions(deterministic)
        log_prob = distribution.log_prob(actions)
        actions = actions.reshape(-1, *self.action_space.shape)
        return actions, self._values(encoded.history), log_prob

    def evaluate_actions(
        self, obs: Any, actions: Tensor, action_masks: Any = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Values (n, 1), log-probabilities (n,) of these actions, and entropies (n,)."""
        encoded = self.scorer.encode(obs)
        distribution = self._distribution(encoded, action_masks)
        return self._values(encoded.history), distribution.log_prob(actions), distribution.entropy()

    def get_distribution(self, obs: Any, action_masks: Any = None) -> PlackettLuceDistribution:
        """The distribution over slates after these observations."""
        return self._distribution(self.scorer.encode(obs), action_masks)

    def predict_values(self, obs: Any) -> Tensor:
        """Estimated returns, (n, 1)."""
        return self._values(self.scorer.histories(obs))

    def predict(
        self,
        observation: Mapping[str, NDArray[Any]],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
        action_masks: NDArray[Any] | None = None,
    ) -> tuple[Any, Any]:
        """See `audience.agents.Agent`; `mask` is obeyed even where the policy's space lacks it.

        Actions index the observation's `candidates`, where it has them, else the catalogue,
        whichever of the two the policy was trained with.
        """
        del episode_start
        self.set_training_mode(False)  # type: ignore[attr-defined]
        obs = observed_tensors(observation, self.shapes.n_items, self.device, action_masks)
        with torch.no_grad():
            chosen = self.get_distribution(obs).get_actions(deterministic)
        actions = chosen.cpu().numpy().reshape(-1, *self.action_space.shape)
        one = len(observation["item"].shape) == 1
        return (actions[0, ...] if one else actions), state

    def _distribution(self, encoded: Encoded, action_masks: Any) -> PlackettLuceDistribution:
        scores = self.scorer.scores(encoded, self.query_net(encoded.history))
        allowed = encoded.allowed
        if action_masks is not None:
            masks = torch.as_tensor(action_masks, device=scores.device)
            # MaskablePPO's masks have a copy for each place of a slate.
            allowed = allowed & (masks.reshape(len(scores), -1)[:, : scores.shape[1]] != 0)
        return PlackettLuceDistribution(self.slate_size).proba_distribution(scores, allowed)

    def _values(self, histories: Tensor) -> Tensor:
        # Returns are several times as large as the policy's normalised advantages: their
        # gradient would rule the item vectors, so the critic reads the encoding as it is.
        return self.value_net(histories.detach())

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), **self.given}  # type: ignore[misc]


class ItemScoringPolicy(_ItemScoring, ActorCriticPolicy):  # type: ignore[misc]
    """Actor and critic for the `audience` environments: PPO(ItemScoringPolicy, env), or A2C.

    Score of an item = query . item vector / sqrt(dim) + item bias, where the query is made from
    the user's events (`HistoryEncoder`). Slates are drawn from these scores without replacement
    (`PlackettLuceDistribution`). Consumed items, and what the observation's `mask` forbids, have
    probability 0. Where the observation has `candidates`, these are scored, and nothing else is
    read of the catalogue.

    Args:
        observation_space: A Dict with `item`, `feedback`, `length`, and optionally `mask` and
            `candidates`.
        action_space: Discrete(items), or MultiDiscrete([items] * slate), or of candidates.
        lr_schedule: Learning rate by the share of training left, as the algorithm passes it.
        item_vectors: Given vectors of the items (of text, or CF), shape (items, any width);
            without them the vectors are learned from nothing.
        dim: Width of the learned vectors.
        item_bias: Scores to start from, shape (items,), such as log-popularity; 0 by default.
        item_to_item: Matrices of item-to-item filters, whose scores are added, each times a weight
            that the query has for it (at the start 0); None: no such scores.
        **kwargs: `optimizer_class` and `optimizer_kwargs`, as in any Stable-Baselines3 policy.

    Raises:
        ValueError: An unsupported space, or vectors or biases of another shape.
    """


class MaskableItemScoringPolicy(_ItemScoring, MaskableActorCriticPolicy):  # type: ignore[misc]
    """`ItemScoringPolicy` for sb3-contrib's MaskablePPO: MaskablePPO(this, env).

    It obeys `action_masks` beside what it knows of consumed items itself.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        use_sde: bool = False,
        **kwargs: Any,
    ) -> None:
        del use_sde  # a parameter of Stable-Baselines3's policies that MaskablePPO's lack
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)
