"""What each item adds to the best slate."""

from __future__ import annotations

from torch import Tensor

ROUNDS = 8
"""Of Dinkelbach's method, which converges superlinearly: so many leave nothing to see."""


def slate_gains(weight: Tensor, reward: Tensor, outside: float, slate_size: int) -> Tensor:
    """How much each item adds to the expected immediate reward of the best slate.

    With choice weights w, outside weight w0 and expected rewards v, a slate S pays
    sum(w v) / (w0 + sum w) over S. Its best value z solves z w0 = sum of the K largest
    w (v - z) (Dinkelbach, Management Science 1967), so the K items with the largest
    w (v - z) are the exact best slate; at slate 1 that is the best item.

    Args:
        weight: Choice weights, shape (n, items).
        reward: Expected rewards, likewise.
        outside: Weight of choosing nothing.
        slate_size: Items of a slate, at most all.

    Returns:
        w (v - z), shape (n, items).
    """
    value = weight.new_zeros(len(weight), 1)
    for _ in range(ROUNDS):
        best = (weight * (reward - value)).topk(slate_size, dim=1).indices
        w, v = weight.gather(1, best), reward.gather(1, best)
        value = (w * v).sum(1, keepdim=True) / (w.sum(1, keepdim=True) + outside)
    return weight * (reward - value)
