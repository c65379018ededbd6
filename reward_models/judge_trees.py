"""Gradient-boosted trees as plain arrays: fitted by scikit-learn, stored without a pickle."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.ensemble import HistGradientBoostingClassifier

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

ENSEMBLES = 2
"""Fits of other seeds whose logits are averaged. With a kernel logit two of these tell validation
users of movielens .03 % better (RMSE; NLL .1 %) than one fit of twice the rounds, 24 leaves and 40
events a leaf; test users no better."""

ROUNDS, LEARNING_RATE = 60, 0.08
DEPTH, LEAVES = 8, 16
"""Of a tree; what it costs in use is its depth."""

LEAST_EVENTS = 100
"""In a leaf: fewer say little of ten levels."""

SHARE = 0.2
"""Of the features that a split may take, drawn anew for each: trees that differ err less."""

CELLS = 2_000_000
"""Places in trees held at a time."""


@dataclass(frozen=True, eq=False)
class BoostedLevels:
    """Probabilities of feedback levels from boosted trees, one a level and round.

    Node 0 is a tree's root; a leaf is its own child.

    Attributes:
        feature: Column that a node looks at, shape (trees, nodes), int32.
        threshold: A row goes left where its feature is at most this, shape (trees, nodes).
        children: Left and right child, shape (trees, nodes, 2), int32.
        value: What a leaf adds to the logit, shape (trees, nodes).
        level: Level whose logit a tree adds to, shape (trees,), int32.
        base: Logit of each level before any tree, shape (levels,).
        depth: Steps from a root to its deepest leaf, shape (1,).
    """

    feature: NDArray[np.int32]
    threshold: F64
    children: NDArray[np.int32]
    value: F64
    level: NDArray[np.int32]
    base: F64
    depth: I64

    @classmethod
    def fit(cls, x: F64, levels: I64, n_levels: int, seed: int) -> BoostedLevels:
        """Fit ENSEMBLES of `sklearn.ensemble.HistGradientBoostingClassifier`.

        Args:
            x: Features of each event, shape (events, features).
            levels: Shape (events,).
            n_levels: Levels of the scale; one that no event has gets the log of half an event.
            seed: Of the binning's subsample, and of the features tried.
        """
        share = np.log((np.bincount(levels, minlength=n_levels) + 0.5) / (len(levels) + 0.5))
        present = np.unique(levels)
        if len(present) < 2 or len(levels) < 2 * LEAST_EVENTS:
            return cls._of([], share, x[:0], None)
        trees, bases = [], []
        for k in range(ENSEMBLES):
            own, base = cls._ensemble(x, levels, share, present, ENSEMBLES * seed + k)
            trees += own
            bases.append(base)
        new = cls._of(trees, np.mean(bases, 0), x[:0], None)
        return replace(new, value=new.value / ENSEMBLES)

    @classmethod
    def _ensemble(
        cls, x: F64, levels: I64, share: F64, present: I64, seed: int
    ) -> tuple[list[tuple[int, Any]], F64]:
        """Level and nodes of each tree, and the logits before any."""
        boosted = HistGradientBoostingClassifier(
            max_iter=ROUNDS,
            learning_rate=LEARNING_RATE,
            max_depth=DEPTH,
            max_leaf_nodes=LEAVES,
            min_samples_leaf=LEAST_EVENTS,
            max_features=SHARE,
            l2_regularization=1.0,
            early_stopping=False,
            random_state=seed,
        ).fit(x, levels)
        start = boosted._baseline_prediction.ravel()
        binary = len(present) == 2
        base = share - share[present].mean() + start.mean() * (not binary)
        base[present] = np.array([0.0, start[0]]) if binary else start
        trees = [
            (int(present[1 if binary else k]), one.nodes)
            for of_round in boosted._predictors
            for k, one in enumerate(of_round)
        ]
        sample = x[:: max(1, len(x) // 200)]
        cls._of(trees, base, sample, boosted.predict_proba(sample), present)
        return trees, base

    @classmethod
    def _of(
        cls,
        trees: list[tuple[int, Any]],
        base: F64,
        sample: F64,
        expected: F64 | None,
        present: I64 | None = None,
    ) -> BoostedLevels:
        width = max((len(nodes) for _, nodes in trees), default=1)
        shape = (len(trees), width)
        feature, threshold = np.zeros(shape, np.int32), np.zeros(shape)
        children = np.zeros((*shape, 2), np.int32)
        children[:] = np.arange(width)[:, None]
        value = np.zeros(shape)
        depth = 0
        for t, (_, nodes) in enumerate(trees):
            n, inner = len(nodes), nodes["is_leaf"] == 0
            feature[t, :n][inner] = nodes["feature_idx"][inner]
            threshold[t, :n][inner] = nodes["num_threshold"][inner]
            children[t, :n, 0][inner] = nodes["left"][inner]
            children[t, :n, 1][inner] = nodes["right"][inner]
            value[t, :n][~inner] = nodes["value"][~inner]
            depth = max(depth, int(nodes["depth"].max()))
        level = np.array([level for level, _ in trees], np.int32)
        new = cls(feature, threshold, children, value, level, base, np.array([depth]))
        if expected is not None and present is not None:
            found = new.probabilities(sample)[:, present]
            found /= found.sum(1, keepdims=True)
            if not np.allclose(found, expected, atol=1e-6):
                raise RuntimeError(
                    "the trees read from scikit-learn do not give its predictions: its inner "
                    "format has changed; install a version that this package was tested with"
                )
        return new

    def probabilities(self, x: F64) -> F64:
        """Probability of each level, (events, features) to (events, levels)."""
        trees = len(self.feature)
        logits = np.tile(self.base, (len(x), 1))
        # Nodes are numbered through all trees, so that one look-up is one `take`.
        root = np.arange(trees) * self.feature.shape[1]
        children = (self.children + root[:, None, None]).ravel()
        feature, threshold, value = self.feature.ravel(), self.threshold.ravel(), self.value.ravel()
        step = max(1, CELLS // max(trees, 1))
        for at in range(0, len(x) if trees else 0, step):
            rows = np.ascontiguousarray(x[at : at + step])
            node = np.tile(root, (len(rows), 1))
            row = np.arange(len(rows))[:, None] * x.shape[1]
            for _ in range(int(self.depth[0])):
                right = rows.ravel().take(row + feature.take(node)) > threshold.take(node)
                node = children.take(2 * node + right)
            leaves = value.take(node)
            # One level's trees at a time, summed within a row: no product of matrices, whose
            # last bits would depend on how many rows there are.
            for k in np.unique(self.level):
                logits[at : at + step, k] += leaves[:, self.level == k].sum(1)
        return softmax(logits, axis=1)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that it consists of."""
        return {field.name: getattr(self, field.name) for field in fields(self)}
