"""Bandits: every session a linear bandit over the items, with a prior from the fitting users."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import svds

from audience.agents.baseline_events import (
    F32,
    I64,
    event_matrix,
    last_events,
    prior_of,
    used_places,
)
from audience.agents.baseline_neighbours import checked_vectors
from audience.agents.tuning import TunedAgent
from audience.reward_models.catalogue import Catalogue
from audience.reward_models.histories import Histories
from audience.reward_models.scale import FeedbackScale
from audience.reward_models.text_prior import text_axes

TEXT_AXES = 32
"""Principal axes of the text vectors among the features."""

CELLS = 20_000_000
"""Numbers that a block of users' items may hold: 80 MB."""


class LinearBandit(TunedAgent):
    """Bayesian linear regression of a session's rewards on item features.

    Reward of showing item j to a user: offset[j] + x[j] . theta + noise, where the offset is the
    item's mean reward among the fitting users (scaled feedback where they met it, 0 where not),
    theta has the prior N(0, I / penalty), and noise the variance 1. The features x are the
    principal axes of the items' texts and, with `factors`, of who met what. An event counts as
    one observation; items that the user did not meet count as rewards of 0 with the weight
    `background` each.

    Args:
        features: Shape (items, k).
        offset: Mean reward of each item, shape (items,).
        prior: Breaks ties, shape (items,).
        rewards: Of each level, shape (levels,).
        penalty: Precision of a user's taste before the first event.
        background: Weight of an item that the user did not meet, against an event's 1.
        optimism: How much the uncertainty of the estimate counts.
        slate_size: Items at a step.
    """

    GRID: ClassVar[dict[str, tuple[Any, ...]]] = {
        "factors": (0, 64),
        "penalty": (2.0, 10.0),
        "background": (0.03, 0.1),
        "optimism": (0.1, 0.4),
    }
    """Without factors the texts alone tell the items apart. On MovieLens (228 fitting users)
    NDCG@10 was highest, .48, with 64, 2 and .1, and falls with optimism."""
    SCORING: ClassVar[frozenset[str]] = frozenset({"penalty", "background", "optimism"})
    USES_TEXT: ClassVar[bool] = True

    def __init__(
        self,
        features: F32,
        offset: F32,
        prior: F32,
        rewards: F32,
        penalty: float = 2.0,
        background: float = 0.1,
        optimism: float = 0.1,
        slate_size: int = 1,
    ) -> None:
        super().__init__(len(features), slate_size)
        self.features, self.offset, self.prior, self.rewards = features, offset, prior, rewards
        self.penalty, self.background, self.optimism = penalty, background, optimism
        self._gram = features.T @ features

    @classmethod
    def fit(
        cls,
        histories: Histories,
        catalogue: Catalogue,
        scale: FeedbackScale,
        slate_size: int = 1,
        factors: int = 64,
        penalty: float = 2.0,
        background: float = 0.1,
        optimism: float = 0.1,
        text_vectors: NDArray[np.floating] | None = None,
    ) -> Self:
        """Make features and offsets.

        Args:
            histories: Of the fitting users.
            catalogue: Of the items.
            scale: Of the feedback.
            slate_size: Items at a step.
            factors: Features that are axes of who met what, beside those of the texts.
            penalty: See the class.
            background: See the class.
            optimism: See the class.
            text_vectors: Of the items' texts, shape (items, dim); of TF-IDF where None.

        Raises:
            ValueError: `text_vectors` has not one row an item.
        """
        vectors = checked_vectors(text_vectors, catalogue)
        features = text_axes(vectors, min(TEXT_AXES, vectors.shape[1]))
        items, levels, lengths = histories.padded()
        rewards = scale.scaled.astype(np.float32)
        paid = event_matrix(items, lengths, rewards[levels], len(catalogue))
        offset = np.asarray(paid.sum(0)).ravel() / max(len(histories), 1)
        factors = min(factors, min(paid.shape) - 1)
        if factors > 0:
            # Its own start, else scipy draws one from the global generator.
            start = np.ones(min(paid.shape), np.float32)
            met = event_matrix(items, lengths, np.ones(levels.shape), len(catalogue))
            _, sizes, axes = svds(met, factors, v0=start)
            axes = axes * np.where(axes.sum(1, keepdims=True) < 0, -1, 1)
            learned = (sizes[:, None] * axes).T  # (items, factors)
            size = max(float(np.sqrt(np.square(learned).sum(1).mean())), 1e-6)
            features = np.concatenate([features, learned / size], 1)
        prior = prior_of(histories, catalogue)
        wide = np.asarray(features, np.float32)
        return cls(
            wide,
            offset.astype(np.float32),
            prior,
            rewards,
            penalty,
            background,
            optimism,
            slate_size,
        )

    def posterior(self, items: I64, levels: I64, lengths: I64) -> tuple[F32, F32]:
        """Mean of each user's taste, (n, k), and the inverse Cholesky factor of its precision.

        The second, L^-1 of shape (n, k, k), gives x' covariance x = |L^-1 x|^2.
        """
        counted = last_events(items, used_places(items, lengths))
        x = np.where(counted[..., None], self.features[items], np.float32(0))  # (n, history, k)
        left = np.where(counted, self.rewards[levels] - self.offset[items], np.float32(0))
        own = np.eye(x.shape[2], dtype=np.float32)
        precision = self.penalty * own + self.background * self._gram + x.transpose(0, 2, 1) @ x
        inverse = np.linalg.inv(np.linalg.cholesky(precision.astype(np.float64)))
        moment = (left[:, None] @ x).transpose(0, 2, 1)  # (n, k, 1)
        mean = (inverse.transpose(0, 2, 1) @ (inverse @ moment))[..., 0]
        return mean.astype(np.float32), inverse.astype(np.float32)


