"""Fixtures for the whole tree.

`tiny_users` is a closed-form user model that needs no fit and no torch; `planted_users` is a
BERT user model fitted to a small log with a known rule.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from audience.reward_models.catalogue import Catalogue
from audience.reward_models.histories import Histories
from audience.reward_models.scale import FeedbackScale
from audience.reward_models.users import (
    CHOICE,
    FEEDBACK,
    LEAVE,
    POPULATIONS,
    START_EVENTS,
    Assumptions,
    Population,
    Response,
)

if TYPE_CHECKING:
    from audience.reward_models.bert_users import BertUserModel
    from audience.reward_models.log import InteractionLog
    from audience.reward_models.replay import ReplayUsers

USERS: dict[Population, int] = {"fitting": 40, "validation": 8, "test": 10}


class TinyUsers:
    """Users whose taste is the mean of what they consumed, in a plane of items.

    A user takes item a of a slate with probability exp(taste . a) over the sum of that of the
    slate and of the outside option; the feedback rises with taste . a. All sums run within a
    row, so that a slot's numbers are the same to the last bit in any batch.
    """

    def __init__(self, items: int, levels: int) -> None:
        generator = np.random.default_rng(7)
        angles = generator.uniform(0, 2 * np.pi, items)
        self.vectors = 2 * np.stack([np.cos(angles), np.sin(angles)], axis=1)  # (items, 2)
        self.scale = FeedbackScale(tuple(float(level + 1) for level in range(levels)))
        self._starts = {}
        for population, users in USERS.items():
            events = [
                [(item, int(generator.integers(levels))) for item in row.tolist()]
                for row in generator.permuted(np.tile(np.arange(items), (users, 1)), axis=1)[
                    :, :START_EVENTS
                ]
            ]
            names = [f"{population}-{user}" for user in range(users)]
            self._starts[population] = Histories.from_lists(events, names)
        counts = np.bincount(self._starts["fitting"].items, minlength=items).astype(np.int64)
        self.catalogue = Catalogue(
            np.array([f"i{item}" for item in range(items)]),
            np.array([f"Item number {item}" for item in range(items)]),
            counts,
            np.full(items, self.scale.values[-1] / 2),
        )

    def starts(self, population: Population) -> Histories:
        return self._starts[population]

    def open(self, slots: int, slate_size: int, assumptions: Assumptions) -> TinySessions:
        return TinySessions(self, slots, slate_size, assumptions)


class TinySessions:
    def __init__(
        self, users: TinyUsers, slots: int, slate_size: int, assumptions: Assumptions
    ) -> None:
        self.users, self.stated = users, assumptions.stated
        self.total = np.zeros((slots, 2))
        self.events = np.zeros(slots)
        self.consumed = np.zeros((slots, len(users.catalogue)), np.bool_)
        odds = (1 - self.stated.acceptance) / self.stated.acceptance
        self.outside = slate_size * odds  # a slate of neutral items is accepted that often

    def start(self, slots: NDArray[np.int64], histories: Histories) -> None:
        items, _, lengths = histories.padded()
        used = np.arange(items.shape[1]) < lengths[:, None]
        self.total[slots] = (self.users.vectors[items] * used[:, :, None]).sum(axis=1)
        self.events[slots] = lengths
        self.consumed[slots] = False
        self.consumed[np.repeat(slots, lengths), items[used]] = True

    def respond(
        self,
        slates: NDArray[np.int64],
        uniforms: NDArray[np.float64],
        active: NDArray[np.bool_],
    ) -> Response:
        slots, size = slates.shape
        taste = self.total / np.maximum(self.events, 1)[:, None]
        match = (self.users.vectors[slates] * taste[:, None]).sum(axis=2)  # (slots, size)
        copies = (slates[:, :, None] == slates[:, None, :]) & np.tri(size, k=-1, dtype=np.bool_)
        closed = np.take_along_axis(self.consumed, slates, axis=1) | copies.any(axis=2)
        weights = np.where(closed, 0.0, np.exp(match))
        cumulative = weights.cumsum(axis=1)
        whole = cumulative[:, -1] + self.outside
        place = (cumulative <= (uniforms[:, CHOICE] * whole)[:, None]).sum(axis=1)
        chosen = (place < size) & active
        choice = np.where(chosen, place, -1)
        rows = np.arange(slots)
        item = np.where(chosen, slates[rows, choice], -1)
        liking = 1 / (1 + np.exp(-match[rows, choice]))
        levels = len(self.users.scale)
        noisy = 0.7 * liking + 0.3 * uniforms[:, FEEDBACK]
        level = np.where(chosen, (noisy * levels).astype(np.int64), -1)
        hazard = np.where(chosen, self.stated.leave_after_choice, self.stated.leave_after_skip)
        leave = active & (uniforms[:, LEAVE] < hazard)
        self.total[chosen] += self.users.vectors[item[chosen]]
        self.events[chosen] += 1
        self.consumed[rows[chosen], item[chosen]] = True
        return Response(
            choice,
            item,
            level,
            leave,
            np.where(active, cumulative[:, -1] / whole, 0.0),
            np.where(chosen, 1.0 + liking, np.nan),
            np.zeros(slots),
        )

    def get_state(self) -> dict[str, NDArray[Any]]:
        return {name: getattr(self, name).copy() for name in ("total", "events", "consumed")}

    def set_state(self, state: dict[str, NDArray[Any]]) -> None:
        for name, value in state.items():
            getattr(self, name)[:] = value


@pytest.fixture(scope="session")
def make_tiny_users() -> Callable[..., TinyUsers]:
    """A maker of closed-form user models with `items` items and `levels` feedback levels."""

    def make(items: int = 30, levels: int = 5) -> TinyUsers:
        return TinyUsers(items, levels)

    return make


@pytest.fixture(scope="session")
def tiny_users(make_tiny_users: Callable[..., TinyUsers]) -> TinyUsers:
    """A closed-form user model of 30 items, 5 levels, 40 / 8 / 10 users with 8 events each."""
    return make_tiny_users()


def real_level(user: int, item: int) -> int:
    """What user number `user` (over all populations) of `make_replay_users` gives to an item."""
    return (3 * user + item) % 5


@pytest.fixture(scope="session")
def make_replay_users() -> Callable[[dict[Population, list[int]]], ReplayUsers]:
    """A maker of replayed users with these numbers of events among 80 items, 5 levels."""
    from audience.reward_models.replay import ReplayUsers

    def make(lengths: dict[Population, list[int]]) -> ReplayUsers:
        generator = np.random.default_rng(0)
        histories, user = {}, 0
        for population in POPULATIONS:
            events = []
            for length in lengths.get(population, []):
                items = generator.permutation(80)[:length].tolist()
                events.append([(item, real_level(user, item)) for item in items])
                user += 1
            histories[population] = Histories.from_lists(events)
        catalogue = Catalogue(
            np.array([f"i{item}" for item in range(80)]),
            np.array([f"Item number {item}" for item in range(80)]),
            np.ones(80, np.int64),
            np.full(80, 3.0),
        )
        return ReplayUsers(catalogue, FeedbackScale((1.0, 2.0, 3.0, 4.0, 5.0)), histories)

    return make


@pytest.fixture(scope="session")
def replay_users(make_replay_users: Callable[[dict[Population, list[int]]], ReplayUsers]) -> Any:
    """6 fitting, 2 validation and 5 test users with 48 to 80 events."""
    return make_replay_users(
        {"fitting": [48, 50, 55, 60, 70, 80], "validation": [50, 51], "test": [48, 50, 60, 61, 80]}
    )


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache directory of the test run's own."""
    before = os.environ.get("AUDIENCE_CACHE")
    path = tmp_path_factory.mktemp("cache")
    os.environ["AUDIENCE_CACHE"] = str(path)
    yield path
    if before is None:
        del os.environ["AUDIENCE_CACHE"]
    else:
        os.environ["AUDIENCE_CACHE"] = before


