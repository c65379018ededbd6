"""Agents taken away: item ids in, item ids out, without a simulator."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from audience.agents.base import ScoringAgent, top_items
from audience.agents.saving import ABOUT, Labels, load_agent
from audience.reward_models.catalogue import Catalogue
from audience.reward_models.histories import Histories
from audience.reward_models.scale import FeedbackScale

Event: TypeAlias = str | tuple[str, float | None]
"""An item id, or (item id, feedback in the log's unit)."""

CELLS = 20_000_000
"""Scores computed at a time: 160 MB of float64."""


class Scorer(Protocol):
    """What a recommender asks; every `ScoringAgent` is one."""

    def scores(
        self, items: NDArray[np.int64], levels: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> NDArray[np.floating]:
        """See `ScoringAgent.scores`."""
        ...


@dataclass(frozen=True)
class Recommendations:
    """Items for one history, best first; iterating gives pairs of item id and score.

    Attributes:
        item_ids: Fewer than were asked for where no more are left.
        scores: Of each, in the agent's own unit; comparable within one list only.
        unknown: Events of the history whose item the agent does not know; they were ignored.
    """

    item_ids: list[str]
    scores: list[float]
    unknown: int

    def __iter__(self) -> Iterator[tuple[str, float]]:
        return iter(zip(self.item_ids, self.scores, strict=True))

    def __len__(self) -> int:
        return len(self.item_ids)


class Recommender:
    """Recommends to real histories what an agent scores highest.

    A history is a list of events, oldest first: `(item id, feedback)`, or an item id alone. The
    feedback is in the log's unit and becomes the level of the fitted scale that is nearest, or
    whose bin it falls into; without feedback an event counts as the lowest level that is a like.
    Unknown item ids are ignored and counted. With an empty history, or one of unknown ids alone,
    an agent says what it thinks of a user of whom nothing is known: collaborative filters
    recommend what is popular, explicit ALS and the bandits what pleases most, and policies and
    user models what they learned. Nothing in the history is recommended.

    Args:
        scorer: Any `ScoringAgent`, or what scores as one.
        item_ids: Id of each catalogue index, shape (items,).
        scale: Of the feedback that it was fitted with.
        window: Events at most that the scorer can read, the last ones; None: all.
    """

    def __init__(
        self,
        scorer: Scorer,
        item_ids: NDArray[np.str_],
        scale: FeedbackScale,
        window: int | None = None,
    ) -> None:
        self.scorer, self.item_ids, self.scale, self.window = scorer, item_ids, scale, window
        self._index = {item: at for at, item in enumerate(item_ids.tolist())}
        liked = np.flatnonzero(scale.likes)
        self._unsaid = int(liked[0]) if len(liked) else len(scale) - 1

    @classmethod
    def of(cls, agent: ScoringAgent, catalogue: Catalogue, scale: FeedbackScale) -> Recommender:
        """A recommender from an agent at hand."""
        return cls(agent, catalogue.item_ids, scale)

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> Recommender:
        """Load a directory.

        Args:
            path: Of `audience-train`, of `save_agent`, or of a fitted user model, which then
                recommends greedily. Of `audience-train`, Stable-Baselines3's model.zip holds
                pickled parts: load only what you trust.
            device: Where a network lives: auto, cpu, cuda.

        Raises:
            FileNotFoundError: There is no such directory, or none of these.
            ValueError: It is damaged, of another version, or of a training that has not finished.
            UserModelError: The same, of a user model.
        """
        path = Path(path)
        labels: Labels
        labelled = (path / ABOUT).is_file()
        if (path / "model.zip").is_file() or labelled and (path / "settings.json").is_file():
            from audience.agents.trained import load_trained  # torch only where needed

            trained, labels = load_trained(path, device)
            return cls(trained, labels.item_ids, labels.scale, trained.window)
        if labelled:
            agent, labels = load_agent(path, device)
            return cls(agent, labels.item_ids, labels.scale)
        if (path / "users.json").is_file():
            from audience.agents.greedy import GreedyAgent
            from audience.reward_models.users import load_users

            users = load_users(path)
            return cls.of(GreedyAgent(users), users.catalogue, users.scale)
        raise FileNotFoundError(
            f"{path} holds no agent: neither model.zip (audience-train --out {path}) nor {ABOUT} "
            f"(save_agent) nor users.json (audience-fit --out {path})"
        )

    def recommend(
        self,
        history: Sequence[Event],
        k: int = 10,
        exclude: Collection[str] = (),
        candidates: Collection[str] | None = None,
    ) -> Recommendations:
        """The k best items after a history.

        Args:
            history: Events, oldest first.
            k: How many, at least 1.
            exclude: Item ids that are not to be recommended, besides those of the history.
            candidates: The only item ids that may be; None: all.

        Raises:
            ValueError: `k` is below 1, or a feedback is not a finite number.
            TypeError: An event is neither an id nor a pair.
        """
        among = None if candidates is None else [candidates]
        return self.recommend_batch([history], k, [exclude], among)[0]

    def recommend_batch(
        self,
        histories: Sequence[Sequence[Event]],
        k: int = 10,
        exclude: Sequence[Collection[str]] | None = None,
        candidates: Sequence[Collection[str]] | None = None,
    ) -> list[Recommendations]:
        """The k best items after each history; see `recommend`.

        Args:
            histories: Of each user.
            k: How many, at least 1.
            exclude: Item ids that are not to be recommended, one collection a history.
            candidates: The only item ids that may be, one collection a history.

        Raises:
            ValueError: As `recommend`; or not one collection a history.
            TypeError: As `recommend`.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k!r}")
        for name, given in (("exclude", exclude), ("candidates", candidates)):
            if given is not None and (isinstance(given, str) or len(given) != len(histories)):
                raise ValueError(
                    f"{name} must have one collection of item ids for each of the "
                    f"{len(histories)} histories, got {given!r:.100}"
                )
        read = [self._read(events, row) for row, events in enumerate(histories)]
        if candidates is None:
            listed = self._listed(read, k, exclude)
            if listed is not None:
                return listed
        found: list[Recommendations] = []
        step = max(1, CELLS // len(self.item_ids))
        for at in range(0, len(read), step):
            rows = range(at, min(at + step, len(read)))
            allowed = np.ones((len(rows), len(self.item_ids)), np.bool_)
            for row, own in zip(rows, allowed, strict=True):
                if candidates is not None:
                    own[:] = False
                    own[self._known(candidates[row])] = True
                if exclude is not None:
                    own[self._known(exclude[row])] = False
                own[[item for item, _ in read[row][0]]] = False
            known = Histories.from_lists([read[row][0] for row in rows])
            items, levels, lengths = known.padded(self._width(known))
            scores = np.asarray(self.scorer.scores(items, levels, lengths))
            best = top_items(scores, allowed, min(k, allowed.shape[1]))
            for place, row in enumerate(rows):
                # What fills the places when nothing is left, or was never scored, is left out.
                kept = [i for i in best[place] if allowed[place, i] and scores[place, i] > -np.inf]
                ids = self.item_ids[kept].tolist() if kept else []
                numbers = scores[place, kept].astype(float).tolist() if kept else []
                found.append(Recommendations(ids, numbers, read[row][1]))
        return found

    def _listed(
        self,
        read: list[tuple[list[tuple[int, int]], int]],
        k: int,
        exclude: Sequence[Collection[str]] | None,
    ) -> list[Recommendations] | None:
        """From a scorer that finds the best items of a large catalogue without scoring all."""
        best = getattr(self.scorer, "best", None)
        closed = [{item for item, _ in known} for known, _ in read]
        for row, ids in enumerate(exclude or []):
            closed[row].update(self._known(ids))
        known = Histories.from_lists([events for events, _ in read])
        count = k + max(map(len, closed), default=0)
        pairs = None
        if best is not None and len(read):
            pairs = best(*known.padded(self._width(known)), count)
        if pairs is None:
            return None
        found = []
        for row, (items, scores) in enumerate(zip(*pairs, strict=True)):
            kept = [place for place, item in enumerate(items.tolist()) if item not in closed[row]]
            kept = kept[:k]
            ids = self.item_ids[items[kept]].tolist()
            found.append(Recommendations(ids, scores[kept].astype(float).tolist(), read[row][1]))
        return found

    def _width(self, histories: Histories) -> int:
        longest = max(int(histories.lengths.max(initial=0)), 1)
        return longest if self.window is None else self.window

    def _known(self, item_ids: Collection[str]) -> list[int]:
        if isinstance(item_ids, str):
            raise ValueError(
                f"exclude and candidates must be collections of item ids, got the string "
                f"{item_ids!r}; put it in a list"
            )
        return [self._index[str(item)] for item in item_ids if str(item) in self._index]

    def _read(self, events: Sequence[Event], row: int) -> tuple[list[tuple[int, int]], int]:
        """Items and levels of the known events, and how many are unknown."""
        known, values = [], []
        for place, event in enumerate(events):
            pair = (event, None) if isinstance(event, str) else event
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise TypeError(
                    f"history {row}, event {place} must be an item id or (item id, feedback), "
                    f"got {event!r}"
                )
            item, feedback = pair
            if feedback is not None and not math.isfinite(feedback):
                raise ValueError(
                    f"history {row}, event {place}: feedback must be a finite number in the "
                    f"log's unit, or None where there is none, got {feedback!r}"
                )
            at = self._index.get(str(item))
            if at is not None:
                known.append(at)
                values.append(feedback)
        said = [value for value in values if value is not None]
        levels = iter(self.scale.level_of(said).tolist())
        read = [
            (item, self._unsaid if value is None else next(levels))
            for item, value in zip(known, values, strict=True)
        ]
        return read, len(events) - len(known)
