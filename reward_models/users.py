"""The contract of user models: what an environment asks of simulated users.

A `UserModel` is fitted once; `open` starts a block of sessions in it, one a slot, which all
respond together. This file imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from audience.reward_models.catalogue import Catalogue
from audience.reward_models.histories import Histories
from audience.reward_models.scale import FeedbackScale

Population = Literal["fitting", "validation", "test"]
POPULATIONS: tuple[Population, ...] = get_args(Population)

START_EVENTS = 8
"""Real events at the start of a session: enough to tell users apart, few enough to leave
taste to be found."""

CHOICE, FEEDBACK, LEAVE, DWELL, DRAWS = 0, 1, 2, 3, 4
"""Columns of the uniforms that a response is drawn with, and their number."""


@dataclass(frozen=True)
class Assumptions:
    """What a log without impressions or sessions cannot teach, and is therefore stated.

    None means: as learned, where the users learned it from their log, else the value that
    `stated` gives. A number stands in place of what was learned.

    Attributes:
        acceptance: How often a slate drawn by popularity is accepted, 0…1 (exclusive). It sets
            the utility of the outside option (choosing nothing).
        popularity_discount: Part of log-popularity taken out of the utilities, 0…1: a log of
            ratings mixes exposure with taste. No part of what was learned from impressions.
        leave_after_choice: Probability of leaving after something was chosen, 0…1.
        leave_after_skip: Probability of leaving after nothing was chosen, 0…1.
    """

    acceptance: float | None = None
    popularity_discount: float = 0.0
    leave_after_choice: float | None = None
    leave_after_skip: float | None = None

    def __post_init__(self) -> None:
        if self.acceptance is not None and not 0 < self.acceptance < 1:
            raise ValueError(
                f"acceptance must be a number between 0 and 1, both excluded, "
                f"got {self.acceptance!r}"
            )
        for name in ("popularity_discount", "leave_after_choice", "leave_after_skip"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} must be a number from 0 to 1, got {value!r}")

    @property
    def stated(self) -> Stated:
        """These, with the default in place of each None."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        return Stated(**given)


@dataclass(frozen=True)
class Stated:
    """Assumptions as numbers; see `Assumptions`."""

    acceptance: float = 0.4
    popularity_discount: float = 0.0
    leave_after_choice: float = 0.03
    leave_after_skip: float = 0.15


@dataclass(frozen=True)
class Response:
    """What each user did with the slate shown, one row a slot.

    Attributes:
        choice: Position in the slate, or -1 where nothing was chosen, shape (slots,), int64.
        item: Catalogue index of the chosen item, or -1, shape (slots,), int64.
        level: Feedback level given to it, or -1, shape (slots,), int64.
        leave: Whether the user leaves after this step, shape (slots,), bool.
        accept_probability: Probability that something of the slate is chosen, shape (slots,).
        dwell_seconds: Time spent with the chosen item, shape (slots,); nan where nothing was
            chosen, and everywhere for users that learned no dwell times.
        disagreement: Standard deviation, between the members of an ensemble, of the expected
            feedback on the chosen item (scaled to 0…1), shape (slots,); 0 where nothing was
            chosen, and for users of one member. Of `CheckedUsers`, about the whole slate.
    """

    choice: NDArray[np.int64]
    item: NDArray[np.int64]
    level: NDArray[np.int64]
    leave: NDArray[np.bool_]
    accept_probability: NDArray[np.float64]
    dwell_seconds: NDArray[np.float64]
    disagreement: NDArray[np.float64]

    @classmethod
    def nothing(cls, slots: int) -> Response:
        """That of slots which take no part; of arrays that may be filled in."""
        none, zeros = np.full(slots, -1, np.int64), np.zeros(slots)
        return cls(
            none,
            none.copy(),
            none.copy(),
            np.zeros(slots, np.bool_),
            zeros,
            np.full(slots, np.nan),
            zeros.copy(),
        )


class Sessions(Protocol):
    """A block of running sessions, one a slot.

    They may have more, which environments use where it is there: `get_state() -> dict` (copies
    of all that later responses depend on) and `set_state(state)`, for saving and copying; and
    `open_items(slots)`, after `start`, the only items that these sessions may be shown, bool
    (slots, items).
    """

    def start(self, slots: NDArray[np.int64], histories: Histories) -> None:
        """Begin a new session in each of these slots, with one history a slot."""
        ...

    def respond(
        self,
        slates: NDArray[np.int64],
        uniforms: NDArray[np.float64],
        active: NDArray[np.bool_],
    ) -> Response:
        """Show every active slot its slate; draw the response; remember it as history.

        An item that the user consumed before is never chosen, nor is the second copy of an
        item within a slate.

        Args:
            slates: Catalogue indices, shape (slots, slate size), int64.
            uniforms: Numbers in [0, 1) that decide all draws, shape (slots, DRAWS).
            active: Which slots take part, shape (slots,); the others keep their state and
                get choice, item and level -1, leave False, dwell_seconds nan, and 0 else.
        """
        ...


@runtime_checkable
class UserModel(Protocol):
    """Simulated users: a catalogue, a feedback scale, start histories and responses.

    They may have more: `text_vectors`, shape (items, dim), which environments look embeddings up
    in, and `allows_repeats`, true where consumed items may be chosen again.
    """

    @property
    def catalogue(self) -> Catalogue:
        """The items that can be shown."""
        ...

    @property
    def scale(self) -> FeedbackScale:
        """The levels of the feedback they give."""
        ...

    def starts(self, population: Population) -> Histories:
        """The first events of the users of a population, at most START_EVENTS a user."""
        ...

    def open(self, slots: int, slate_size: int, assumptions: Assumptions) -> Sessions:
        """A block of `slots` sessions that are shown slates of `slate_size` items."""
        ...


def check_alike(name: str, other: UserModel | None, users: UserModel) -> None:
    """Refuse a user model of other items, or another scale, than the users it stands beside.

    Args:
        name: What the other one is called in messages.
        other: The other one; None is never refused.
        users: Whom it stands beside.

    Raises:
        ValueError: The two differ; the message says in what.
    """
    if other is None:
        return
    own, theirs = users.catalogue.item_ids, other.catalogue.item_ids
    if not np.array_equal(own, theirs):
        strange = sorted(set(theirs.tolist()) - set(own.tolist()))[:1] or ["another order"]
        raise ValueError(
            f"{name} must have the catalogue of the users it stands beside ({len(own)} items), "
            f"got one of {len(theirs)} items ({strange[0]}); fit it to the same log, half and seed"
        )
    if users.scale != other.scale:
        raise ValueError(
            f"{name} must have the feedback scale of the users it stands beside, "
            f"{users.scale.values}, got {other.scale.values}; fit it to the same log, half and seed"
        )


def load_users(users: str | Path | UserModel) -> UserModel:
    """The user model in a directory, or the model itself where one is given.

    Raises:
        UserModelError: The directory is missing, damaged or of another version.
    """
    if not isinstance(users, (str, Path)):
        if not isinstance(users, UserModel):
            raise TypeError(
                f"users must be a directory or a user model (catalogue, scale, starts, open), "
                f"got {type(users).__name__}"
            )
        return users
    from audience.reward_models.user_files import is_users, read_about

    if is_users(Path(users)) and read_about(Path(users))["kind"] != "bert":
        from audience.reward_models.judges import load_judge

        return load_judge(users)
    from audience.reward_models.bert_users import BertUserModel  # torch only where needed

    return BertUserModel.from_pretrained(users)