def planted_frames(users: int = 160, seed: int = 0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A log with a rule: half of the users love comets and hate ferns, the others the reverse.

    Even items are comets, odd items ferns. Everyone meets 14 of 40 items, 11 of which they
    love (5) and 3 of which they hate (1 or 2).
    """
    rng = np.random.default_rng(seed)
    kinds = {0: np.arange(0, 40, 2), 1: np.arange(1, 40, 2)}
    rows = []
    for user in range(users):
        loved, hated = kinds[user % 2], kinds[1 - user % 2]
        met = [(i, 5.0) for i in rng.choice(loved, 11, replace=False)]
        met += [(i, float(rng.integers(1, 3))) for i in rng.choice(hated, 3, replace=False)]
        for time, at in enumerate(rng.permutation(len(met))):
            rows.append((f"u{user}", f"i{met[at][0]}", met[at][1], 1000.0 + time))
    interactions = pl.DataFrame(
        rows, schema=["user_id", "item_id", "feedback", "timestamp"], orient="row"
    )
    kind = ["a comet in the night sky", "a fern in the green wood"]
    items = pl.DataFrame(
        {
            "item_id": [f"i{i}" for i in range(40)],
            "title": [f"{kind[i % 2]} {i}" for i in range(40)],
        }
    )
    return interactions, items


@pytest.fixture(scope="session")
def planted_log() -> InteractionLog:
    from audience.reward_models.log import InteractionLog

    return InteractionLog.from_frames(*planted_frames(), name="planted")


@pytest.fixture(scope="session")
def planted_directory(
    planted_log: InteractionLog, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Directory of a BERT user model fitted to `planted_log`; not to be changed."""
    from audience.reward_models.bert_users import BertUserModel

    directory = tmp_path_factory.mktemp("planted") / "users"
    BertUserModel.fit(planted_log, directory, preset="tiny", device="cpu", verbose=False)
    return directory


@pytest.fixture(scope="session")
def planted_users(planted_directory: Path) -> BertUserModel:
    from audience.reward_models.bert_users import BertUserModel

    return BertUserModel.from_pretrained(planted_directory)
