"""Who to beat: random, popularity, mean feedback, and collaborative filtering."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
import threadpoolctl
from implicit.cpu.als import AlternatingLeastSquares
from numpy.typing import NDArray

from audience.agents.base import ScoringAgent
from audience.agents.tuning import TunedAgent
from audience.reward_models.catalogue import Catalogue
from audience.reward_models.collaborative import ease_matrix, interaction_matrix
from audience.reward_models.histories import Histories
from audience.reward_models.scale import FeedbackScale


class RandomAgent(ScoringAgent):
    """Unconsumed items at random, from a Generator of its own; `deterministic` changes nothing.

    Args:
        n_items: Size of the catalogue.
        slate_size: Items at a step.
        seed: The same seed and the same calls give the same slates.
    """

    def __init__(self, n_items: int, slate_size: int = 1, seed: int = 0) -> None:
        super().__init__(n_items, slate_size)
        self._rng = np.random.default_rng(seed)

    @classmethod
    def fit(
        cls,
        histories: Histories,
        catalogue: Catalogue,
        scale: FeedbackScale,
        slate_size: int = 1,
        seed: int = 0,
    ) -> RandomAgent:
        """Only the size of the catalogue counts."""
        del histories, scale
        return cls(len(catalogue), slate_size, seed)

    def scores(
        self, items: NDArray[np.int64], levels: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> NDArray[np.floating[Any]]:
        """Uniform draws, shape (n, items)."""
        return self._rng.random((len(items), self.n_items), np.float32)


class ConstantAgent(ScoringAgent):
    """The same ranking for every user.

    Args:
        item_scores: Shape (items,).
        slate_size: Items at a step.
    """

    def __init__(self, item_scores: NDArray[np.floating[Any]], slate_size: int = 1) -> None:
        super().__init__(len(item_scores), slate_size)
        self.item_scores = np.asarray(item_scores, np.float64)

    def scores(
        self, items: NDArray[np.int64], levels: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> NDArray[np.floating[Any]]:
        """The items' scores, once a user, shape (n, items)."""
        return np.broadcast_to(self.item_scores, (len(items), self.n_items))


class PopularityAgent(ConstantAgent):
    """The items with the most events among the fitting users."""

    @classmethod
    def fit(
        cls,
        histories: Histories,
        catalogue: Catalogue,
        scale: FeedbackScale,
        slate_size: int = 1,
    ) -> PopularityAgent:
        """Count the events of these histories."""
        del scale
        counts = np.bincount(histories.items, minlength=len(catalogue))
        return cls(counts.astype(np.float64), slate_size)


class MeanFeedbackAgent(ConstantAgent):
    """The items with the highest mean feedback, which the catalogue shrinks for rare items."""

    @classmethod
    def fit(
        cls,
        histories: Histories,
        catalogue: Catalogue,
        scale: FeedbackScale,
        slate_size: int = 1,
    ) -> MeanFeedbackAgent:
        """Take the catalogue's means."""
        del histories, scale
        return cls(catalogue.mean_feedback, slate_size)


