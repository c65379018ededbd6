"""Settings of `audience-bench speed`."""

from __future__ import annotations

from dataclasses import dataclass

from audience.reward_models.device import DtypeName, checked_dtype
from audience.reward_models.fit_settings import PresetName
from audience.reward_models.users import START_EVENTS

SLATES = (1, 10)
"""Slate sizes of every view."""

CANDIDATES = 500
"""Candidates at every size of the catalogue, the default of large ones: fixed, so that only the
catalogue grows."""


@dataclass(frozen=True)
class SpeedPreset:
    """How much is spent.

    Attributes:
        seconds: Measured time of a row, shared by the environment and the bare forward pass.
        rounds: How often the two take turns; figures are medians over rounds.
        vector: Numbers of users of the vector view.
        sb3: Those of the view for Stable-Baselines3.
        histories: Events at the start of a session, of the rows that scale it.
        catalogues: Numbers of items, of the rows that scale it.
        scaled_users: Users of these rows.
        predictions: Single predictions whose latency is taken.
        trained: Numbers of items of catalogues that PPO is trained in and recommends from.
        learners: Users of that training.
        learned: User-steps of each of its rounds.
        fits: Scripted users of the logs that fits are timed on.
    """

    seconds: float
    rounds: int
    vector: tuple[int, ...]
    sb3: tuple[int, ...]
    histories: tuple[int, ...]
    catalogues: tuple[int, ...]
    scaled_users: int
    predictions: int
    trained: tuple[int, ...]
    learners: int = 256
    learned: int = 8192
    fits: tuple[int, ...] = ()


PRESETS: dict[PresetName, SpeedPreset] = {
    # Seconds: shows that everything works, and nothing else.
    "tiny": SpeedPreset(0.05, 2, (2,), (2,), (START_EVENTS,), (100,), 2, 5, (100,), 4, 16),
    # Three minutes on 2 cores.
    "demo": SpeedPreset(
        2.5,
        7,
        (1, 64, 1024, 4096),
        (1024,),
        (8, 32, 128, 512),
        (1_000, 10_000, 100_000, 1_000_000),
        64,
        200,
        (10_000, 1_000_000),
    ),
    # A quarter of an hour.
    "full": SpeedPreset(
        8.0,
        15,
        (1, 4, 16, 64, 256, 1024, 4096),
        (64, 256, 1024),
        (8, 16, 32, 64, 128, 256, 512),
        (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000),
        256,
        2000,
        (10_000, 100_000, 1_000_000),
        fits=(250, 1000, 4000),
    ),
}


@dataclass(frozen=True)
class SpeedSettings:
    """Measure user-steps per second, beside the bare forward pass of the same network."""

    users: str | None = None
    """Directory of the user model; by default the default users where they were fitted already,
    else scripted users."""

    out: str = "runs/speed"
    """Directory of speed.json, the table and the figures."""

    preset: PresetName = "demo"
    """How much to spend: demo (3 minutes), full (15 minutes), tiny (seconds; a smoke test)."""

    device: str = "auto"
    """Where the model lives: auto, cpu, cuda."""

    dtype: DtypeName = "float32"
    """What the tower of BERT users is computed in: float32, bfloat16."""

    seed: int = 0
    """Of sessions, actions and random weights."""

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {self.preset!r}")
        checked_dtype(self.dtype)
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed!r}")

    @property
    def budget(self) -> SpeedPreset:
        """The preset."""
        return PRESETS[self.preset]

    @property
    def tower(self) -> PresetName:
        """The preset of `audience-fit` whose sizes synthetic users have."""
        return "tiny" if self.preset == "tiny" else "full"
