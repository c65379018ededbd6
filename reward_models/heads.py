"""Heads of the behaviour tower: feedback of several members, and the answer to a slate."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from audience.reward_models.configuration import BehaviourConfig

HIDDEN = 64
"""Width of a member's hidden layer."""


class MemberLayers(nn.Module):
    """One hidden layer for each member of an ensemble, all in one product.

    Starts at zero. Members differ by their first weights and by the users that they are
    fitted on.

    Args:
        members: Number of members.
        n_in: Length of what comes in.
        n_out: Length of what each member says.
        dropout: Of the hidden layer.
        linear: Whether what comes in also reaches the output directly.
    """

    def __init__(
        self, members: int, n_in: int, n_out: int, dropout: float, linear: bool = False
    ) -> None:
        super().__init__()
        self.members, self.n_out = members, n_out
        self.hidden = nn.Linear(n_in, members * HIDDEN)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Parameter(torch.zeros(members, HIDDEN, n_out))
        self.linear = nn.Linear(n_in, members * n_out) if linear else None

    def alone(self, member: int) -> MemberLayers:
        """One of the members, as an ensemble of its own; the weights are copied."""
        linear = self.linear is not None
        n_in = self.hidden.in_features
        new = MemberLayers(1, n_in, self.n_out, self.dropout.p, linear).to(self.out.device)
        parts = [(new.hidden, self.hidden, HIDDEN)]
        if new.linear is not None and self.linear is not None:
            parts.append((new.linear, self.linear, self.n_out))
        with torch.no_grad():
            new.out.copy_(self.out[member : member + 1])
            for ours, whole, width in parts:
                own = slice(member * width, (member + 1) * width)
                ours.weight.copy_(whole.weight[own])
                ours.bias.copy_(whole.bias[own])
        return new.train(self.training)

    def forward(self, x: Tensor) -> Tensor:
        """(..., n_in) to (..., members, n_out)."""
        hidden = self.dropout(nn.functional.gelu(self.hidden(x)))
        hidden = hidden.unflatten(-1, (self.members, HIDDEN))
        said = torch.einsum("...mh,mho->...mo", hidden, self.out)
        if self.linear is not None:
            said = said + self.linear(x).unflatten(-1, (self.members, self.n_out))
        return said


class SlateHeads(nn.Module):
    """What a user does with a slate, where the log shows it.

    The choice follows Luce's rule (Luce 1959) over exp(appeal) of the items shown and 1 for
    nothing. Leaving and dwell time depend on the state before, and on the feedback given.

    Args:
        config: Sizes; `places`, `leaves` and `dwells` say which of the heads exist.
        n_state: Length of a state.
        n_features: Length of the features of an item asked about.
    """

    def __init__(self, config: BehaviourConfig, n_state: int, n_features: int) -> None:
        super().__init__()
        d, n_levels = config.hidden_size, len(config.level_values or [0.0])
        self.size, self.places, self.levels = d, config.places, n_levels
        drop = config.hidden_dropout_prob
        if config.places:
            self.appeal_base = MemberLayers(1, n_features, 1, drop, linear=True)
            self.taste = nn.Linear(n_state, d)
            self.look = nn.Linear(d, d)
            self.place = nn.Embedding(config.places, 1)
        if config.leaves:
            self.leave_base = nn.Embedding(n_levels + 1, 1)
            self.leave_state = nn.Linear(n_state, d)
            self.leave_level = nn.Embedding(n_levels + 1, d)
            self.leave_out = nn.Linear(d, 1)
        if config.dwells:
            self.dwell_base = MemberLayers(1, n_features + n_levels, 1, drop, linear=True)
            self.dwell_spread = nn.Parameter(torch.zeros(()))

    def appeal(self, state: Tensor, looks: Tensor, features: Tensor, places: Tensor) -> Tensor:
        """Utility of items shown over choosing nothing.

        Args:
            state: Shape (..., n_state).
            looks: `look` of the vectors of the items, shape (..., k, d).
            features: Their scaled features, shape (..., k, n_features).
            places: Their positions in the slate from 0, shape (..., k).

        Returns:
            Shape (..., k).
        """
        taste = self.taste(state)[..., None, :]
        utility = (taste * looks).sum(-1) / math.sqrt(self.size)
        return utility + self.base_appeal(features, places)

    def base_appeal(self, features: Tensor, places: Tensor) -> Tensor:
        """The part of the appeal that hangs on features and position alone, shape (..., k)."""
        place = self.place(places.clamp(max=self.places - 1))[..., 0]
        return self.appeal_base(features)[..., 0, 0] + place

    def leave_logit(self, state: Tensor, level: Tensor) -> Tensor:
        """Log odds of leaving after feedback of this level, or -1 for nothing chosen.

        Args:
            state: Before the response, shape (..., n_state).
            level: Shape (...).
        """
        answer = torch.where(level < 0, self.levels, level)
        hidden = nn.functional.gelu(self.leave_state(state) + self.leave_level(answer))
        return self.leave_base(answer)[..., 0] + self.leave_out(hidden)[..., 0]

    def log_seconds(self, features: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the logarithm of the dwell time.

        Args:
            features: Scaled features of the item, shape (..., n_features).
            level: Feedback given to it, shape (...).
        """
        given = nn.functional.one_hot(level, self.levels).to(features.dtype)
        mean = self.dwell_base(torch.cat([features, given], -1))[..., 0, 0]
        return mean, self.dwell_spread.exp().expand(mean.shape)

    def leave_by_answer(self) -> None:
        """Leave as often as after the same feedback in the log from now on, whatever the state."""
        with torch.no_grad():
            self.leave_out.weight.zero_()
            self.leave_out.bias.zero_()

    def leave_at(self, after_choice: float, after_skip: float | None) -> None:
        """Leave at these rates from now on, whatever the state and the feedback.

        Args:
            after_choice: Probability of leaving after something was chosen, between 0 and 1.
            after_skip: The same after nothing was; None: as after a choice.
        """
        self.leave_by_answer()
        rates = [after_choice] * self.levels
        rates.append(after_choice if after_skip is None else after_skip)
        with torch.no_grad():
            self.leave_base.weight.copy_(torch.tensor(rates).logit()[:, None])

    def dwell_at(self, mean: float, std: float) -> None:
        """Log dwell times of this mean and standard deviation from now on, whatever the item."""
        base = self.dwell_base
        assert base.linear is not None
        with torch.no_grad():
            base.out.zero_()
            base.linear.weight.zero_()
            base.linear.bias.fill_(mean)
            self.dwell_spread.fill_(math.log(std))
