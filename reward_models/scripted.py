"""Scripted users: closed-form users whose truth is known, against which fitting is tested.

They need no fit and no torch. Their state is the topics of the last events, so that the best
policy is computable (`audience.reward_models.scripted_plan`), and everything that a response
depends on can be learned from a log.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from audience.reward_models.catalogue import Catalogue
from audience.reward_models.histories import Histories
from audience.reward_models.scale import FeedbackScale
from audience.reward_models.scripted_habits import LEVELS, Habits, drawn_level
from audience.reward_models.scripted_sessions import ScriptedSessions
from audience.reward_models.users import POPULATIONS, START_EVENTS, Assumptions, Population

if TYPE_CHECKING:
    from audience.reward_models.log import InteractionLog
    from audience.reward_models.scripted_log import LoggingPolicy

F64 = NDArray[np.float64]

TOPICS: dict[str, tuple[str, ...]] = {
    "comedy": ("clowns", "pranks", "a wedding", "laughter"),
    "crime": ("a detective", "a heist", "poison", "the police"),
    "space": ("rockets", "a distant planet", "astronauts", "comets"),
    "opera": ("arias", "a soprano", "an overture", "the stage"),
    "cooking": ("bread", "spices", "a kitchen", "soup"),
    "sailing": ("ropes", "a storm at sea", "an island", "the harbour"),
    "gardening": ("roses", "compost", "a greenhouse", "bees"),
    "chess": ("a gambit", "endgames", "a grandmaster", "the clock"),
}
"""Names of the topics, and what items of each are about: their text names their topic."""

POPULATION_USERS: dict[Population, int] = {"fitting": 400, "validation": 50, "test": 100}

POPULARITY_EXPONENT = 0.8
"""Exposure of the item of rank r falls like r to minus this, as in real logs (Zipf)."""

TASTE_CONCENTRATION = 0.5
"""Of the Dirichlet distribution of a newborn user's interests: below 1, most like few topics."""


