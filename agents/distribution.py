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
        self.logits: Tensor  # log-probability of each item for the first place, (n, items)

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
        self.logits = scores.log_softmax(-1)
        return self

    def log_prob(self, actions: Tensor) -> Tensor:
        """Log-probability of ordered slates, shape (n, slate) or, for one place, (n,) -> (n,)."""
        slates = actions.long().reshape(len(self.logits), self.slate_size)
        chosen = self.logits.gather(1, slates)  # (n, slate)
        if self.slate_size == 1:
            return chosen[:, 0]
        # What is left before place k is everything outside the slate and the places from k on:
        # adding up from the end subtracts nothing, so no precision is lost where a few items
        # hold nearly all of the probability.
        outside = self.logits.scatter(1, slates, MASKED).logsumexp(1, keepdim=True)
        left = torch.cat([outside, chosen.flip(1)], 1).logcumsumexp(1)[:, 1:].flip(1)
        return (chosen - left).sum(1)

    def entropy(self) -> Tensor:
        """Entropy of the first place, shape (n,): exact for a slate of one item.

        That of longer slates has no closed form; the first place bounds how far the policy has
        made up its mind, which is what an entropy bonus is for.
        """
        return -(self.logits.exp() * self.logits).sum(1)

    def sample(self) -> Tensor:
        """Draw slates: the top K of scores plus Gumbel noise (Kool et al. 2019).

        The noise is torch's global stream, which Stable-Baselines3 seeds for all its policies.
        """
        noise = torch.empty_like(self.logits).exponential_()
        # exponential_ may return 0 in float32, whose logarithm would beat every mask.
        return self._top(self.logits - noise.clamp_min_(1e-30).log_())

    def mode(self) -> Tensor:
        """The most likely slate: items by falling score."""
        return self._top(self.logits)

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

    def _top(self, scores: Tensor) -> Tensor:
        if self.slate_size == 1:
            return scores.argmax(1)
        return scores.topk(self.slate_size, dim=1).indices
