"""What every judge is: fitted parts in closed form, behind the contract of user models."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from audience.reward_models.catalogue import Catalogue
from audience.reward_models.collaborative import interaction_matrix, only_items
from audience.reward_models.coming import fit_mix
from audience.reward_models.histories import Histories
from audience.reward_models.judge_answers import Answers
from audience.reward_models.judge_channels import Channels, head_of, mixed_channels, text_channel
from audience.reward_models.judge_choice import LogLinearChoice
from audience.reward_models.judge_feedback import FeedbackFeatures
from audience.reward_models.judge_kernel import KernelLogit
from audience.reward_models.judge_levels import BlendedLevels
from audience.reward_models.judge_sessions import (
    JudgeSessions,
    JudgeStates,
    simulate,
    utilities_shown,
)
from audience.reward_models.log_slates import Slates
from audience.reward_models.outside import (
    CALIBRATION_USERS,
    outside_utility,
    popular_slate_weights,
)
from audience.reward_models.quality_data import EventPredictions, QualityData
from audience.reward_models.scale import FeedbackScale
from audience.reward_models.text_encoders import TfidfEncoder
from audience.reward_models.user_files import (
    damaged,
    pseudonymous,
    read_about,
    read_files,
    write_files,
)
from audience.reward_models.users import POPULATIONS, Assumptions, Population

JudgeKind = Literal["als", "boosted"]

FOLDS = 5
"""Parts of the fitting users: what a part's feedback and choice are fitted on comes from the
others, as it will for users who are new."""

ARRAYS = "judge.safetensors"
PARTS = ("features", "levels", "choice", "answers")


class Judge:
    """A user model in closed form; see the classes in `judges.py`.

    A directory of one holds `users.json` (its `kind` says the class), `items.parquet`,
    `starts.parquet` and `judge.safetensors`.

    Attributes:
        kind: As in users.json.
        kin: The agents' scorers and simulators' input features that are of its class.
        features: What it knows of the feedback on an item.
        levels: Level probabilities from features.
        choice: Log-probabilities of items from the history.
        answers: What the log's slates and sessions say of accepting and leaving.
    """

    kind: ClassVar[JudgeKind]
    kin: ClassVar[tuple[str, ...]]
    _factors: ClassVar[int]
    _levels: ClassVar[type[KernelLogit] | type[BlendedLevels]]

    def __init__(
        self,
        features: FeedbackFeatures,
        levels: KernelLogit | BlendedLevels,
        choice: LogLinearChoice,
        catalogue: Catalogue,
        scale: FeedbackScale,
        starts: dict[Population, Histories],
        answers: Answers | None = None,
    ) -> None:
        self.features, self.levels, self.choice = features, levels, choice
        self.answers = answers or Answers()
        self._catalogue, self._scale, self._starts = catalogue, scale, starts
        self._outside: dict[tuple[int, float, float], float] = {}

    @classmethod
    def fit(cls, data: QualityData) -> Self:
        """Fit to the fitting users, with slopes and penalties from the validation users.

        Args:
            data: Users; the test users' starts are kept, nothing else of them is looked at.
        """
        fitting, values = data.fitting, np.array(data.scale.values)
        vectors = TfidfEncoder().encode(data.catalogue.texts.tolist())
        regression = cls._factors, cls._penalty(data), data.seed
        parts = _parts(fitting, np.random.default_rng(data.seed))
        x, levels = [], []
        for others, own in parts:
            part = FeedbackFeatures.fit(others, values, vectors, *regression)
            x.append(part.before(own))
            levels.append(own.levels)
        head = cls._levels.fit(np.concatenate(x), np.concatenate(levels), len(values), data.seed)
        popularity, n_items = data.catalogue.popularity, len(data.catalogue)
        items, channels_of = head_of(popularity), cls._channels(data)
        mix, texts = fit_mix(parts, items, vectors, data.seed), vectors[items]

        def channels(of: Histories) -> list[Channels]:
            known = only_items(of, items, n_items)
            mixed = mixed_channels(known, texts, mix)
            return [*channels_of(known, len(items)), *mixed, text_channel(texts)]

        choice = LogLinearChoice.fit(
            channels, fitting, parts, data.validation, items, texts, popularity, data.seed
        )
        histories = {name: getattr(data, name) for name in POPULATIONS}
        starts = {name: pseudonymous(histories[name], name) for name in POPULATIONS}
        features = FeedbackFeatures.fit(fitting, values, vectors, *regression)
        judge = cls(features, head, choice, data.catalogue, data.scale, starts)
        judge.answers = Answers.fit(data, partial(utilities_shown, judge))
        return judge

    @classmethod
    def _penalty(cls, data: QualityData) -> float:
        """Of the features' fit."""
        raise NotImplementedError

    @classmethod
    def _channels(cls, data: QualityData) -> Callable[[Histories, int], list[Channels]]:
        """What choice stands on beside mix and texts: of some users' events, so many items."""
        raise NotImplementedError

    # The contract of user models

    @property
    def catalogue(self) -> Catalogue:
        """The items that can be shown."""
        return self._catalogue

    @property
    def scale(self) -> FeedbackScale:
        """The levels of the feedback they give."""
        return self._scale

    def starts(self, population: Population) -> Histories:
        """The first events of the users of a population, at most START_EVENTS a user."""
        return self._starts[population]

    def open(self, slots: int, slate_size: int, assumptions: Assumptions) -> JudgeSessions:
        """A block of `slots` sessions that are shown slates of `slate_size` items."""
        outside = self.outside_option(slate_size, assumptions)
        return JudgeSessions(self, slots, assumptions, outside)

    # What agents and measures ask

    @property
    def learned(self) -> frozenset[str]:
        """Names of the assumptions in whose place something learned stands."""
        return self.answers.learned

    def predict_slates(
        self, histories: Histories, slates: Slates
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """P(chosen) of each item shown and P(nothing) of each slate; None if not learned."""
        if "acceptance" not in self.learned:
            return None
        log_popularity = self.choice.log_popularity[slates.items]
        return self.answers.shares(utilities_shown(self, histories, slates), log_popularity, slates)

    def predict_leaves(
        self, histories: Histories, slates: Slates | None
    ) -> NDArray[np.float64] | None:
        """P(leave) after each slate's real answer, or after each event; None if not learned."""
        if "leave_after_choice" not in self.learned:
            return None
        if slates is None:
            return np.full(len(histories.items), self.answers.leave_after_choice)
        return np.where(slates.chosen >= 0, *self.answers.leaving(Assumptions()))

    @property
    def card(self) -> dict[str, str]:
        """Its class, and a hash of what it consists of."""
        digest = hashlib.blake2b(digest_size=16)
        for array in self._arrays().values():
            digest.update(array.tobytes())
        return {"kind": self.kind, "digest": digest.hexdigest()}

    @property
    def text_vectors(self) -> NDArray[np.float32]:
        """Judges show no vectors of text: of length 0, shape (items, 0)."""
        return np.zeros((len(self._catalogue), 0), np.float32)

    def outside_option(self, slate_size: int, assumptions: Assumptions) -> float:
        """Utility of choosing nothing: as learned, or so that popular slates meet `acceptance`.

        The slates are drawn for the fitting users at the start of a session.
        """
        if "acceptance" in self.learned and assumptions.acceptance is None:
            return self.answers.outside
        discount = self.discount(assumptions)
        key = (slate_size, assumptions.stated.acceptance, discount)
        if key not in self._outside:
            starts = self._starts["fitting"].at_least(1)
            starts = starts.take(np.arange(min(len(starts), CALIBRATION_USERS)))
            states, rows = JudgeStates(self, len(starts), discount), np.arange(len(starts))
            states.start(rows, starts)
            appeals = self.answers.appeals(states.utilities(rows), self.choice.log_popularity)
            weights = popular_slate_weights(appeals, self._catalogue.popularity, slate_size)
            self._outside[key] = outside_utility(weights, assumptions.stated.acceptance)
        return self._outside[key]

    def discount(self, assumptions: Assumptions) -> float:
        """Part of log-popularity that is taken out of utilities: none where that was learned."""
        learned = "popularity_discount" in self.learned
        return 0.0 if learned else assumptions.popularity_discount

    def rank_items(self, contexts: Histories) -> NDArray[np.float64]:
        """Utilities of all items at any later time, shape (users, items); consumed -inf."""
        met = interaction_matrix(contexts, len(self._catalogue)).toarray() > 0
        return self.choice.utilities(self.choice.scores_of(contexts), met, None)

    def feedback(self, histories: Histories, items: NDArray[np.int64]) -> NDArray[np.float64]:
        """Probability of each level for items asked of users, (users, q) to (users, q, levels)."""
        events, levels, lengths = histories.padded()
        used = np.arange(events.shape[1]) < lengths[:, None]
        x = self.features.asked(events, levels, used, items)
        shares = self.levels.probabilities(x.reshape(-1, x.shape[-1]))
        return shares.reshape(*items.shape, -1)

    def predict_events(self, histories: Histories) -> EventPredictions:
        """Predict every event from the same user's earlier events; no item twice for a user."""
        shares = self.levels.probabilities(self.features.before(histories))
        return EventPredictions(shares.astype(np.float32), *self.choice.ranks(histories))

    def simulate(self, starts: Histories, lengths: NDArray[np.int64], seed: int) -> Histories:
        """Free-running histories that begin with `starts`; see `judge_sessions.simulate`."""
        return simulate(self, starts, lengths, seed)

    # Directories

    def save_pretrained(self, directory: str | Path) -> None:
        """Write into a directory, which is made where there is none."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        save_file(self._arrays(), directory / ARRAYS)
        write_files(directory, self.kind, self._catalogue, self._scale, self._starts)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """All that it consists of."""
        parts = {name: getattr(self, name) for name in PARTS}
        return {
            f"{part}.{name}": np.ascontiguousarray(array)
            for part, of in parts.items()
            for name, array in of.arrays().items()
        }

    @classmethod
    def from_pretrained(cls, directory: str | Path) -> Self:
        """Load a directory.

        Raises:
            UserModelError: It is missing, damaged, of another version or of another kind.
        """
        path = Path(directory)
        kind = read_about(path)["kind"]
        if kind != cls.kind:
            raise damaged(path, f'users.json says kind {kind!r}, not "{cls.kind}"')
        catalogue, scale, starts = read_files(path)
        try:
            arrays = load_file(path / ARRAYS)
            features = FeedbackFeatures.of_arrays(_part(arrays, "features"))
            levels = cls._levels.of_arrays(_part(arrays, "levels"))
            choice = LogLinearChoice.of_arrays(_part(arrays, "choice"))
            answers = Answers.of_arrays(_part(arrays, "answers"))
        except (OSError, TypeError, SafetensorError) as error:
            raise damaged(path, str(error)) from error
        found = len(choice.log_popularity)
        if found != len(catalogue):
            raise damaged(path, f"items.parquet has {len(catalogue)} items, {ARRAYS} has {found}")
        return cls(features, levels, choice, catalogue, scale, starts, answers)


def _parts(histories: Histories, rng: np.random.Generator) -> list[tuple[Histories, Histories]]:
    """The users of each fold behind those of all others."""
    fold = rng.permutation(len(histories)) % min(FOLDS, len(histories))
    found = []
    for k in np.unique(fold):
        # With one fold only (a single user) there is nobody else to learn from.
        others = histories.take(np.flatnonzero(fold != k)) if fold.any() else histories
        found.append((others, histories.take(np.flatnonzero(fold == k))))
    return found


def _part(arrays: dict[str, NDArray[Any]], name: str) -> dict[str, Any]:
    """The arrays of one part, without its name."""
    return {n.removeprefix(f"{name}."): a for n, a in arrays.items() if n.startswith(f"{name}.")}
