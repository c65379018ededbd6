"""Random numbers looked up by key and place, so that no draw depends on the batch around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""The increment of SplitMix64: 2**64 divided by the golden ratio, made odd."""

WORD = 2**64
"""Size of the keys' range."""


def mix(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64, a bijection of 64-bit words that passes for random.

    Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014, with
    the constants of Stafford's variant 13.
    """
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def keys_of(seeds: Sequence[int]) -> NDArray[np.uint64]:
    """The key of each seed, shape (seeds,); seeds are whole numbers from 0 on."""
    low = np.array([seed % WORD for seed in seeds], np.uint64)
    high = np.array([seed // WORD % WORD for seed in seeds], np.uint64)
    return mix((low ^ mix(high)) + GOLDEN)


def keyed_uniforms(
    keys: NDArray[np.uint64],
    episodes: NDArray[np.int64],
    steps: NDArray[np.int64],
    columns: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Numbers in [0, 1), each a function of its own (key, episode, step, column) alone.

    Args:
        keys: One a slot, shape (slots,).
        episodes: Which session of the slot, from 0, shape (slots,).
        steps: Which step of the session, from 0, shape (slots,).
        columns: Which of the step's draws, shape (columns,).

    Returns:
        Shape (slots, columns), float64.
    """
    words = keys[:, None]  # (slots, 1)
    for counter in (episodes[:, None], steps[:, None], columns[None, :]):
        words = mix(words + GOLDEN * (counter.astype(np.uint64) + np.uint64(1)))
    # The upper 53 bits are what a float64 holds exactly.
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


class Streams:
    """Each slot's key and which of its sessions runs: all that its draws depend on.

    Attributes:
        keys: One a slot, shape (slots,); of no meaning before `seed`.
        episodes: Sessions begun with the key, less one, shape (slots,).
    """

    def __init__(self, slots: int) -> None:
        self.keys = np.zeros(slots, np.uint64)
        self.episodes = np.full(slots, -1, np.int64)
        self.keyed = np.zeros(slots, np.bool_)

    def seed(
        self,
        seeds: Sequence[int | None],
        slots: NDArray[np.bool_],
        generator: Callable[[], np.random.Generator],
    ) -> None:
        """Give a key to those of these slots that have a seed, or have no key yet.

        Args:
            seeds: One a slot; None keeps the key and the place in its row of sessions.
            slots: Which slots are meant, shape (slots,).
            generator: Makes the first keys of slots without a seed; not called without need.
        """
        given = slots & np.array([seed is not None for seed in seeds])
        self.keys[given] = keys_of([seed or 0 for seed in seeds])[given]
        self.episodes[given] = -1
        fresh = slots & ~given & ~self.keyed
        if fresh.any():
            self.keys[fresh] = generator().integers(WORD, size=fresh.sum(), dtype=np.uint64)
        self.keyed |= slots

    def draw(
        self,
        columns: NDArray[np.int64],
        steps: NDArray[np.int64],
        slots: NDArray[np.int64] | slice = slice(None),
    ) -> NDArray[np.float64]:
        """Uniforms of these columns at each slot's step, shape (slots, columns)."""
        return keyed_uniforms(self.keys[slots], self.episodes[slots], steps[slots], columns)
