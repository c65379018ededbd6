"""Splits of users by a seeded hash of their id, so that a user's part never depends on others."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

TEST_SHARE = 0.2
VALIDATION_SHARE = 0.1
"""Of the users who are not test users."""

Half = Literal["a", "b"]


@dataclass(frozen=True, eq=False)
class UserSplit:
    """Disjoint parts of a log's users, each in the order in which the users were given.

    Adding users to a log moves no user from one part to another. Only in tiny logs, where
    hashing leaves a part empty, are users moved: those whose hash is nearest to the border.
    From 4 users on no part of `of` is empty, from 5 on no part of `half_of`.

    Attributes:
        fitting: Users to fit on, shape (fitting users,).
        validation: Users for choices made while fitting and training, shape (validation users,).
        test: Users opened once, by the final evaluation, shape (test users,).
    """

    fitting: NDArray[np.str_]
    validation: NDArray[np.str_]
    test: NDArray[np.str_]

    @classmethod
    def of(cls, user_ids: ArrayLike, seed: int = 0) -> UserSplit:
        """Split into 20 % test users, the same for every seed, and by seed 72 % and 8 %.

        Args:
            user_ids: Distinct user ids, shape (users,).
            seed: Decides which of the other users are validation users.

        Raises:
            ValueError: A user id stands more than once.
        """
        rest, test = _test_users(user_ids)
        return cls(*_fitting_and_validation(rest, seed), test)

    @classmethod
    def half_of(cls, user_ids: ArrayLike, half: Half, seed: int = 0) -> UserSplit:
        """The split of one of two halves, for a simulator and a judge that share no user.

        Args:
            user_ids: Distinct user ids of the whole log, shape (users,).
            half: Which half of the users who are not test users.
            seed: Decides who falls into which half, and who is a validation user there.

        Returns:
            Fitting and validation users of this half; the test users are those of `of`.

        Raises:
            ValueError: A user id stands more than once, or `half` is neither "a" nor "b".
        """
        if half not in get_args(Half):
            raise ValueError(f'half must be "a" or "b", got {half!r}')
        rest, test = _test_users(user_ids)
        in_a = _share(rest, f"half/{seed}", 0.5, least=2, rest=2)
        return cls(*_fitting_and_validation(rest[in_a == (half == "a")], seed), test)


def uniform_of(user_ids: ArrayLike, salt: str) -> NDArray[np.float64]:
    """A number in [0, 1) for each user id, decided by the id and the salt alone."""
    names = np.asarray(user_ids, np.str_).tolist()
    hashed = b"".join(blake2b(f"{salt}:{name}".encode(), digest_size=8).digest() for name in names)
    # 53 bits are what a float64 holds: more could round up to 1.
    return (np.frombuffer(hashed, ">u8") >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _test_users(user_ids: ArrayLike) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
    """All other users, and the test users."""
    users = np.asarray(user_ids, np.str_)
    names, counts = np.unique(users, return_counts=True)
    if len(names) < len(users):
        raise ValueError(
            f"user_ids must be distinct, got {str(names[counts.argmax()])!r} {counts.max()} times; "
            "pass the log's user_ids"
        )
    test = _share(users, "test", TEST_SHARE, least=1, rest=min(4, len(users) - 1))
    return users[~test], users[test]


def _fitting_and_validation(
    users: NDArray[np.str_], seed: int
) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
    validation = _share(users, f"validation/{seed}", VALIDATION_SHARE, least=1, rest=1)
    return users[~validation], users[validation]


def _share(
    users: NDArray[np.str_], salt: str, share: float, least: int, rest: int
) -> NDArray[np.bool_]:
    """Users hashed below `share`; at least `least` of them, but leaving `rest` where it can."""
    number = uniform_of(users, salt)
    wanted = min(max(int((number < share).sum()), least), max(len(users) - rest, 0))
    chosen = np.zeros(len(users), np.bool_)
    chosen[np.argsort(number, kind="stable")[:wanted]] = True
    return chosen
