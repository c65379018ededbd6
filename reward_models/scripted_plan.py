"""The best policy for scripted users, by dynamic programming over the topics of the last events.

Exact for slates of one item and the default reward, as long as no topic runs out of items: all
items of a topic are alike, so the state is a register of the last topics, and the actions are
the topics.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from audience.reward_models.histories import Histories
from audience.reward_models.scripted import ScriptedUsers
from audience.reward_models.users import START_EVENTS

F64 = NDArray[np.float64]

MAX_STATES = 300_000
"""Of the register: beyond, a plan takes gigabytes."""


@dataclass(frozen=True, eq=False)
class TopicProcess:
    """The Markov decision process of a scripted user: states s, actions k (topics).

    Attributes:
        users: Whose.
        pay: Expected reward of showing an item of the topic, shape (states, topics).
        go: Probability that it is chosen and the user stays, likewise.
        wait: Probability that it is skipped and the user stays, likewise.
        after: State after it was chosen, int64, likewise.
    """

    users: ScriptedUsers
    pay: F64
    go: F64
    wait: F64
    after: NDArray[np.int64]

    @classmethod
    def of(cls, users: ScriptedUsers) -> TopicProcess:
        """Tabulate all states.

        Raises:
            ValueError: There are too many.
        """
        habits, base = users.habits, users.n_topics + 1
        n_states = base**habits.memory
        if n_states > MAX_STATES:
            raise ValueError(
                f"a plan needs at most {MAX_STATES} states, got {users.n_topics} topics and "
                f"memory={habits.memory}, which make {n_states}; lower n_topics or memory"
            )
        states = np.arange(n_states)
        recent = states[:, None] // base ** np.arange(habits.memory) % base - 1
        utility = habits.utilities(recent, users.n_topics)
        accept, shares = expit(utility), habits.level_shares(utility)
        topics = np.arange(users.n_topics)
        return cls(
            users,
            pay=accept * (shares @ users.scale.scaled),
            go=accept * (shares @ (1 - habits.leave_by_level)),
            wait=(1 - accept) * (1 - habits.leave_after_skip),
            after=(states[:, None] * base + topics + 1) % n_states,
        )

    def state_of(self, items: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """State after each history, (n, history) and (n,) to (n,)."""
        recent = self.users.recent(items, lengths)
        base = self.users.n_topics + 1
        return np.asarray((recent + 1) @ base ** np.arange(recent.shape[1]), np.int64)

    def backed_up(self, value: F64) -> F64:
        """Value of each action, given the next states', (states,) to (states, topics)."""
        return self.pay + self.go * value[self.after] + self.wait * value[:, None]

    def value_of(self, topics: NDArray[np.int64], step_limit: int) -> F64:
        """Expected return of a policy from each state with `step_limit` steps to go.

        Args:
            topics: The topic that it shows with t + 1 steps to go, shape (horizon, states);
                with more steps to go than the horizon, the last row.
            step_limit: Steps of a session.
        """
        value = np.zeros(len(self.pay))
        rows = np.arange(len(value))
        for step in range(step_limit):
            value = self.backed_up(value)[rows, topics[min(step, len(topics) - 1)]]
        return value


@dataclass(frozen=True, eq=False)
class Plan:
    """What to show with any number of steps to go.

    Attributes:
        process: What was planned in.
        action_values: Expected return of showing each topic with t + 1 steps to go and acting
            best from then on, shape (horizon, states, topics).
    """

    process: TopicProcess
    action_values: F64

    @property
    def topics(self) -> NDArray[np.int64]:
        """The best topic with t + 1 steps to go, shape (horizon, states)."""
        return self.action_values.argmax(axis=2)

    def value(self, histories: Histories, step_limit: int) -> F64:
        """Exact expected return of following the plan from these starts, shape (users,)."""
        items, _, lengths = histories.padded()
        values = self.process.value_of(self.topics, step_limit)
        return values[self.process.state_of(items, lengths)]


def plan(users: ScriptedUsers, step_limit: int, process: TopicProcess | None = None) -> Plan:
    """Best actions with 1 … `step_limit` steps to go; 1 makes the greedy plan.

    Args:
        users: Scripted users.
        step_limit: Steps to look ahead, at least 1.
        process: That of the users, where it is at hand.

    Raises:
        ValueError: The step limit is below 1, or the users have too many states.
    """
    if step_limit < 1:
        raise ValueError(f"step_limit must be at least 1, got {step_limit!r}")
    process = TopicProcess.of(users) if process is None else process
    found = np.empty((step_limit, *process.pay.shape))
    value = np.zeros(len(process.pay))
    for step in range(step_limit):
        found[step] = process.backed_up(value)
        value = found[step].max(axis=1)
    return Plan(process, found)


def best_value(users: ScriptedUsers, starts: Histories, step_limit: int) -> F64:
    """Exact expected return of the best policy from each start, shape (users,).

    Raises:
        ValueError: A topic has fewer items than a session may consume, so that the plan's
            states do not tell all.
    """
    needed = START_EVENTS + step_limit
    fewest = int(np.bincount(users.topics, minlength=users.n_topics).min())
    if fewest < needed:
        raise ValueError(
            f"n_items must leave each topic at least {needed} items ({START_EVENTS} of the start "
            f"and step_limit={step_limit}), but one has {fewest}; give more items"
        )
    return plan(users, step_limit).value(starts, step_limit)
