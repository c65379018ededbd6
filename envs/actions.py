"""Kinds of actions: indices of items, or embeddings that are looked up among items."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from audience.envs.checks import indices, points
from audience.reward_models.rewards import unit_rows

ActionKind = Literal["index", "embedding"]
ACTION_KINDS: tuple[ActionKind, ...] = get_args(ActionKind)

EMBEDDING_DIM = 16
"""Dimensions of an embedding action by default: few enough for SAC and TD3 to explore."""


class IndexActions:
    """A slate is named by indices, of the catalogue or of the candidates.

    Args:
        n_choices: How many there are to index.
        slate_size: Items of a slate.
        what: What is indexed, for messages.
    """

    def __init__(self, n_choices: int, slate_size: int, what: str = "catalogue indices") -> None:
        self.n_choices, self.what = n_choices, what
        self.shape = () if slate_size == 1 else (slate_size,)
        self.slate_size = slate_size
        self.space: spaces.Space[Any] = (
            spaces.Discrete(n_choices)
            if slate_size == 1
            else spaces.MultiDiscrete([n_choices] * slate_size)
        )

    def checked(self, actions: ArrayLike, batch: tuple[int, ...]) -> NDArray[np.int64]:
        """The actions as an array of its own.

        Raises:
            ValueError: They are no such indices of shape (*batch, slate size).
        """
        return indices(actions, (*batch, *self.shape), self.n_choices, self.what)

    def slates(
        self,
        actions: NDArray[Any],
        open_: Callable[[], NDArray[np.bool_]],
        candidates: NDArray[np.int64] | None,
    ) -> NDArray[np.int64]:
        """Catalogue indices of the slates, shape (slots, slate size)."""
        del open_
        named = actions.reshape(-1, self.slate_size)
        return named if candidates is None else np.take_along_axis(candidates, named, axis=1)


class EmbeddingActions:
    """A slate is what lies nearest, by inner product, to one point for each of its places.

    Each place takes the best open item that no earlier place took (Dulac-Arnold et al., "Deep
    reinforcement learning in large discrete action spaces", 2015, with exact search).

    Args:
        vectors: Of the items, shape (items, dim), of norm 1 (or 0).
        slate_size: Items of a slate.
    """

    def __init__(self, vectors: NDArray[np.float32], slate_size: int) -> None:
        self.vectors = vectors.astype(np.float64)
        dim = vectors.shape[1]
        self.shape = (dim,) if slate_size == 1 else (slate_size, dim)
        self.slate_size = slate_size
        self.space: spaces.Space[Any] = spaces.Box(-1.0, 1.0, self.shape, np.float32)

    def checked(self, actions: ArrayLike, batch: tuple[int, ...]) -> NDArray[np.float64]:
        """The actions as an array of its own.

        Raises:
            ValueError: They are no numbers from -1 to 1 of shape (*batch, [slate size,] dim).
        """
        return points(actions, (*batch, *self.shape))

    def slates(
        self,
        actions: NDArray[Any],
        open_: Callable[[], NDArray[np.bool_]],
        candidates: NDArray[np.int64] | None,
    ) -> NDArray[np.int64]:
        """Catalogue indices of the slates, shape (slots, slate size).

        Args:
            actions: Shape (slots, [slate size,] dim).
            open_: Gives which items, or candidates, may be taken, shape (slots, choices).
            candidates: Their catalogue indices, shape (slots, choices); None: all items.
        """
        asked = actions.reshape(len(actions), self.slate_size, -1)
        vectors = self.vectors if candidates is None else self.vectors[candidates]
        closed = np.where(open_(), np.float32(0.0), np.float32(-np.inf))  # (slots, choices)
        places = np.zeros((len(actions), self.slate_size), np.int64)
        rows = np.arange(len(actions))
        for place in range(self.slate_size):
            point = asked[:, place]
            products = (
                point @ vectors.T if candidates is None else (vectors @ point[:, :, None])[:, :, 0]
            )
            # Rounded, so that the order of a sum, which hangs on the batch, decides no tie.
            places[:, place] = (products.astype(np.float32) + closed).argmax(axis=1)
            closed[rows, places[:, place]] = -np.inf
        return places if candidates is None else np.take_along_axis(candidates, places, axis=1)


def reduced(vectors: NDArray[np.floating], dim: int) -> NDArray[np.float32]:
    """Principal components of vectors, scaled to norm 1, shape (items, at most dim).

    Vectors that are no wider than `dim` are only scaled. The sign of each component is that
    which makes its largest loading positive, so that it hangs on no library.
    """
    given = vectors.astype(np.float64)
    if given.shape[1] <= dim:
        return unit_rows(given)
    centred = given - given.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)  # by rising variance
    axes = axes[:, ::-1][:, :dim]
    axes *= np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(dim)])
    return unit_rows(centred @ axes)
