"""Ordered slates without replacement, drawn from item scores."""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.common.distributions import Distribution
from torch import Tensor, nn

MASKED = -1e9
"""Logit of an item that may not be shown: its probability is exactly 0 in float32, and unlike
with -inf no gradient becomes NaN."""


class PlackettLuceDistribution(Distribution):
    """Plackett-Luce over ordered slates: each place is a softmax over the items still left.

    P(a_1, …, a_K) is the product over k of exp(s_{a_k}) / sum of exp(s_b) over the b not in
    a_1…a_{k-1} (Plackett 1975, The Analysis of Permutations). A slate of one item is a masked
    categorical. At least `slate_size` items must be allowed in every row; otherwise masked ones
    fill the last places.

    Args:
        slate_size: K, the places of a slate.
    """

    def __init__(self, slate_size: int = 1) -> None:
        super().__init__()
        self.slate_size = slate_size
        self._scores: Tensor  # what may not be shown is MASKED, (n, items)
        self._sums: tuple[Tensor, Tensor] | None = None

    def proba_distribution_net(self, *args: Any, **kwargs: Any) -> nn.Module:
        """The scores come from the policy's item vectors: there is no layer to make."""
        raise NotImplementedError(
            "PlackettLuceDistribution takes scores; it has no layer of its own"
        )

    def proba_distribution(
        self, scores: Tensor, allowed: Tensor | None = None
    ) -> PlackettLuceDistribution:
        """Set the scores, shape (n, items), and which items may be shown, same shape, bool."""
        if allowed is not None:
            scores = scores.masked_fill(~allowed, MASKED)
        self._scores, self._sums = scores, None
        return self

    @property
    def logits(self) -> Tensor:
        """Log-probability of each item for the first place, (n, items)."""
        return self._scores - self._summed()[0][:, None]

    def log_prob(self, actions: Tensor) -> Tensor:
        """Log-probability of ordered slates, shape (n, slate) or, for one place, (n,) -> (n,)."""
        slates = actions.long().reshape(len(self._scores), self.slate_size)
        chosen = self._scores.gather(1, slates)  # (n, slate)
        if self.slate_size == 1:
            return chosen[:, 0] - self._summed()[0]
        # What is left before place k is everything outside the slate and the places from k on:
        # adding up from the end subtracts nothing, so no precision is lost where a few items
        # hold nearly all of the probability.
        outside = self._scores.scatter(1, slates, MASKED).logsumexp(1, keepdim=True)
        left = torch.cat([outside, chosen.flip(1)], 1).logcumsumexp(1)[:, 1:].flip(1)
        return (chosen - left).sum(1)

    def entropy(self) -> Tensor:
        """Entropy of the first place, shape (n,): exact for a slate of one item.

        That of longer slates has no closed form; the first place bounds how far the policy has
        made up its mind, which is what an entropy bonus is for.
        """
        total, mean = self._summed()
        return total - mean

    def sample(self) -> Tensor:
        """Draw slates: the top K of scores plus Gumbel noise (Kool et al. 2019).

        A slate of one is looked up in the cumulated probabilities, with one number a row in the
        place of one an item. The numbers are torch's global stream, which Stable-Baselines3 seeds
        for all its policies.
        """
        if self.slate_size == 1:
            below = self.logits.exp().cumsum(1)
            # Short of the end: rounded up to it, a draw would fall beyond the last open item.
            point = torch.rand(len(below), 1, device=below.device) * below[:, -1:] * (1 - 1e-6)
            return torch.searchsorted(below, point, right=True)[:, 0]
        noise = torch.empty_like(self._scores).exponential_()
        # exponential_ may return 0 in float32, whose logarithm would beat every mask.
        return self._top(self._scores - noise.clamp_min_(1e-30).log_())

    def mode(self) -> Tensor:
        """The most likely slate: items by falling score."""
        return self._top(self._scores)

    def actions_from_params(
        self, scores: Tensor, allowed: Tensor | None = None, deterministic: bool = False
    ) -> Tensor:
        """Set the scores and draw, or take the mode."""
        return self.proba_distribution(scores, allowed).get_actions(deterministic)

    def log_prob_from_params(
        self, scores: Tensor, allowed: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Set the scores, draw, and give the log-probability of what was drawn."""
        actions = self.actions_from_params(scores, allowed)
        return actions, self.log_prob(actions)

    def _summed(self) -> tuple[Tensor, Tensor]:
        """Log of the sum of exponentials of the scores, and their mean by probability, (n,)."""
        if self._sums is None:
            self._sums = _Summed.apply(self._scores)
        return self._sums

    def _top(self, scores: Tensor) -> Tensor:
        if self.slate_size == 1:
            return scores.argmax(1)
        return scores.topk(self.slate_size, dim=1).indices


class _Summed(torch.autograd.Function):
    """Log-sum-exp and mean score of rows, in half of the passes that autograd would make.

    With p the softmax of s: d lse = p ds, and d mean = p (1 + s - mean) ds. A minibatch has
    millions of scores, so that each pass over them counts.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor) -> tuple[Tensor, Tensor]:
        """(n, items) to (n,) and (n,)."""
        top = scores.amax(1, keepdim=True)
        shares = (scores - top).exp_()
        whole = shares.sum(1, keepdim=True)
        shares /= whole
        mean = (shares * scores).sum(1)
        ctx.save_for_backward(scores, shares, mean)
        return (top + whole.log())[:, 0], mean

    @staticmethod
    def backward(ctx: Any, of_total: Tensor, of_mean: Tensor) -> Tensor:
        """Gradients (n,) and (n,) to (n, items)."""
        scores, shares, mean = ctx.saved_tensors
        constant = (of_total + of_mean * (1 - mean))[:, None]
        return torch.addcmul(constant, scores, of_mean[:, None]).mul_(shares)