class ScriptedUsers:
    """Users whose responses follow `Habits`; a `UserModel` without fit, for tests and as a truth.

    All of a user's state is in the events that the environment shows: whoever has the same
    history responds alike. Users differ by their start histories, drawn from interests that
    they are born with. Items of one topic are alike but for their popularity, which decides
    what newborn users and a `popularity` log meet, and nothing else.

    A consumed item (unless `allows_repeats`), and the second copy of an item in a slate, are never
    chosen. Choice follows
    Luce's rule over the slate and an outside option of utility 0. The users bring laws of their
    own for all that `Assumptions` states, and ignore all its fields.

    Args:
        n_items: Size of the catalogue, at least twice START_EVENTS; item i is of topic
            `i % n_topics`.
        n_topics: Topics, 2 to the number of TOPICS.
        seed: Of items' popularity and of users' births.
        habits: The law of their responses.
        allows_repeats: Whether a consumed item may be chosen again (`repeats="allowed"`).

    Attributes:
        topics: Topic of each item, shape (items,), int64.

    Raises:
        ValueError: A number is out of range.
    """

    def __init__(
        self,
        n_items: int = 200,
        n_topics: int = 4,
        *,
        seed: int = 0,
        habits: Habits | None = None,
        allows_repeats: bool = False,
    ) -> None:
        if not 2 <= n_topics <= len(TOPICS):
            raise ValueError(f"n_topics must be from 2 to {len(TOPICS)}, got {n_topics!r}")
        if n_items < 2 * START_EVENTS:
            raise ValueError(
                f"n_items must be at least {2 * START_EVENTS} (users start with {START_EVENTS} "
                f"events), got {n_items!r}"
            )
        self.habits = habits if habits is not None else Habits()
        self.n_topics, self.seed, self.allows_repeats = n_topics, seed, allows_repeats
        self.topics = np.arange(n_items) % n_topics
        self.scale = FeedbackScale(tuple(float(level + 1) for level in range(LEVELS)))
        generator = np.random.default_rng([seed, 0])
        ranks = generator.permutation(n_items) + 1.0
        self._exposure = ranks**-POPULARITY_EXPONENT / (ranks**-POPULARITY_EXPONENT).sum()
        self._starts = {
            name: self.newborn(POPULATION_USERS[name], np.random.default_rng([seed, 1, part]), name)
            for part, name in enumerate(POPULATIONS)
        }
        self.catalogue = self._new_catalogue()

    # The contract of user models

    def starts(self, population: Population) -> Histories:
        """The first events of the users of a population, START_EVENTS a user."""
        return self._starts[population]

    def open(
        self, slots: int, slate_size: int, assumptions: Assumptions | None = None
    ) -> ScriptedSessions:
        """A block of `slots` sessions; `assumptions` changes nothing (see the class)."""
        del assumptions, slate_size
        return ScriptedSessions(self, slots)

    # What agents, logs and benchmarks ask

    def score(
        self,
        items: NDArray[np.int64],
        levels: NDArray[np.int64],
        lengths: NDArray[np.int64],
        assumptions: Assumptions | None = None,
        slate_size: int = 1,
        top: int | None = None,
    ) -> NDArray[np.float32]:
        """Expected reward of each item, shown alone, after each history, shape (n, items).

        -inf for consumed items, unless they may be chosen again. `levels`, `assumptions`,
        `slate_size` and `top` change nothing: the truth needs none of them.
        """
        del levels, assumptions, slate_size, top
        utility = self.habits.utilities(self.recent(items, lengths), self.n_topics)
        value = expit(utility) * (self.habits.level_shares(utility) @ self.scale.scaled)
        scores = value[:, self.topics]
        if not self.allows_repeats:
            rows, places = np.nonzero(np.arange(items.shape[1]) < lengths[:, None])
            scores[rows, items[rows, places]] = -np.inf
        return scores.astype(np.float32)

    def recent(self, items: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """Topics of the last `memory` events, latest first, -1 for none, shape (n, memory).

        Args:
            items: Catalogue indices, oldest first, left-aligned, shape (n, history).
            lengths: Used places, shape (n,).
        """
        place = lengths[:, None] - 1 - np.arange(self.habits.memory)
        if items.shape[1] == 0:
            return np.full(place.shape, -1, np.int64)
        found = self.topics[np.take_along_axis(items, np.maximum(place, 0), axis=1)]
        return np.where(place >= 0, found, -1)

    def newborn(self, users: int, generator: np.random.Generator, prefix: str) -> Histories:
        """First events of new users: topics by the interests they are born with.

        Args:
            users: How many.
            generator: Of interests, items and feedback.
            prefix: Of their names.
        """
        born = generator.dirichlet(np.full(self.n_topics, TASTE_CONCENTRATION), users)
        weight = np.log(np.maximum(born, 1e-6))[:, self.topics] + np.log(self._exposure)
        # Gumbel's trick: the largest of log-weight plus noise, in order, are draws without
        # replacement.
        keys = weight + generator.gumbel(size=weight.shape)
        items = np.argsort(-keys, axis=1)[:, :START_EVENTS]
        levels = np.zeros_like(items)
        for event in range(START_EVENTS):
            recent = self.recent(items, np.full(users, event))
            utility = self.habits.utilities(recent, self.n_topics)
            own = utility[np.arange(users), self.topics[items[:, event]]]
            levels[:, event] = drawn_level(self.habits.level_shares(own), generator.random(users))
        histories = Histories.from_padded(items, levels, np.full(users, START_EVENTS))
        names = np.array([f"{prefix}-{user}" for user in range(users)], dtype=np.str_)
        return dataclasses.replace(histories, users=names)

    def log(
        self,
        policy: LoggingPolicy = "uniform",
        *,
        users: int = 500,
        sessions: int = 2,
        slate_size: int = 1,
        step_limit: int = 60,
        seed: int = 0,
    ) -> InteractionLog:
        """A log of new users under a logging policy; see `scripted_log.write_frame`.

        Args:
            policy: Who chooses what is shown: "uniform" or "popularity".
            users: How many new users.
            sessions: Of each user.
            slate_size: Items shown at a step.
            step_limit: Of a session.
            seed: Of births, slates and responses.

        Raises:
            ValueError: A setting is out of range, or the catalogue too small for the sessions.
        """
        from audience.reward_models.scripted_log import write_log  # polars only where needed

        return write_log(
            self,
            policy,
            new_users=users,
            sessions=sessions,
            slate_size=slate_size,
            step_limit=step_limit,
            seed=seed,
        )

    def with_items(
        self, item_ids: NDArray[np.str_], starts: dict[Population, Histories]
    ) -> ScriptedUsers:
        """The same users with part of the catalogue, in another order, and other starts.

        Args:
            item_ids: Ids of catalogue items, in the new order.
            starts: First events of each population, in indices of the new catalogue.

        Raises:
            ValueError: An id is not in the catalogue.
        """
        unknown = [item for item in item_ids.tolist() if item not in self.catalogue.index]
        if unknown:
            raise ValueError(f"item_ids must be ids of the catalogue, got {unknown[0]!r}")
        kept = np.array([self.catalogue.index[item] for item in item_ids.tolist()], np.int64)
        other = object.__new__(ScriptedUsers)
        other.__dict__.update(self.__dict__)
        other.topics, other._exposure = self.topics[kept], self._exposure[kept]
        other._starts = dict(starts)
        catalogue = self.catalogue
        other.catalogue = Catalogue(
            catalogue.item_ids[kept],
            catalogue.texts[kept],
            catalogue.counts[kept],
            catalogue.mean_feedback[kept],
        )
        return other

    @property
    def exposure(self) -> F64:
        """How often each item is met where popularity decides, shape (items,), sums to 1."""
        return self._exposure / self._exposure.sum()

    def _new_catalogue(self) -> Catalogue:
        """Ids and texts of the items, and what the fitting users' first events say of them."""
        n_items, born = len(self.topics), self._starts["fitting"]
        counts = np.bincount(born.items, minlength=n_items)
        values = np.array(self.scale.values)[born.levels]
        prior = values.mean()
        means = (np.bincount(born.items, values, n_items) + prior) / (counts + 1)
        names = list(TOPICS)
        texts = []
        for item, topic in enumerate(self.topics.tolist()):
            about = TOPICS[names[topic]]
            first, second = about[item // self.n_topics % 4], about[(item // self.n_topics + 1) % 4]
            texts.append(f"{names[topic].capitalize()} no. {item}: {first} and {second}")
        ids = [f"item-{item}" for item in range(n_items)]
        return Catalogue(np.array(ids), np.array(texts), counts.astype(np.int64), means)
