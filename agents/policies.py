"""The policy of our RL agents: items scored by the inner product with a history encoding."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

from audience.agents.base import allowed_items, histories_of
from audience.agents.distribution import PlackettLuceDistribution
from audience.agents.history_encoder import HIDDEN, HistoryEncoder, ItemVectors

BIAS_SCALE = 10.0
"""An item's bias is this times its parameter. Adam moves a parameter by at most the learning rate
at a step whatever the gradient: some 600 steps of 1e-3 could move a plain bias by only 0.6, while
telling the best of 1,700 items from the rest takes several units."""

QUERY_GAIN = 0.3
"""Size of a query's coordinates at the start: scores begin within about half a unit of the item
bias, so the first slates explore the whole catalogue, yet move with the item vectors at once."""


class ItemScoringPolicy(ActorCriticPolicy):
    """Actor and critic for the `audience` environments: PPO(ItemScoringPolicy, env).

    Score of an item = query . item vector / sqrt(dim) + item bias, where the query is made from
    the user's events (`HistoryEncoder`). Slates are drawn from these scores without replacement
    (`PlackettLuceDistribution`). Consumed items, and what the observation's `mask` forbids, have
    probability 0.

    Args:
        observation_space: A Dict with `item`, `feedback`, `length` and optionally `mask`.
        action_space: Discrete(items), or MultiDiscrete([items] * slate).
        lr_schedule: Learning rate by the share of training left, as the algorithm passes it.
        item_vectors: Given vectors of the items (of text, or CF), shape (items, any width);
            without them the vectors are learned from nothing.
        dim: Width of the learned vectors.
        item_bias: Scores to start from, shape (items,), such as log-popularity; 0 by default.
        **kwargs: `optimizer_class` and `optimizer_kwargs`, as in any Stable-Baselines3 policy.

    Raises:
        ValueError: An unsupported space, or vectors or biases of another shape.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        item_vectors: NDArray[np.floating] | None = None,
        dim: int = 64,
        item_bias: NDArray[np.floating] | None = None,
        **kwargs: Any,
    ) -> None:
        self.n_items, self.slate_size = _sizes(observation_space, action_space)
        self.dim = dim
        self._given_vectors, self._given_bias = item_vectors, item_bias
        # Its two towers of [64, 64] and their orthogonal initial values would be thrown away.
        kwargs = {**kwargs, "net_arch": [], "ortho_init": False}
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)

    action_net: nn.Linear
    value_net: nn.Sequential  # type: ignore[assignment]
    start_bias: Tensor

    def _build(self, lr_schedule: Schedule) -> None:
        """Make the networks and the optimiser; called at the end of the base's constructor."""
        observed = self.observation_space
        assert isinstance(observed, spaces.Dict)
        history, levels = observed["item"].shape, observed["feedback"]
        assert history is not None and isinstance(levels, spaces.Box)
        self.item_vectors = ItemVectors(self.n_items, self.dim, self._given_vectors)
        self.encoder = HistoryEncoder(int(levels.high.max()) + 1, self.dim, history[0])
        width = self.encoder.width
        # A linear path beside the hidden layer: "more of what was liked" is linear, and is
        # found within a few updates.
        self.hidden = nn.Sequential(nn.Linear(width, HIDDEN), nn.Tanh())
        self.action_net = nn.Linear(width + HIDDEN, self.dim)
        nn.init.normal_(self.action_net.weight, std=QUERY_GAIN / math.sqrt(width + HIDDEN))
        nn.init.zeros_(self.action_net.bias)
        self.item_bias = nn.Parameter(torch.zeros(self.n_items))
        self.register_buffer("start_bias", _start_bias(self._given_bias, self.n_items))
        self.value_net = nn.Sequential(
            nn.Linear(width, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, HIDDEN), nn.Tanh()
        ).append(nn.Linear(HIDDEN, 1))
        self.action_dist = PlackettLuceDistribution(self.slate_size)
        self.optimizer = self.optimizer_class(
            self.parameters(),
            lr=lr_schedule(1),  # type: ignore[call-arg]
            **self.optimizer_kwargs,
        )

    def forward(self, obs: Any, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Actions (n, *action shape), values (n, 1) and log-probabilities (n,)."""
        encoding, vectors = self._encode(obs)
        distribution = self._distribution(obs, encoding, vectors)
        actions = distribution.get_actions(deterministic)
        log_prob = distribution.log_prob(actions)
        actions = actions.reshape(-1, *(self.action_space.shape or ()))
        return actions, self._values(encoding), log_prob

    def evaluate_actions(self, obs: Any, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Values (n, 1), log-probabilities (n,) of these actions, and entropies (n,)."""
        encoding, vectors = self._encode(obs)
        distribution = self._distribution(obs, encoding, vectors)
        return self._values(encoding), distribution.log_prob(actions), distribution.entropy()

    def get_distribution(self, obs: Any) -> PlackettLuceDistribution:
        """The distribution over slates after these observations."""
        return self._distribution(obs, *self._encode(obs))

    def predict_values(self, obs: Any) -> Tensor:
        """Estimated returns, (n, 1)."""
        return self._values(self._encode(obs)[0])

    def predict(  # type: ignore[override]
        self,
        observation: Mapping[str, NDArray[Any]],
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
        action_masks: NDArray[Any] | None = None,
    ) -> tuple[NDArray[np.int64], Any]:
        """See `audience.agents.Agent`; `mask` is obeyed even where the policy's space lacks it."""
        del episode_start
        self.set_training_mode(False)
        items, levels, lengths = histories_of(observation)
        mask = allowed_items(observation, items, lengths, self.n_items, action_masks)
        obs = {"item": items, "feedback": levels, "length": lengths[:, None], "mask": mask}
        with torch.no_grad():
            tensors = {
                key: torch.as_tensor(value, device=self.device) for key, value in obs.items()
            }
            chosen = self.get_distribution(tensors).get_actions(deterministic)
        actions = chosen.cpu().numpy().reshape(-1, *(self.action_space.shape or ()))
        return (actions if np.ndim(observation["item"]) == 2 else actions[0, ...]), state

    def _encode(self, obs: Any) -> tuple[Tensor, Tensor]:
        """Encoding of the events (n, width), and the vectors of all items (n_items, dim)."""
        vectors = self.item_vectors()
        items, levels, lengths = _events(obs)
        return self.encoder(items, levels, lengths, vectors), vectors

    def _distribution(
        self, obs: Any, encoding: Tensor, vectors: Tensor
    ) -> PlackettLuceDistribution:
        query = self.action_net(torch.cat([encoding, self.hidden(encoding)], 1))  # (n, dim)
        bias = BIAS_SCALE * self.item_bias + self.start_bias
        scores = torch.addmm(bias, query / math.sqrt(self.dim), vectors.T)  # (n, n_items)
        return PlackettLuceDistribution(self.slate_size).proba_distribution(
            scores, _allowed(obs, self.n_items)
        )

    def _values(self, encoding: Tensor) -> Tensor:
        # Returns are several times as large as the policy's normalised advantages: their
        # gradient would rule the item vectors, so the critic reads the encoding as it is.
        return self.value_net(encoding.detach())

    def _get_constructor_parameters(self) -> dict[str, Any]:
        parameters = super()._get_constructor_parameters()
        return {
            **parameters,
            "item_vectors": self._given_vectors,
            "dim": self.dim,
            "item_bias": self._given_bias,
        }


def _sizes(observed: spaces.Space[Any], action: spaces.Space[Any]) -> tuple[int, int]:
    """Number of items and slate size, once both spaces are what the policy can work with."""
    missing = {"item", "feedback", "length"} - set(getattr(observed, "spaces", {}))
    if not isinstance(observed, spaces.Dict) or missing:
        raise ValueError(
            f"ItemScoringPolicy needs a Dict observation with item, feedback and length, as the "
            f"audience environments give it; {sorted(missing)} missing, got {observed}"
        )
    item = observed["item"]
    assert isinstance(item, spaces.Box)
    n_items = int(item.high.max()) + 1
    if isinstance(action, spaces.Discrete) and action.n == n_items and action.start == 0:
        return n_items, 1
    if (
        isinstance(action, spaces.MultiDiscrete)
        and action.nvec.ndim == 1
        and (action.nvec == n_items).all()
    ):
        return n_items, len(action.nvec)
    raise ValueError(
        f"ItemScoringPolicy needs the action space Discrete({n_items}), or "
        f"MultiDiscrete([{n_items}] * slate_size) for slates: one action an item of the "
        f"observation; got {action}"
    )


def _start_bias(given: NDArray[np.floating] | None, n_items: int) -> Tensor:
    bias = np.zeros(n_items, np.float32) if given is None else np.asarray(given, np.float32)
    if bias.shape != (n_items,) or not np.isfinite(bias).all():
        raise ValueError(
            f"item_bias must be finite numbers of shape ({n_items},), one an item of the "
            f"catalogue, got shape {bias.shape}"
        )
    return torch.from_numpy(bias.copy())


def _events(obs: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Items and levels (n, history) and lengths (n,): the events as integers.

    Stable-Baselines3's `preprocess_obs` would make floats of them.
    """
    return obs["item"].long(), obs["feedback"].long(), obs["length"].long().reshape(-1)


def _allowed(obs: Any, n_items: int) -> Tensor:
    """What may be recommended, (n, n_items), bool: unconsumed, and in `mask` where there is one."""
    items, _, lengths = _events(obs)
    used = torch.arange(items.shape[1], device=items.device) < lengths[:, None]
    consumed = torch.zeros(len(items), n_items + 1, dtype=torch.bool, device=items.device)
    # Unused places hold 0, a real item: they are sent to a column beyond the catalogue.
    consumed.scatter_(1, torch.where(used, items, n_items), True)
    allowed = ~consumed[:, :n_items]
    return allowed & (obs["mask"] != 0) if "mask" in obs else allowed
