"""Matrix factorisations: item factors learned once, users folded in at every step, exactly."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import numpy as np
import threadpoolctl
from implicit.cpu.als import AlternatingLeastSquares
from implicit.cpu.bpr import BayesianPersonalizedRanking
from numpy.typing import NDArray

from audience.agents.baseline_events import (
    F32,
    F64,
    I64,
    event_matrix,
    last_events,
    liking,
    prior_of,
    used_places,
)
from audience.agents.tuning import TunedAgent
from audience.reward_models.catalogue import Catalogue
from audience.reward_models.collaborative import explicit_als
from audience.reward_models.histories import Histories
from audience.reward_models.scale import FeedbackScale

CELLS = 20_000_000
"""Numbers that a block of users' regressors may hold."""


class ALSAgent(TunedAgent):
    """Implicit-feedback ALS (Hu, Koren & Volinsky, ICDM 2008) fitted by the library `implicit`.

    An event has confidence 1 + alpha x scaled feedback, everything else confidence 1. With
    `dislikes`, an event in the lower half of the scale says 0 instead of 1 with that confidence
    when a session is folded in, as the library does for negative numbers.

    Args:
        factors: Of the items, shape (items, factors).
        prior: Score of each item without events, shape (items,).
        confidence: Of an event of each level, shape (levels,).
        disliked: Which levels are in the lower half of the scale, shape (levels,).
        regularization: Ridge penalty.
        dislikes: Whether those levels speak against an item.
        slate_size: Items at a step.
    """

    GRID: ClassVar[dict[str, tuple[Any, ...]]] = {
        "factors": (64,),
        "regularization": (3.0, 10.0, 30.0),
        "alpha": (1.0, 4.0),
        "dislikes": (False, True),
    }
    """On MovieLens (468 fitting users) factors of 16…128, penalties of 1…120 and alphas of .3…20
    were tried; the best dozen, all within .01, lies around this grid, beyond which it falls
    off."""
    SCORING: ClassVar[frozenset[str]] = frozenset({"dislikes"})

    def __init__(
        self,
        factors: F32,
        prior: F32,
        confidence: F32,
        disliked: NDArray[np.bool_],
        regularization: float,
        dislikes: bool = False,
        slate_size: int = 1,
    ) -> None:
        super().__init__(len(factors), slate_size)
        self.factors, self.prior, self.confidence = factors, prior, confidence
        self.disliked, self.regularization, self.dislikes = disliked, regularization, dislikes
        ridge = regularization * np.eye(factors.shape[1], dtype=np.float32)
        self._gram = factors.T @ factors + ridge

    @classmethod
    def fit(
        cls,
        histories: Histories,
        catalogue: Catalogue,
        scale: FeedbackScale,
        slate_size: int = 1,
        factors: int = 64,
        regularization: float = 10.0,
        alpha: float = 1.0,
        dislikes: bool = False,
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
            dislikes: See the class.
            iterations: Rounds; the library's default.
            seed: Of the first factors; an int, for implicit 0.7.3 crashes on a RandomState.
        """
        confidence = (1.0 + alpha * scale.scaled).astype(np.float32)
        items, levels, lengths = histories.padded()
        events = event_matrix(items, lengths, confidence[levels], len(catalogue))
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
            model.fit(events, show_progress=False)
        disliked = scale.scaled < 0.5
        vectors = np.asarray(model.item_factors, np.float32)
        known = prior_of(histories, catalogue), confidence, disliked
        return cls(vectors, *known, regularization, dislikes, slate_size)

    def scores(self, items: I64, levels: I64, lengths: I64) -> NDArray[np.floating[Any]]:
        """Folded-in user factors times item factors, shape (n, items)."""
        confidence = self.confidence[levels]
        wanted = np.where(self.dislikes & self.disliked[levels], 0.0, confidence)
        counted = last_events(items, used_places(items, lengths))
        users = fold_in(self.factors, self._gram, items, counted, confidence - 1, wanted)
        return np.asarray(users @ self.factors.T + self.prior)


class BPRAgent(TunedAgent):
    """Bayesian personalised ranking (Rendle et al., UAI 2009) fitted by the library `implicit`.

    BPR has no closed form for a new user. A session is folded in by the ridge regression that
    asks for 1 + emphasis x liking at its events and, with weight `background`, for 0 everywhere.

    Args:
        factors: Of the items, shape (items, factors).
        bias: Of the items, shape (items,).
        prior: Score of each item without events, shape (items,).
        liking: Of each level, 0 on average, shape (levels,).
        background: Weight of an item that was not met, against an event's 1.
        bias_weight: Weight of the items' biases, which stand for popularity, in the score.
        emphasis: Of the feedback; 0 counts every event alike.
        slate_size: Items at a step.
    """

    GRID: ClassVar[dict[str, tuple[Any, ...]]] = {
        "factors": (32, 64),
        "background": (0.1, 0.3),
        "bias_weight": (0.3, 0.6, 1.0),
    }
    """On MovieLens (228 fitting users) regularizations of .01 and 50…200 iterations were tried
    too: NDCG@10 .44 to .475, the best with 64 factors and these two at their defaults."""
    SCORING: ClassVar[frozenset[str]] = frozenset({"background", "bias_weight"})

    def __init__(
        self,
        factors: F32,
        bias: F32,
        prior: F32,
        liking: F64,
        background: float = 0.1,
        bias_weight: float = 0.3,
        emphasis: float = 0.0,
        slate_size: int = 1,
    ) -> None:
        super().__init__(len(factors), slate_size)
        self.factors, self.bias, self.prior, self.liking = factors, bias, prior, liking
        self.background, self.bias_weight, self.emphasis = background, bias_weight, emphasis
        self._gram = factors.T @ factors

    @classmethod
    def fit(
        cls,
        histories: Histories,
        catalogue: Catalogue,
        scale: FeedbackScale,
        slate_size: int = 1,
        factors: int = 32,
        regularization: float = 0.05,
        learning_rate: float = 0.05,
        iterations: int = 100,
        background: float = 0.1,
        bias_weight: float = 0.3,
        emphasis: float = 0.0,
        seed: int = 0,
    ) -> BPRAgent:
        """Stochastic gradient ascent by one thread, so that a seed gives the same factors.

        Args:
            histories: Of the fitting users.
            catalogue: Of the items.
            scale: Of the feedback.
            slate_size: Items at a step.
            factors: Length of a user's and an item's factors.
            regularization: Of both.
            learning_rate: Of the ascent.
            iterations: Passes over the events.
            background: See the class.
            bias_weight: See the class.
            emphasis: See the class.
            seed: Of the first factors and the sampled pairs.
        """
        items, levels, lengths = histories.padded()
        events = event_matrix(items, lengths, np.ones(levels.shape), len(catalogue))
        model = BayesianPersonalizedRanking(
            factors=factors,
            regularization=regularization,
            learning_rate=learning_rate,
            iterations=iterations,
            num_threads=1,
            random_state=int(seed),
        )
        model.fit(events, show_progress=False)
        # Its last column is the item's bias; the users' last number is 1.
        both = np.asarray(model.item_factors, np.float32)
        vectors, bias = both[:, :-1].copy(), both[:, -1].copy()
        known = prior_of(histories, catalogue), liking(histories, scale)
        return cls(vectors, bias, *known, background, bias_weight, emphasis, slate_size)

    def scores(self, items: I64, levels: I64, lengths: I64) -> NDArray[np.floating[Any]]:
        """Folded-in user factors times item factors, and biases, shape (n, items)."""
        counted = last_events(items, used_places(items, lengths))
        wanted = 1 + self.emphasis * self.liking[levels]
        gram = self.background * self._gram + np.eye(len(self._gram), dtype=np.float32)
        users = fold_in(self.factors, gram, items, counted, np.ones(items.shape), wanted)
        own = np.float32(self.bias_weight) * self.bias + self.prior
        return np.asarray(users @ self.factors.T + own)


class ExplicitALSAgent(TunedAgent):
    """Expected feedback by biased matrix factorisation (Koren, Bell & Volinsky, Computer 2009).

    Score: (mean + item bias + [1, item factors] . user, on the scale 0…1) + `popularity` x log of
    the item's share of events; a user is one ridge regression on the session. LensKit's biased
    matrix factorisation is the same model; this one folds new users in exactly.

    Args:
        base: Mean and item bias, in the log's unit, shape (items,).
        design: [1, item factors], shape (items, 1 + factors).
        precision: Ridge penalty of each of a user's numbers, shape (1 + factors,).
        values: Of each level, in the log's unit, shape (levels,).
        log_popularity: Shape (items,).
        popularity: Weight of the items' popularity: what is never taken earns no feedback.
        slate_size: Items at a step.
    """

    GRID: ClassVar[dict[str, tuple[Any, ...]]] = {
        "penalty": (4.0, 8.0),
        "popularity": (0.0, 0.1, 0.3, 1.0),
    }
    SCORING: ClassVar[frozenset[str]] = frozenset({"popularity"})

    def __init__(
        self,
        base: F64,
        design: F64,
        precision: F64,
        values: F64,
        log_popularity: F64,
        popularity: float = 0.0,
        slate_size: int = 1,
    ) -> None:
        super().__init__(len(base), slate_size)
        self.base, self.design, self.precision, self.values = base, design, precision, values
        self.log_popularity, self.popularity = log_popularity, popularity

    @classmethod
    def fit(
        cls,
        histories: Histories,
        catalogue: Catalogue,
        scale: FeedbackScale,
        slate_size: int = 1,
        factors: int = 8,
        penalty: float = 8.0,
        popularity: float = 0.0,
        seed: int = 0,
    ) -> ExplicitALSAgent:
        """See `collaborative.explicit_als` for `factors`, `penalty` and `seed`."""
        values = np.asarray(scale.values, np.float64)
        n_items = len(catalogue)
        als = explicit_als(
            histories, values[histories.levels], n_items, factors, penalty, seed=seed
        )
        logs = np.log(catalogue.popularity)
        base = als.mean + als.item_bias
        return cls(base, als.design, als.precision, values, logs, popularity, slate_size)

    def expected(self, items: I64, levels: I64, lengths: I64) -> F64:
        """Expected feedback on every item, on the scale 0…1, shape (n, items)."""
        counted = last_events(items, used_places(items, lengths))
        residual = self.values[levels] - self.base[items]
        gram, ones = np.diag(self.precision), np.ones(items.shape)
        users = fold_in(self.design, gram, items, counted, ones, residual)
        span = self.values[-1] - self.values[0]
        if span <= 0:
            return np.ones((len(items), self.n_items))
        expected = (self.base + users @ self.design.T - self.values[0]) / span
        return np.asarray(np.clip(expected, 0.0, 1.0), np.float64)

    def scores(self, items: I64, levels: I64, lengths: I64) -> NDArray[np.floating[Any]]:
        """Expected feedback and popularity, shape (n, items)."""
        return self.expected(items, levels, lengths) + self.popularity * self.log_popularity


def fold_in(
    vectors: NDArray[Any],
    gram: NDArray[Any],
    items: I64,
    counted: NDArray[np.bool_],
    weights: NDArray[Any],
    wanted: NDArray[Any],
) -> NDArray[Any]:
    """The user of each session: (gram + sum of w v v') u = sum of y v, over the events counted.

    Args:
        vectors: Of the items, shape (items, k).
        gram: What holds without events, penalties included, shape (k, k).
        items: Catalogue index of each event, shape (n, history).
        counted: Which places are events, shape (n, history).
        weights: w of each event, shape (n, history).
        wanted: y of each event, its weight included, shape (n, history).

    Returns:
        Shape (n, k), of the dtype of `vectors`.
    """
    width = max(int(counted.sum(1).max(initial=0)), 1)
    order = np.argsort(~counted, axis=1, kind="stable")[:, :width]  # what counts comes first
    items = np.take_along_axis(items, order, 1)
    counted = np.take_along_axis(counted, order, 1)
    weights, wanted = (
        np.where(counted, np.take_along_axis(part, order, 1), 0).astype(vectors.dtype)
        for part in (weights, wanted)
    )
    users = np.empty((len(items), vectors.shape[1]), vectors.dtype)
    step = max(1, CELLS // (vectors.shape[1] * max(width, vectors.shape[1])))
    for at in range(0, len(items), step):
        part = slice(at, at + step)
        x = vectors[items[part]]  # (part, history, k)
        outer = (x * weights[part, :, None]).transpose(0, 2, 1) @ x
        moment = (wanted[part, None] @ x).transpose(0, 2, 1)
        users[part] = np.linalg.solve(gram + outer, moment)[..., 0]
    return users