class LinUCBAgent(LinearBandit):
    """Optimism in the face of uncertainty (Li et al., WWW 2010); see `LinearBandit`.

    Score: expected reward + optimism x its standard deviation.
    """

    def scores(self, items: I64, levels: I64, lengths: I64) -> NDArray[np.floating[Any]]:
        """Upper confidence bounds, shape (n, items)."""
        mean, inverse = self.posterior(items, levels, lengths)
        scores = mean @ self.features.T + (self.offset + self.prior)
        step = max(1, CELLS // self.features.size)
        for at in range(0, len(items), step):
            spread = inverse[at : at + step] @ self.features.T  # (part, k, items)
            width = np.sqrt(np.square(spread).sum(1))
            scores[at : at + step] += np.float32(self.optimism) * width
        return np.asarray(scores)


class ThompsonAgent(LinearBandit):
    """Thompson sampling (Agrawal & Goyal, ICML 2013); see `LinearBandit`.

    Each step draws a taste from the posterior, its standard deviation times `optimism`, by a
    Generator of the agent's own; `deterministic` changes nothing, for the draw is the strategy.

    Args:
        features: See `LinearBandit`.
        offset: See `LinearBandit`.
        prior: See `LinearBandit`.
        rewards: See `LinearBandit`.
        penalty: See `LinearBandit`.
        background: See `LinearBandit`.
        optimism: Of the draws' spread.
        slate_size: Items at a step.
        seed: The same seed and the same calls give the same slates.
    """

    def __init__(
        self,
        features: F32,
        offset: F32,
        prior: F32,
        rewards: F32,
        penalty: float = 2.0,
        background: float = 0.1,
        optimism: float = 0.1,
        slate_size: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(
            features, offset, prior, rewards, penalty, background, optimism, slate_size
        )
        self.seed = seed
        self._rng = np.random.default_rng(seed)

    def scores(self, items: I64, levels: I64, lengths: I64) -> NDArray[np.floating[Any]]:
        """Rewards under a drawn taste, shape (n, items)."""
        mean, inverse = self.posterior(items, levels, lengths)
        noise = self._rng.standard_normal(mean.shape, np.float32)[:, None]  # (n, 1, k)
        taste = mean + np.float32(self.optimism) * (noise @ inverse)[:, 0]
        return np.asarray(taste @ self.features.T + (self.offset + self.prior))
