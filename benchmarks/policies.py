"""Policies of many kinds and qualities, for asking whether a simulator ranks them as the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from audience.agents.base import (
    Agent,
    Observation,
    ScoringAgent,
    allowed_items,
    histories_of,
    top_items,
)
from audience.agents.baselines import (
    EASEAgent,
    MeanFeedbackAgent,
    PopularityAgent,
)
from audience.reward_models.catalogue import Catalogue
from audience.reward_models.histories import Histories
from audience.reward_models.scale import FeedbackScale
from audience.reward_models.scripted import ScriptedUsers
from audience.reward_models.scripted_plan import Plan, TopicProcess, plan

LOOKAHEADS = (3, 5, 8, 12, 20)
"""Steps that short-sighted planners see; 1 is greedy."""

MIXTURES = (0.02, 0.05, 0.1, 0.2, 0.4)
"""Shares of random recommendations in mixtures."""


class PlanAgent:
    """Shows an item of the topic that a plan holds best; exact for `ScriptedUsers`.

    It counts a session's steps in `state`, for skips leave no trace in an observation.

    Args:
        plan: Of the topics.
        step_limit: Steps of a session.
    """

    def __init__(self, plan: Plan, step_limit: int) -> None:
        self.plan, self.step_limit = plan, step_limit
        self._topics = plan.topics

    def predict(
        self,
        observation: Observation,
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
        action_masks: NDArray[Any] | None = None,
    ) -> tuple[NDArray[np.int64], Any]:
        """See `Agent.predict`; `state` holds the steps taken, shape (n,)."""
        del deterministic
        items, _, lengths = histories_of(observation)
        steps = np.zeros(len(items), np.int64) if state is None else np.array(state)
        if episode_start is not None:
            steps[np.asarray(episode_start, bool).reshape(-1)] = 0
        process = self.plan.process
        left = np.clip(self.step_limit - 1 - steps, 0, len(self._topics) - 1)
        topic = self._topics[left, process.state_of(items, lengths)]
        n_items = len(process.users.topics)
        allowed = allowed_items(observation, items, lengths, n_items, action_masks)
        # Where the best topic has run out of items, any other will do.
        scores = (process.users.topics == topic[:, None]).astype(np.float32)
        actions = top_items(scores, allowed, 1)[:, 0]
        single = np.ndim(observation["item"]) == 1
        return (actions[0, ...] if single else actions), steps + 1


def best_policy(users: ScriptedUsers, step_limit: int) -> PlanAgent:
    """The best policy at slates of one item and the default reward; see `scripted_plan`.

    Raises:
        ValueError: The step limit is below 1, or the users have too many states.
    """
    return PlanAgent(plan(users, step_limit), step_limit)


class RoundRobinAgent(ScoringAgent):
    """Goes from each topic to the next.

    Args:
        users: Who say which item is of which topic.
    """

    def __init__(self, users: ScriptedUsers) -> None:
        super().__init__(len(users.catalogue))
        self.users = users

    def scores(
        self, items: NDArray[np.int64], levels: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> NDArray[np.floating[Any]]:
        """1 for the topic after the last event's, shape (n, items)."""
        last = self.users.recent(items, lengths)[:, :1]
        following = (last + 1) % self.users.n_topics
        return (self.users.topics == following).astype(np.float32)


