"""Settings of a fit; the command line of `audience-fit` is derived from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from audience.reward_models.log import InteractionLog


@dataclass(frozen=True)
class Size:
    """What a preset decides: sizes of the tower and how long it is fitted."""

    epochs: int
    hidden_size: int = 64
    layers: int = 2
    heads: int = 4
    window: int = 64
    factors: int = 8
    members: int = 4
    tilt_passes: int = 1
    """How often each user runs freely to fit the tilt of free runs; 0: they are not tilted."""


PresetName = Literal["tiny", "demo", "full"]

PRESETS: dict[PresetName, Size] = {
    "tiny": Size(
        epochs=2, hidden_size=16, layers=1, heads=2, window=16, factors=2, members=2, tilt_passes=0
    ),
    "demo": Size(epochs=2, tilt_passes=0),
    "full": Size(epochs=6, tilt_passes=3),
}


@dataclass
class FitSettings:
    """Settings of `audience-fit`."""

    log: str | None = None
    """Named log: movielens or ml-100k."""
    interactions: str | None = None
    """File of events (csv or parquet), in place of a named log."""
    items: str | None = None
    """File of items (csv or parquet) that goes with `interactions`."""
    users: str | None = None
    """File of user features (csv or parquet) that goes with `interactions`."""
    text: str | None = None
    """How an item of these files reads, its columns in braces: "{title}. {category}"."""
    out: str = "runs/users"
    """Directory of the user model that is written."""
    preset: PresetName = "full"
    """How long to fit: tiny (seconds, for tests), demo (a minute or two), full."""
    kind: Literal["bert", "als", "boosted"] = "bert"
    """Class of user model: bert, or a judge: als (Bayesian explicit ALS with EASE-like choice),
    boosted (gradient boosting with neighbourhood choice)."""
    studies: bool = True
    """With preset full, also refit without text, with another's and without cold items, and fit
    the judges: the card says more, the fit takes about three times as long."""
    everyone: bool = False
    """Fit on test users too, so that nobody is left to measure on: for a log whose truth stands
    in another file."""
    half: Literal["a", "b"] | None = None
    """Fit on one half of the users who are not test users; None takes them all."""
    seed: int = 0
    """Seed of the split, the orders and the weights."""
    device: str = "auto"
    """Where to compute: auto (a GPU where there is one), cpu or cuda."""
    features: Literal["auto", "yes", "no"] = "auto"
    """Whether user features are taken in; auto: where the log has 50 fitting users for each of
    their columns, as fewer are learned by heart."""
    order: Literal["auto", "time", "random"] = "auto"
    """Whether the order of a user's events counts; auto: where the log has timestamps."""
    encoder: str | None = None
    """Text encoder: bert, tfidf, none, or a directory or Hugging Face id of a BERT; with +tfidf
    behind it, both. None takes bert+tfidf."""
    batch_size: int = 32
    """Blocks of events a step of the fit."""
    learning_rate: float = 1e-3
    """Peak learning rate of AdamW."""
    weight_decay: float = 0.05
    """Weight decay of AdamW."""
    dropout: float = 0.2
    """Dropout in the tower."""

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {self.preset!r}")
        if self.half not in (None, "a", "b"):
            raise ValueError(f"half must be a, b or None, got {self.half!r}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        for name in ("learning_rate", "weight_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be from 0 to 1, got {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be from 0 to below 1, got {self.dropout}")
        if self.kind not in ("bert", "als", "boosted"):
            raise ValueError(f"kind must be bert, als or boosted, got {self.kind!r}")
        if self.everyone and self.half is not None:
            raise ValueError("everyone and half contradict each other: leave one out")
        if self.users is not None and self.interactions is None:
            raise ValueError("users goes with interactions and items (named logs bring theirs)")
        if (self.interactions is None) != (self.items is None):
            raise ValueError("interactions and items go together: give both files, or a log")
        if self.log is not None and self.interactions is not None:
            raise ValueError("give either log or interactions and items, not both")

    def read_log(self) -> InteractionLog:
        """The log that these settings name.

        Raises:
            LogError: It cannot be found or breaks a rule.
        """
        if self.interactions is not None and self.items is not None:
            return InteractionLog.from_files(
                self.interactions, self.items, text=self.text, users=self.users
            )
        return InteractionLog.load(self.log or "movielens")
