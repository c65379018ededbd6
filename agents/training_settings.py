"""Settings of a training run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from audience.agents.algorithms import algorithm_of
from audience.reward_models.users import Assumptions

SCRIPTED = "scripted"
"""Name of the closed-form users, in the place of a directory."""


@dataclass(frozen=True)
class TrainSettings:
    """Settings of a training run; the command line of `audience-train` is derived from them."""

    users: str = "runs/users"
    """Directory of the fitted user model (from audience-fit), or "scripted" for closed-form users
    whose best policy is known."""

    partners: str | None = None
    """Directories of further user models of the same log (such as audience-fit --kind boosted),
    separated by commas: the users of the training live in turn in each of all, so that what only
    one of them believes does not pay."""

    out: str = "runs/agent"
    """Directory for the model, its figures and the TensorBoard files."""

    algo: str = "ppo"
    """Algorithm: ppo, maskable_ppo, a2c, dqn, qr_dqn, sac, td3."""

    steps: int = 300_000
    """User-steps to train for, rounded up to whole rollouts."""

    slate_size: int = 1
    """Items shown at a step; ppo, maskable_ppo, a2c, sac and td3 know slates."""

    step_limit: int = 30
    """Steps after which a session is cut off."""

    num_envs: int | None = None
    """Users who are recommended to at a time; by default the algorithm's."""

    candidates: int | None = None
    """Items that each step offers to choose from; by default all, above 20,000 items 500."""

    item_bias: Literal["popularity", "none"] = "popularity"
    """What to start from: slates drawn by popularity, or evenly from the catalogue."""

    item_text: bool = True
    """Whether the policy reads the text of items; without it, items are ids."""

    warm_start: Literal["none", "log", "greedy"] = "none"
    """What to imitate before learning: nothing; the choices of the users' start histories,
    weighted by feedback; or greedy on the user model. For ppo, maskable_ppo and a2c."""

    warm_start_steps: int = 300
    """Gradient steps of the imitation."""

    assumptions: Assumptions = field(default_factory=Assumptions)
    """What the log could not teach about the users."""

    pessimism: float = 0.0
    """How often the ensemble's disagreement about the reward is subtracted from it in training."""

    inner_judge: str | None = None
    """Directory of a judge (from audience-fit --kind), fitted to the same half of the log: an
    independent world that training is watched in."""

    replay: str | None = None
    """Named log that the users were fitted to: its validation users are replayed at the end."""

    evaluations: int = 10
    """How often to evaluate on validation users on the way, 0 for never."""

    early_stop: int = 0
    """Stop after so many evaluations without a better return in the inner judge's world, and keep
    the agent that did best there; 0 for never."""

    sessions_per_user: int = 4
    """Sessions of each validation user in the final evaluation."""

    checkpoint_seconds: float = 60.0
    """Least time between checkpoints, from which a killed run goes on."""

    seed: int = 0
    """Of everything: the users' draws, the policy's initial values and its own draws."""

    seeds: int = 1
    """Runs, with the seeds from `seed` on; each of several in a directory seed-S of its own."""

    device: str = "auto"
    """Where the policy lives: auto, cpu, cuda."""

    overwrite: bool = False
    """Replace a run with other settings in the same directory."""

    def __post_init__(self) -> None:
        known = algorithm_of(self.algo)
        for name, low in (
            ("steps", 1),
            ("slate_size", 1),
            ("step_limit", 1),
            ("num_envs", 1),
            ("candidates", 1),
            ("warm_start_steps", 1),
            ("pessimism", 0),
            ("evaluations", 0),
            ("early_stop", 0),
            ("sessions_per_user", 1),
            ("checkpoint_seconds", 0),
            ("seed", 0),
            ("seeds", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < low:
                raise ValueError(f"{name} must be at least {low}, got {value!r}")
        if self.slate_size > 1 and not known.slates:
            raise ValueError(
                f"slate_size must be 1 with algo={self.algo!r}, whose actions are single items, "
                f"got {self.slate_size}; ppo and a2c know slates"
            )
        if self.partners is not None and self.users == SCRIPTED:
            raise ValueError(
                f"partners must be None with users={SCRIPTED!r}, who are known, got "
                f"{self.partners!r}; name the directory of a fitted user model as users"
            )
        if self.warm_start != "none" and not known.imitates:
            raise ValueError(
                f"warm_start must be 'none' with algo={self.algo!r}, which has no probabilities "
                f"to imitate with, got {self.warm_start!r}; ppo, maskable_ppo and a2c have"
            )
        if self.early_stop and (self.inner_judge is None or not self.evaluations):
            raise ValueError(
                f"early_stop needs an inner_judge and evaluations to stop by, got "
                f"early_stop={self.early_stop} with inner_judge={self.inner_judge!r} and "
                f"evaluations={self.evaluations}"
            )

    @property
    def users_at_a_time(self) -> int:
        """`num_envs`, or what the algorithm has by default."""
        return algorithm_of(self.algo).num_envs if self.num_envs is None else self.num_envs

    @property
    def env_kwargs(self) -> dict[str, Any]:
        """Settings of the environment, for training and evaluation alike."""
        candidates = {} if self.candidates is None else {"candidates": self.candidates}
        return {
            "slate_size": self.slate_size,
            "step_limit": self.step_limit,
            **candidates,
            **dataclasses.asdict(self.assumptions),
        }

    def deciding(self) -> dict[str, Any]:
        """What a run's result depends on, beside the users: all but where and how it runs."""
        chosen = dataclasses.asdict(self)
        for name in ("overwrite", "out", "checkpoint_seconds", "seeds", "device"):
            del chosen[name]
        return chosen