class EASEAgent(TunedAgent):
    """EASE (Steck, WWW 2019): scores are the sum of the item weights of the user's events.

    Args:
        weights: Item-to-item weights, shape (items, items).
        slate_size: Items at a step.
    """

    GRID: ClassVar[dict[str, tuple[Any, ...]]] = {"l2": (30.0, 100.0, 300.0, 1000.0, 3000.0)}
    """Around the 200…1,000 of the paper's data sets, and lower, for smaller logs; on MovieLens
    (468 fitting users) NDCG@10 is .457, .481, .496, .497, .479."""

    def __init__(self, weights: NDArray[np.float32], slate_size: int = 1) -> None:
        super().__init__(len(weights), slate_size)
        self.weights = weights

    @classmethod
    def fit(
        cls,
        histories: Histories,
        catalogue: Catalogue,
        scale: FeedbackScale,
        slate_size: int = 1,
        l2: float = 300.0,
    ) -> EASEAgent:
        """Closed form; `l2` is the ridge penalty, in squared events."""
        del scale
        return cls(ease_matrix(histories, len(catalogue), l2), slate_size)

    def scores(
        self, items: NDArray[np.int64], levels: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> NDArray[np.floating[Any]]:
        """Sum of the rows of what was consumed, shape (n, items)."""
        events = interaction_matrix(Histories.from_padded(items, levels, lengths), self.n_items)
        return np.asarray(events @ self.weights)


class ALSAgent(TunedAgent):
    """Implicit-feedback ALS (Hu, Koren & Volinsky, ICDM 2008) from the library `implicit`.

    An event has confidence 1 + alpha * scaled feedback, everything else confidence 1. A session
    is folded in at every step by the user's own least-squares problem, exactly.

    Args:
        model: Fitted; its user factors are not used.
        scale: Of the feedback.
        alpha: Weight of the feedback in the confidence.
        slate_size: Items at a step.
    """

    GRID: ClassVar[dict[str, tuple[Any, ...]]] = {
        "factors": (32, 64),
        "regularization": (3.0, 10.0, 30.0),
        "alpha": (1.0, 4.0),
    }
    """On MovieLens (468 fitting users) factors of 16…128, penalties of 1…120 and alphas of .3…20
    were tried; the best dozen, all within .01, lies in this grid or at its edge, beyond which it
    falls off."""

    def __init__(self, model: Any, scale: FeedbackScale, alpha: float, slate_size: int = 1) -> None:
        super().__init__(len(model.item_factors), slate_size)
        self.model = model
        self.scale = scale
        self.alpha = alpha

    @classmethod
    def fit(
        cls,
        histories: Histories,
        catalogue: Catalogue,
        scale: FeedbackScale,
        slate_size: int = 1,
        factors: int = 32,
        regularization: float = 10.0,
        alpha: float = 1.0,
        iterations: int = 15,
        seed: int = 0,
    ) -> ALSAgent:
        """Alternate for `iterations` rounds from factors drawn with `seed`.

        Args:
            histories: Of the fitting users.
            catalogue: Of the items.
            scale: Of the feedback.
            slate_size: Items at a step.
            factors: Length of a user's and an item's factors.
            regularization: Ridge penalty of both.
            alpha: Weight of the feedback in the confidence.
            iterations: Rounds; the library's default.
            seed: Of the first factors; an int, for implicit 0.7.3 crashes on a RandomState.
        """
        confidence = _confidence(histories, len(catalogue), scale, alpha)
        with warnings.catch_warnings(), threadpoolctl.threadpool_limits(1, "blas"):
            # The library runs threads of its own, and warns of BLAS threads beside them: of
            # some BLAS even where they are limited.
            warnings.filterwarnings("ignore", ".*BLAS", RuntimeWarning)
            model = AlternatingLeastSquares(
                factors=factors,
                regularization=regularization,
                iterations=iterations,
                random_state=int(seed),
            )
            model.fit(confidence, show_progress=False)
        return cls(model, scale, alpha, slate_size)

    def scores(
        self, items: NDArray[np.int64], levels: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> NDArray[np.floating[Any]]:
        """Folded-in user factors times item factors, shape (n, items)."""
        sessions = Histories.from_padded(items, levels, lengths)
        confidence = _confidence(sessions, self.n_items, self.scale, self.alpha)
        users = self.model.recalculate_user(np.arange(len(items)), confidence)
        return np.asarray(users @ self.model.item_factors.T)


def _confidence(
    histories: Histories, n_items: int, scale: FeedbackScale, alpha: float
) -> sp.csr_matrix:
    """Confidence of each event, shape (users, items); repeated events add up."""
    users = np.repeat(np.arange(len(histories)), histories.lengths)
    values = (1.0 + alpha * scale.scaled[histories.levels]).astype(np.float32)
    return sp.csr_matrix((values, (users, histories.items)), (len(histories), n_items))
