"""Users whom others check: what witnesses, fitted to other samples, disagree on is not known."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audience.reward_models.about_users import NOBODY
from audience.reward_models.bert_users import BertUserModel
from audience.reward_models.histories import Histories
from audience.reward_models.sessions import BertSessions
from audience.reward_models.users import Assumptions, Response, check_alike

ASKED = 50
"""Items at most, the likeliest choices, that witnesses are asked about in `score`: each costs a
question to each witness, and greedy recommends one of these in 99 % of the states of movielens."""


class CheckedUsers:
    """A user model that lives as it does alone, and says where witnesses disagree with it.

    The members of one user model differ in the feedback that they expect, while choice and tower
    are common to all: an agent that lives off errors of the choice meets no disagreement. So
    here `Response.disagreement` is the standard deviation, between the users and their witnesses,
    of the expected reward of the slate shown, choice and feedback alike (0 where nobody is
    active). A step costs as much as one of all of them together.

    Args:
        users: Who live.
        witnesses: Users of the same log, catalogue and feedback scale, each fitted to another
            sample of its users.
        pessimism: How often the disagreement about an item, shown alone, is subtracted in `score`,
            at least 0.

    Raises:
        ValueError: A witness knows other items or levels, or pessimism is negative.
    """

    def __init__(
        self, users: BertUserModel, witnesses: Sequence[BertUserModel], pessimism: float = 0.0
    ) -> None:
        if not pessimism >= 0 or not np.isfinite(pessimism):
            raise ValueError(f"pessimism must be a finite number of at least 0, got {pessimism!r}")
        for number, one in enumerate(witnesses):
            check_alike(f"witness {number}", one, users)
        self.users, self.witnesses, self.pessimism = users, tuple(witnesses), pessimism
        self.card = {**users.card, "witnesses": [one.card for one in witnesses]}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "users":  # asked for before they are set, in copies
            raise AttributeError(name)
        return getattr(self.users, name)

    def open(self, slots: int, slate_size: int, assumptions: Assumptions) -> CheckedSessions:
        """A block of `slots` sessions that are shown slates of `slate_size` items."""
        everyone = (self.users, *self.witnesses)
        return CheckedSessions([one.open(slots, slate_size, assumptions) for one in everyone])

    @torch.inference_mode()
    def score(
        self,
        items: NDArray[np.int64],
        levels: NDArray[np.int64],
        lengths: NDArray[np.int64],
        assumptions: Assumptions,
        slate_size: int,
        top: int = 200,
    ) -> NDArray[np.float32]:
        """Expected reward of each item shown alone, less `pessimism` times the disagreement.

        See `BertUserModel.score` for the arguments; -inf beyond the top (at most ASKED) and for
        consumed items.
        """
        if not self.pessimism:
            return self.users.score(items, levels, lengths, assumptions, slate_size, top)
        histories = Histories.from_padded(items, levels, lengths)
        names = np.full(len(histories), NOBODY)  # numbers could be names of other users
        histories = dataclasses.replace(histories, users=names)
        among, own = _alone(
            self.users, histories, assumptions, top=min(top, max(ASKED, slate_size))
        )
        said = [own, *(_alone(w, histories, assumptions, among)[1] for w in self.witnesses)]
        apart = torch.stack(said).std(0, correction=0)
        value = torch.where(own.isneginf(), own, own - self.pessimism * apart)
        scores = torch.full((len(histories), len(self.catalogue)), -torch.inf, device=value.device)
        return np.asarray(scores.scatter(1, among, value.to(scores)).cpu().numpy())


class CheckedSessions:
    """A block of sessions of checked users; see `audience.reward_models.users.Sessions`.

    Args:
        sessions: Those of the users, then those of each witness, who are shown the same.
    """

    def __init__(self, sessions: Sequence[BertSessions]) -> None:
        self.sessions = sessions

    def start(self, slots: NDArray[np.int64], histories: Histories) -> None:
        """Begin a new session in each of these slots, with one history a slot."""
        for one in self.sessions:
            one.start(slots, histories)

    def respond(
        self,
        slates: NDArray[np.int64],
        uniforms: NDArray[np.float64],
        active: NDArray[np.bool_],
    ) -> Response:
        """Show every active slot its slate; the users answer, the witnesses remember it too."""
        live = np.flatnonzero(active)
        said = np.stack([one.expected(live, slates[live]) for one in self.sessions])
        users, *witnesses = self.sessions
        response = users.respond(slates, uniforms, active)
        rows = np.flatnonzero(response.choice >= 0)
        for one in witnesses:
            one.remember(rows, response.item[rows], response.level[rows])
        disagreement = np.zeros(len(slates))
        disagreement[live] = said.std(0)
        return dataclasses.replace(response, disagreement=disagreement)

    def get_state(self) -> list[Any]:
        """Copies of all that later responses depend on."""
        return [one.get_state() for one in self.sessions]

    def set_state(self, state: list[Any]) -> None:
        """Go on from what `get_state` gave."""
        for one, own in zip(self.sessions, state, strict=True):
            one.set_state(own)


def _alone(
    users: BertUserModel,
    histories: Histories,
    assumptions: Assumptions,
    among: Tensor | None = None,
    top: int = 0,
) -> tuple[Tensor, Tensor]:
    """Items and the expected reward of showing each alone, both (n, items).

    Args:
        users: Who are asked.
        histories: What they did.
        assumptions: What is assumed of them.
        among: The items; None: the `top` likeliest choices.
        top: How many these are.
    """
    engine = users.engine(assumptions.popularity_discount)
    states = engine.new_states(len(histories))
    rows = torch.arange(len(histories), device=users.device)
    engine.encode(states, rows, histories)
    worth = engine.worth(states, rows)
    if among is None:
        among = worth.topk(min(top, worth.shape[1]), dim=1).indices
    utility = worth.gather(1, among)
    chosen = torch.sigmoid(utility - users.outside_option(1, assumptions))
    shares = engine.feedback(states, rows, among).mean(2)  # (n, items, levels)
    value = chosen * (shares @ torch.from_numpy(users.scale.scaled).to(shares))
    return among, value.masked_fill(utility.isneginf(), -torch.inf)
