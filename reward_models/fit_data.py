"""A log made ready for a fit: split, indexed, one event a user and item."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from audience.reward_models.catalogue import Catalogue
from audience.reward_models.errors import LogError
from audience.reward_models.histories import Histories
from audience.reward_models.log import InteractionLog
from audience.reward_models.quality_data import QualityData
from audience.reward_models.scale import FeedbackScale
from audience.reward_models.signals import Signals
from audience.reward_models.splits import UserSplit
from audience.reward_models.users import POPULATIONS, Population


@dataclass(frozen=True)
class FitData:
    """A log, split and indexed.

    Attributes:
        split: Who is fitted, validated and tested on.
        catalogue: The items.
        scale: The feedback scale.
        histories: Events of each population, oldest first, no item twice for one user.
        values: Their feedback in the log's unit.
        signals: What the log says of each population beside items and feedback, aligned with
            its histories.
        feature_names: What the columns of `Signals.features` are.
    """

    split: UserSplit
    catalogue: Catalogue
    scale: FeedbackScale
    histories: dict[Population, Histories]
    values: dict[Population, NDArray[np.float64]]
    signals: dict[Population, Signals]
    feature_names: tuple[str, ...]

    @classmethod
    def of(
        cls,
        log: InteractionLog,
        half: Literal["a", "b"] | None,
        seed: int,
        everyone: bool = False,
        scale: FeedbackScale | None = None,
    ) -> FitData:
        """Split a log; with a half, an item must be common enough in both halves.

        Args:
            log: The interaction log.
            half: Fit on one half of the users who are not test users; None: on all.
            seed: Of the split.
            everyone: Test users are fitted on too, and none is left.
            scale: Feedback levels; by default those of the fitting users. A judge speaks the
                levels of the simulator's half.

        Raises:
            LogError: Too few users or items.
        """
        groups = None
        if half is None:
            split = UserSplit.of(log.user_ids, seed)
            if everyone:
                fitting = np.concatenate([split.fitting, split.test])
                split = UserSplit(fitting, split.validation, split.test[:0])
        else:
            halves = {h: UserSplit.half_of(log.user_ids, h, seed) for h in ("a", "b")}
            split = halves[half]
            groups = [np.concatenate([s.fitting, s.validation]) for s in halves.values()]
        for name in POPULATIONS:
            if len(getattr(split, name)) == 0 and not (everyone and name == "test"):
                raise LogError(
                    f"log {log.name!r}: no {name} users among {log.n_users}; a fit needs fitting, "
                    f"validation and test users. Give a log of more users."
                )
        scale = log.scale(split.fitting) if scale is None else scale
        catalogue = log.catalogue(split.fitting, groups=groups)
        histories, values, signals = {}, {}, {}
        for name in POPULATIONS:
            users = getattr(split, name)
            every, known = Histories.from_lists([]), np.zeros(0)
            if len(users):
                every = log.histories(users, catalogue, scale)
                known = log.values(users, catalogue)
            histories[name], kept = every.without_repeats()
            values[name] = known[kept]
            signals[name] = Signals.of(log, every, kept, catalogue, split.fitting)
            if len(kept) == 0 and name != "test":
                raise LogError(
                    f"log {log.name!r}: none of the {len(users)} {name} users has an event with "
                    f"one of the {len(catalogue)} items that are frequent enough. Give a log of "
                    f"more users or events."
                )
        names = log.user_features(split.fitting)[0]
        return cls(split, catalogue, scale, histories, values, signals, names)

    def sampled(self, share: float, generator: np.random.Generator) -> FitData:
        """The same with a random share of the fitting users; items, levels and others stay."""
        histories = self.histories["fitting"]
        count = max(1, round(share * len(histories)))
        users = np.sort(generator.permutation(len(histories))[:count])
        events = np.repeat(np.isin(np.arange(len(histories)), users), histories.lengths)
        return replace(
            self,
            split=replace(self.split, fitting=self.split.fitting[users]),
            histories={**self.histories, "fitting": histories.take(users)},
            values={**self.values, "fitting": self.values["fitting"][events]},
            signals={
                **self.signals,
                "fitting": self.signals["fitting"].take(users, histories.offsets),
            },
        )

    def quality(self, seed: int) -> QualityData:
        """The same as what measures and judges take."""
        return QualityData(
            fitting=self.histories["fitting"],
            validation=self.histories["validation"],
            test=self.histories["test"],
            fitting_values=self.values["fitting"],
            validation_values=self.values["validation"],
            test_values=self.values["test"],
            scale=self.scale,
            catalogue=self.catalogue,
            seed=seed,
            signals={name: self.signals[name] for name in POPULATIONS},
        )
