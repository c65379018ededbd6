"""Greedy on the user model: what to beat by planning, and what exploits the model's errors."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from audience.agents.base import ScoringAgent
from audience.reward_models.histories import Histories
from audience.reward_models.users import Assumptions, UserModel

RESCORED = 200
"""Items, the likeliest choices, whose feedback the user model is asked for."""


@runtime_checkable
class ScoringUsers(UserModel, Protocol):
    """A user model that can say what it expects of an item."""

    def score(
        self,
        items: NDArray[np.int64],
        levels: NDArray[np.int64],
        lengths: NDArray[np.int64],
        assumptions: Assumptions,
        slate_size: int,
        top: int = RESCORED,
    ) -> NDArray[np.float32]:
        """Expected reward of each item if shown, shape (n, items); -inf where not computed.

        Args:
            items: Catalogue indices, oldest first, shape (n, history).
            levels: Feedback levels, shape (n, history).
            lengths: Used places, shape (n,).
            assumptions: The environment's.
            slate_size: Items shown together.
            top: How many items, the likeliest choices, to compute it for.
        """
        ...


class GreedyAgent(ScoringAgent):
    """Recommends what promises the highest immediate reward under the user model.

    Reward is the probability of a choice times the expected scaled feedback, the environment's
    default.

    Args:
        users: The user model to believe.
        assumptions: The environment's; the defaults where None.
        slate_size: Items at a step.
        rescored: Items, the likeliest choices, to ask the user model about.

    Raises:
        TypeError: The user model cannot score.
    """

    def __init__(
        self,
        users: UserModel,
        assumptions: Assumptions | None = None,
        slate_size: int = 1,
        rescored: int = RESCORED,
    ) -> None:
        if not isinstance(users, ScoringUsers):
            raise TypeError(
                f"users must be a user model with a method `score` (BertUserModel has one), "
                f"got {type(users).__name__}"
            )
        super().__init__(len(users.catalogue), slate_size)
        self.users = users
        self.assumptions = assumptions if assumptions is not None else Assumptions()
        self.rescored = rescored

    def scores(
        self, items: NDArray[np.int64], levels: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> NDArray[np.floating[Any]]:
        """The user model's expectation, shape (n, items)."""
        return self.users.score(
            items,
            levels,
            lengths,
            self.assumptions,
            self.slate_size,
            top=max(self.rescored, self.slate_size),
        )


@runtime_checkable
class RankingUsers(UserModel, Protocol):
    """A user model that can say what a user would choose next from the whole catalogue."""

    def rank_items(self, contexts: Histories) -> NDArray[np.float32]:
        """Utilities of all items after each context, shape (users, items); consumed -inf."""
        ...


class ChoiceAgent(ScoringAgent):
    """Recommends what the user model's choice head, a sequential model, thinks is taken next.

    Feedback plays no part. It stands in for SASRec and BERT4Rec: RecTools, which has them, does not
    install beside this project's other dependencies.

    Args:
        users: The user model to believe.
        slate_size: Items at a step.

    Raises:
        TypeError: The user model cannot rank the catalogue.
    """

    def __init__(self, users: UserModel, slate_size: int = 1) -> None:
        if not isinstance(users, RankingUsers):
            raise TypeError(
                f"users must be a user model with a method `rank_items` (BertUserModel has one), "
                f"got {type(users).__name__}"
            )
        super().__init__(len(users.catalogue), slate_size)
        self.users = users

    def scores(
        self, items: NDArray[np.int64], levels: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> NDArray[np.floating[Any]]:
        """Utilities of the choice head, shape (n, items)."""
        return self.users.rank_items(Histories.from_padded(items, levels, lengths))
