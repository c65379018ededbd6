"""SAC and TD3 over items: actions are points, looked up among the items' vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor

from audience.agents.base import Observation, allowed_choices, histories_of
from audience.agents.history_encoder import HistoryEncoder, ItemVectors
from audience.agents.item_scorer import Shapes, events
from audience.envs.actions import EmbeddingActions


class HistoryFeatures(BaseFeaturesExtractor):
    """The history encoder of all our policies, for Stable-Baselines3's "MultiInputPolicy".

    Args:
        observation_space: That of an `audience` environment.
        item_vectors: See `ItemVectors`.
        dim: Width of the item vectors.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        item_vectors: NDArray[np.floating] | None = None,
        dim: int = 64,
    ) -> None:
        shapes = Shapes.of(observation_space, type(self).__name__)
        encoder = HistoryEncoder(shapes.n_levels, dim, shapes.history)
        super().__init__(observation_space, encoder.width)
        self.items, self.encoder = ItemVectors(shapes.n_items, dim, item_vectors), encoder

    def forward(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Encodings, (n, features_dim)."""
        items, levels, lengths = events(observations)
        occurring, place = items.unique(return_inverse=True)
        return self.encoder(place, levels, lengths, self.items(occurring)[0])


class EmbeddingAgent:
    """An algorithm with embedding actions as an `Agent` of items.

    Args:
        model: SAC or TD3, trained with `actions="embedding"`.
        vectors: Of the items, of norm 1, as the environment looked them up, (items, dim).
        slate_size: Items of a slate.
    """

    def __init__(self, model: Any, vectors: NDArray[np.float32], slate_size: int = 1) -> None:
        self.model, self.n_items = model, len(vectors)
        self.actions = EmbeddingActions(vectors, slate_size)

    def predict(
        self,
        observation: Observation,
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
        action_masks: NDArray[Any] | None = None,
    ) -> tuple[NDArray[np.int64], Any]:
        """See `audience.agents.Agent`: the items nearest to the model's points."""
        known = self.model.observation_space.spaces
        seen = {key: value for key, value in observation.items() if key in known}
        points, state = self.model.predict(seen, state, episode_start, deterministic)
        items, _, lengths = histories_of(observation)
        open_ = allowed_choices(observation, items, lengths, self.n_items, action_masks)
        one = np.ndim(observation["item"]) == 1
        batch = points[None] if one else points
        among = observation.get("candidates")
        if among is not None:
            named = np.atleast_2d(np.asarray(among, np.int64))
            slates = self.actions.slates(batch, lambda: open_, named)
            # The environment's actions index the candidates: back to their places.
            slates = (named[:, None] == slates[:, :, None]).argmax(2)
        else:
            slates = self.actions.slates(batch, lambda: open_, None)
        chosen = slates[:, 0] if self.actions.slate_size == 1 else slates
        return (chosen[0, ...] if one else chosen), state
