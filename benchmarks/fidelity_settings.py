"""Settings of `audience-bench fidelity`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from audience.benchmarks.scripted_truth import SCRIPTED
from audience.reward_models.fit_settings import PresetName

if TYPE_CHECKING:
    from audience.reward_models.log import InteractionLog


@dataclass(frozen=True)
class FidelityPreset:
    """How much is spent. The user model has presets of the same names.

    Attributes:
        seeds: User models, each with a log and a split of its own.
        users: Scripted users in a log.
        sessions: Sessions of each test user with each policy, in the simulator and in the truth.
    """

    seeds: int
    users: int
    sessions: int


PRESETS: dict[PresetName, FidelityPreset] = {
    "tiny": FidelityPreset(seeds=1, users=150, sessions=2),  # shows that all works, no more
    "demo": FidelityPreset(seeds=1, users=1500, sessions=4),
    "full": FidelityPreset(seeds=3, users=4000, sessions=8),
}


@dataclass(frozen=True)
class FidelitySettings:
    """Compare policies' values in users fitted to a log with their true values."""

    log: str | None = None
    """A named log: scripted (the default; its truth is known), movielens, ml-100k."""

    interactions: str | None = None
    """Your own log instead: csv or parquet with user_id, item_id and, where known, feedback and
    timestamp. Needs --items."""

    items: str | None = None
    """Its items: csv or parquet with item_id and text columns."""

    text: str | None = None
    """How an item of your own log reads, such as "{title}. {category}"; by default all text."""

    truth: str | None = None
    """Further real feedback of users in --interactions, fully or randomly observed (csv or
    parquet with user_id, item_id and feedback): the only test, then."""

    preset: PresetName = "demo"
    """How much to spend: demo (minutes), full (3 seeds), tiny (seconds; a smoke test)."""

    out: str = "runs/fidelity"
    """Directory of all results. User models finished there with the same settings are reused."""

    seeds: int | None = None
    """User models to fit; by default the preset's."""

    device: str = "auto"
    """Where models live: auto, cpu, cuda."""

    encoder: str | None = None
    """Encoder of item text, as `audience-fit` takes it; by default bert+tfidf."""

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {self.preset!r}")
        if (self.interactions is None) != (self.items is None):
            raise ValueError("interactions and items go together: give both files, or a log")
        if self.interactions is not None and self.log is not None:
            raise ValueError("give either log or interactions and items, not both")
        if self.truth is not None and self.interactions is None:
            raise ValueError(
                f"truth goes with interactions and items, which hold its users' histories, got "
                f"truth={self.truth!r} without them"
            )
        if self.seeds is not None and self.seeds < 1:
            raise ValueError(f"seeds must be at least 1, got {self.seeds!r}")

    @property
    def scripted(self) -> bool:
        """Whether the log is that of scripted users."""
        return self.interactions is None and self.log in (None, SCRIPTED)

    @property
    def budget(self) -> FidelityPreset:
        """The preset."""
        return PRESETS[self.preset]

    @property
    def n_seeds(self) -> int:
        """User models to fit."""
        return self.budget.seeds if self.seeds is None else self.seeds

    def load_log(self) -> InteractionLog:
        """Read and check the log; not for scripted users.

        Raises:
            LogError: It is missing or breaks a rule.
        """
        from audience.reward_models.log import InteractionLog  # polars only where needed

        if self.interactions is not None and self.items is not None:
            return InteractionLog.from_files(self.interactions, self.items, text=self.text)
        return InteractionLog.load(str(self.log))

    def fit_settings(self, out: str, seed: int) -> dict[str, Any]:
        """Settings of the fit of a seed."""
        return {
            "preset": self.preset,
            "seed": seed,
            "device": self.device,
            "encoder": self.encoder,
            "out": out,
        }
