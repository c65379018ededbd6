"""Judges: user models of other classes than the transformer, which only evaluate.

They share no weight with the behaviour tower: an agent that exploits the tower's errors gains
nothing here. `AlsJudge` is a kernel logit over Bayesian explicit ALS with EASE-like choice;
`BoostedJudge` is gradient boosting over item and user neighbours with neighbourhood choice.
What the text of items says of them is read off TF-IDF, not off the tower's BERT.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

from audience.reward_models.histories import Histories
from audience.reward_models.judge_base import Judge, JudgeKind
from audience.reward_models.judge_channels import (
    Channels,
    cosine_channel,
    ease_channel,
    order_channels,
    walk_channels,
)
from audience.reward_models.judge_kernel import KernelLogit
from audience.reward_models.judge_levels import BlendedLevels
from audience.reward_models.quality_choice import tune_ease
from audience.reward_models.quality_data import QualityData
from audience.reward_models.quality_feedback import tune_als
from audience.reward_models.user_files import damaged, read_about

FACTORS = 8
TEXT_PENALTY = 8.0
"""Ridge penalty of the taste for texts, of the judge without factors."""


class AlsJudge(Judge):
    """Bayesian ALS users: taste is the posterior of a regression on explicit ALS factors.

    Feedback is a kernel logit of that posterior, of what item and user neighbours said, and of
    recent feedback; choice a conditional logit of EASE's score, of what comes next, of popularity,
    and of factors of what was met lately.
    """

    kind = "als"
    kin = (
        "als",
        "explicit_als",
        "ease",
        "ease_feedback",
        "item_knn",
        "user_knn",
        "text_knn",
        "followers",
    )
    _factors = FACTORS
    _levels = KernelLogit

    @classmethod
    def _penalty(cls, data: QualityData) -> float:
        return tune_als(data, FACTORS)

    @classmethod
    def _channels(cls, data: QualityData) -> Callable[[Histories, int], list[Channels]]:
        l2 = tune_ease(data)
        return lambda of, n_items: [ease_channel(of, n_items, l2), *order_channels(of, n_items)]


class BoostedJudge(Judge):
    """Users whose feedback comes from boosted trees over item and user neighbours, and moods.

    The trees have a third of the weight, a kernel logit of the same features the rest. Choice is
    a conditional logit of walks and cosines from what was consumed, of what comes next, of
    popularity, and of factors of what was met lately. Nothing here is of EASE, nor feedback of
    factors.
    """

    kind = "boosted"
    kin = ("item_knn", "user_knn", "text_knn", "followers")
    _factors = 0
    _levels = BlendedLevels

    @classmethod
    def _penalty(cls, data: QualityData) -> float:
        return TEXT_PENALTY

    @classmethod
    def _channels(cls, data: QualityData) -> Callable[[Histories, int], list[Channels]]:
        return lambda of, n_items: [
            *walk_channels(of, n_items),
            cosine_channel(of, n_items),
            *order_channels(of, n_items),
        ]


JUDGES: dict[str, type[Judge]] = {"als": AlsJudge, "boosted": BoostedJudge}
"""By kind, the class of each judge."""


def fit_judge(kind: JudgeKind, data: QualityData, out: str | Path | None = None) -> Judge:
    """Fit a judge and, where `out` is given, write its directory.

    Args:
        kind: "als" or "boosted".
        data: Users to fit on; for a verdict, those of half B.
        out: The directory to write.

    Raises:
        ValueError: The kind is unknown.
    """
    if kind not in get_args(JudgeKind):
        raise ValueError(f"kind must be one of {', '.join(JUDGES)}, got {kind!r}")
    judge = JUDGES[kind].fit(data)
    if out is not None:
        judge.save_pretrained(out)
    return judge


def load_judge(directory: str | Path) -> Judge:
    """The judge in a directory, of whatever kind.

    Raises:
        UserModelError: The directory is missing, damaged, or holds no judge.
    """
    path = Path(directory)
    kind = read_about(path)["kind"]
    if kind not in JUDGES:
        raise damaged(path, f"users.json says kind {kind!r}; judges are {', '.join(JUDGES)}")
    return JUDGES[kind].from_pretrained(path)
