"""Who begins a session, and with which events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from audience.reward_models.catalogue import Catalogue
from audience.reward_models.histories import Histories
from audience.reward_models.scale import FeedbackScale
from audience.reward_models.users import POPULATIONS, Population, UserModel

Event: TypeAlias = tuple[int, int]
"""Catalogue index and feedback level."""

GIVEN = "given"
"""Pseudonym of a user who begins with a hand-written history."""


class Starts:
    """The users of a user model and their first events, and who of them is met.

    Attributes:
        everyone: First events of the users of all populations, at least one a user.
        members: Rows of `everyone` that sessions are drawn from, shape (members,).
        name_type: Type of strings that hold any pseudonym.

    Raises:
        ValueError: The population has no users, or one of a list is unknown.
    """

    def __init__(
        self, users: UserModel, population: Population | Sequence[str], start: int
    ) -> None:
        parts = {name: users.starts(name).at_least(1).first(start) for name in POPULATIONS}
        self.everyone = _joined(list(parts.values()))
        names = self.everyone.users.tolist()
        self.name_type = np.promote_types(self.everyone.users.dtype, f"<U{len(GIVEN)}")
        self._row = {name: row for row, name in enumerate(names)}
        if isinstance(population, str):
            before = POPULATIONS.index(population)
            begin = sum(len(parts[earlier]) for earlier in POPULATIONS[:before])
            self.members = begin + np.arange(len(parts[POPULATIONS[before]]))
        else:
            self.members = np.array([self.row(name, "population") for name in population], np.int64)
        if len(self.members) == 0:
            raise ValueError(
                f"population must have users with events, but the user model has none for "
                f"{population!r}; pick another of {', '.join(POPULATIONS)}"
            )

    def __len__(self) -> int:
        return len(self.members)

    def row(self, name: object, argument: str) -> int:
        """Row of the user of this pseudonym.

        Raises:
            ValueError: There is none; the message names the argument.
        """
        if not isinstance(name, str) or name not in self._row:
            known = ", ".join([*self._row][:3])
            raise ValueError(
                f"{argument} must name one of the user model's {len(self._row)} users ({known}, "
                f"…), got {name!r}"
            )
        return self._row[name]


@dataclass(frozen=True)
class Wishes:
    """What a reset was asked to begin with, one entry a slot.

    Attributes:
        rows: Row of `Starts.everyone`, -1 where none was asked for, shape (slots,).
        histories: The events of a hand-written history, None where there is none.
    """

    rows: NDArray[np.int64]
    histories: list[list[Event] | None]

    @classmethod
    def of(
        cls,
        options: dict[str, Any],
        slots: int,
        starts: Starts,
        catalogue: Catalogue,
        scale: FeedbackScale,
        longest: int,
        repeats: bool,
    ) -> Wishes | None:
        """Read `user` and `history` of reset options; None where neither is there.

        Args:
            options: As given to `reset`.
            slots: Number of environments.
            starts: The users.
            catalogue: The items.
            scale: The feedback levels.
            longest: Most events of a history.
            repeats: Whether an item may stand twice in one.

        Raises:
            ValueError: An entry breaks a rule; the message names it.
        """
        if "user" not in options and "history" not in options:
            return None
        users = _for_each(options.get("user"), slots, "user", isinstance(options.get("user"), str))
        given = options.get("history")
        written = _for_each(given, slots, "history", _is_one_history(given))
        both = [a is not None and b is not None for a, b in zip(users, written, strict=True)]
        if any(both):
            raise ValueError(
                f"options['user'] and options['history'] exclude each other, but environment "
                f"{both.index(True)} has both; give one of them"
            )
        rows = [-1 if name is None else starts.row(name, "options['user']") for name in users]
        histories = [
            None if one is None else _events(one, catalogue, scale, longest, repeats)
            for one in written
        ]
        return cls(np.array(rows, np.int64), histories)


def written_histories(histories: list[list[Event]]) -> Histories:
    """Hand-written histories as those of users."""
    return Histories.from_lists(histories, [GIVEN] * len(histories))


def _for_each(value: Any, slots: int, key: str, one: bool) -> list[Any]:
    """The value for each slot: one for all, or a list of one (or None) each."""
    if value is None or one:
        return [value] * slots
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence) or len(value) != slots:
        what = {"user": "a pseudonym", "history": "a list of (item id, feedback) pairs"}[key]
        raise ValueError(
            f"options[{key!r}] must be {what}, or a list of one such (or None) for each of the "
            f"{slots} environments, got {value!r}"
        )
    return list(value)


def _is_one_history(value: Any) -> bool:
    """Whether it is a list of pairs, rather than of histories."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return False
    entry = value[0] if len(value) else None
    return isinstance(entry, Sequence) and len(entry) > 0 and isinstance(entry[0], str)


def _events(
    history: Any, catalogue: Catalogue, scale: FeedbackScale, longest: int, repeats: bool
) -> list[Event]:
    rule = "options['history'] must hold"
    if not isinstance(history, Sequence) or isinstance(history, str):
        raise ValueError(f"{rule} lists of (item id, feedback) pairs, got {history!r}")
    if not 1 <= len(history) <= longest:
        raise ValueError(f"{rule} from 1 to {longest} events a user, got {len(history)}")
    events: list[Event] = []
    met: set[str] = set()
    for pair in history:
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise ValueError(f"{rule} (item id, feedback) pairs, got {pair!r}")
        item, value = pair
        if not isinstance(item, str) or item not in catalogue.index:
            raise ValueError(f"{rule} ids of items of the catalogue, got {item!r}")
        if item in met and not repeats:
            raise ValueError(f"{rule} no item twice, for items are consumed once; got {item!r}")
        met.add(item)
        events.append((catalogue.index[item], _level(value, scale, rule)))
    return events


def _level(value: Any, scale: FeedbackScale, rule: str) -> int:
    number = isinstance(value, (int, float, np.integer, np.floating)) and isfinite(value)
    low, high = scale.values[0], scale.values[-1]
    # The levels of a binned scale are means of values that reach further.
    if not number or (scale.edges is None and not low <= value <= high):
        raise ValueError(
            f"{rule} feedback in the log's unit, from {low:g} to {high:g}, got {value!r}"
        )
    return int(scale.level_of(np.array([value]))[0])


def _joined(parts: list[Histories]) -> Histories:
    lengths = np.concatenate([part.lengths for part in parts])
    return Histories(
        np.concatenate([part.users for part in parts]),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.concatenate([part.items for part in parts]),
        np.concatenate([part.levels for part in parts]),
    )