class ItemScoresAgent(ScoringAgent):
    """The same scores for every user.

    Args:
        item_scores: Shape (items,).
    """

    def __init__(self, item_scores: NDArray[np.floating[Any]]) -> None:
        super().__init__(len(item_scores))
        self.item_scores = np.asarray(item_scores, np.float64)

    def scores(
        self, items: NDArray[np.int64], levels: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> NDArray[np.floating[Any]]:
        """Shape (n, items)."""
        return np.broadcast_to(self.item_scores, (len(items), self.n_items))


class UniformAgent(ScoringAgent):
    """Unconsumed items at random; its Generator lives in `state`.

    So whoever begins without a state gets the same draws, in any world.

    Args:
        n_items: Size of the catalogue.
        seed: Of the draws.
    """

    def __init__(self, n_items: int, seed: int) -> None:
        super().__init__(n_items)
        self.seed = seed
        self._rng = np.random.default_rng(seed)

    def predict(
        self,
        observation: Observation,
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
        action_masks: NDArray[Any] | None = None,
    ) -> tuple[NDArray[np.int64], Any]:
        """See `Agent.predict`."""
        self._rng = np.random.default_rng(self.seed) if state is None else state
        return super().predict(observation, self._rng, action_masks=action_masks)

    def scores(
        self, items: NDArray[np.int64], levels: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> NDArray[np.floating[Any]]:
        """Uniform draws, shape (n, items)."""
        return self._rng.random((len(items), self.n_items), np.float32)


class MixtureAgent:
    """At each step and for each user one of two agents, by a draw; its Generator is in `state`.

    Args:
        usual: The agent that is followed otherwise.
        other: The agent that is followed at a share of the steps.
        share: That share, 0…1.
        seed: Of the draws.
    """

    def __init__(self, usual: Agent, other: Agent, share: float, seed: int) -> None:
        if not 0 <= share <= 1:
            raise ValueError(f"share must be from 0 to 1, got {share!r}")
        self.usual, self.other, self.share, self.seed = usual, other, share, seed

    def predict(
        self,
        observation: Observation,
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
        action_masks: NDArray[Any] | None = None,
    ) -> tuple[NDArray[np.int64], Any]:
        """See `Agent.predict`."""
        own, *states = (np.random.default_rng(self.seed), None, None) if state is None else state
        first, one = self.usual.predict(
            observation, states[0], episode_start, deterministic, action_masks
        )
        second, two = self.other.predict(
            observation, states[1], episode_start, deterministic, action_masks
        )
        rare = own.random(np.shape(first)[:1] or None) < self.share
        return np.where(rare, second, first), (own, one, two)


def scripted_policies(
    users: ScriptedUsers,
    fitting: Histories,
    catalogue: Catalogue,
    step_limit: int,
    seed: int,
) -> dict[str, Agent]:
    """Policies for scripted users, one item a step: half within a fifth of the best, half worse.

    Args:
        users: The truth, which planners plan in, with the items of `catalogue`.
        fitting: Histories that collaborative filters are fitted on.
        catalogue: What is known of the items from the log.
        step_limit: Steps of a session.
        seed: Of the draws of the random ones.
    """
    process = TopicProcess.of(users)
    n_items = len(catalogue)

    def planner(lookahead: int) -> PlanAgent:
        return PlanAgent(plan(users, lookahead, process), step_limit)

    def random(place: int) -> UniformAgent:
        return UniformAgent(n_items, seed=1000 * seed + place)

    best = planner(step_limit)
    policies: dict[str, Agent] = {"best": best, "greedy_on_truth": planner(1)}
    policies |= {f"lookahead_{steps}": planner(steps) for steps in LOOKAHEADS}
    policies |= {
        f"best_{share:.0%}_random".replace("%", ""): MixtureAgent(
            best, random(place), share, seed=1000 * seed + 500 + place
        )
        for place, share in enumerate(MIXTURES)
    }
    policies |= {
        f"topic_{topic}": ItemScoresAgent((users.topics == topic).astype(float))
        for topic in (0, users.n_topics - 1)
    }
    return policies | {
        "round_robin": RoundRobinAgent(users),
        "random": random(99),
        **_collaborative(fitting, catalogue, users.scale),
    }


def log_policies(
    model: Agent, fitting: Histories, catalogue: Catalogue, scale: FeedbackScale, seed: int
) -> dict[str, Agent]:
    """Policies for the users of a real log, whose best policy nobody knows.

    Args:
        model: Greedy on the user model.
        fitting: Histories that collaborative filters are fitted on.
        catalogue: Its items.
        scale: Of the feedback.
        seed: Of the draws of the random ones.
    """
    n_items = len(catalogue)
    filters = _collaborative(fitting, catalogue, scale)
    policies: dict[str, Agent] = {"model": model, **filters}
    for place, (name, share) in enumerate(
        (of, share) for of in ("model", "mean_feedback") for share in (0.25, 0.5, 0.75)
    ):
        other = UniformAgent(n_items, seed=1000 * seed + place)
        policies[f"{name}_{100 * share:.0f}_random"] = MixtureAgent(
            policies[name], other, share, seed=1000 * seed + 500 + place
        )
    half = MixtureAgent(filters["ease"], filters["mean_feedback"], 0.5, seed=1000 * seed + 600)
    return policies | {
        "ease_50_mean_feedback": half,
        "random": UniformAgent(n_items, seed=1000 * seed + 99),
        "rarest": ItemScoresAgent(-catalogue.popularity),
        "worst_feedback": ItemScoresAgent(-catalogue.mean_feedback),
    }


def _collaborative(
    fitting: Histories, catalogue: Catalogue, scale: FeedbackScale
) -> dict[str, Agent]:
    return {
        "popularity": PopularityAgent.fit(fitting, catalogue, scale),
        "mean_feedback": MeanFeedbackAgent.fit(fitting, catalogue, scale),
        "ease": EASEAgent.fit(fitting, catalogue, scale),
    }
