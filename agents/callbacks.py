"""What TensorBoard shows of a training run: its users and its recommendations."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import TensorBoardOutputFormat
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.utils import obs_as_tensor
from tqdm.auto import tqdm

from audience.agents.algorithms import ROLLOUT
from audience.agents.measures import gini
from audience.envs.steps import Step
from audience.envs.vector import RecommendVectorEnv
from audience.reward_models.users import UserModel

PROJECTED = 5_000
"""Items in the projector at most, the most popular: it is a page in a browser."""


class ProgressCallback(BaseCallback):
    """A progress bar in user-steps; Stable-Baselines3's own is an experiment of tqdm that warns."""

    def _on_training_start(self) -> None:
        total, done = self.locals["total_timesteps"], self.num_timesteps
        self._bar = tqdm(total=total, initial=done, unit="step", desc="training")

    def _on_step(self) -> bool:
        self._bar.update(self.training_env.num_envs)
        return True

    def _on_training_end(self) -> None:
        self._bar.close()


class UsersCallback(BaseCallback):
    """Logs what the users did and what was recommended to them, every `every` user-steps.

    `users/like_rate`, `users/acceptance`, `users/leave_rate`: share of steps with a like, with
    a choice, with a leave. `users/session_length`: steps for each session that ended.
    `users/disagreement`: of the ensemble, on what was chosen. `reward/<part>`: of a step.
    `recommendations/coverage`: share of the catalogue that was shown; `recommendations/gini`: of
    how often; `recommendations/novelty`: bits of surprise, -log2 of popularity;
    `recommendations/repetition`: share of places with what the session was shown before;
    `recommendations/diversity`: one minus the cosine between the items of a slate, where there
    are vectors. `policy/entropy`: of the first place, in nats. `charts/steps_per_second`:
    user-steps, updates included. `users/feedback`: a histogram of levels; `users/session`: a
    session as text.

    Args:
        every: User-steps between logs; logged at the end of a rollout.
    """

    def __init__(self, every: int = ROLLOUT) -> None:
        super().__init__()
        self.every = every

    def _on_training_start(self) -> None:
        self._env: RecommendVectorEnv = self.training_env.core  # type: ignore[attr-defined]
        self._users: UserModel = self._env.users
        self._likes, self._n_items = self._users.scale.likes, len(self._users.catalogue)
        self._surprise = -np.log2(self._users.catalogue.popularity)
        self._clock, self._counted = time.perf_counter(), self.num_timesteps
        shape = (self._env.num_envs, self._env.step_limit * self._env.slate_size)
        self._met = np.full(shape, -1, np.int64)  # what each session was shown
        self._story: list[str] = []
        self._told = ""
        self._forget()

    def _on_step(self) -> bool:
        step = self._env.last_step
        assert step is not None
        chosen = step.response.choice >= 0
        again = (step.slates[:, :, None] == self._met[:, None]).any(2)
        self._totals += [
            len(chosen),
            chosen.sum(),
            (chosen & self._likes[step.response.level]).sum(),
            step.terminated.sum(),
            step.finished.sum(),
            step.response.disagreement[chosen].sum(),
            again.sum(),
        ]
        for name, part in step.parts.items():
            self._parts[name] = self._parts.get(name, 0.0) + float(part.sum())
        self._slates.append(step.slates)
        self._levels.append(step.response.level[chosen])
        self._met = np.roll(self._met, step.slates.shape[1], axis=1)
        self._met[:, : step.slates.shape[1]] = step.slates
        self._met[step.finished] = -1
        self._tell(step)
        return True

    def _on_rollout_end(self) -> None:
        if self.num_timesteps - self._counted < self.every:
            return
        steps, chosen, liked, left, finished, disagreed, again = self._totals
        shown = np.concatenate(self._slates)
        counts = np.bincount(shown.ravel(), minlength=self._n_items)
        record = self.logger.record
        record("users/like_rate", liked / steps)
        record("users/acceptance", chosen / steps)
        record("users/leave_rate", left / steps)
        record("users/disagreement", disagreed / max(chosen, 1))
        if finished:
            # Not the mean over those that ended: after a rollout, long ones still run.
            record("users/session_length", steps / finished)
        for name, total in self._parts.items():
            record(f"reward/{name}", total / steps)
        record("recommendations/coverage", (counts > 0).mean())
        record("recommendations/gini", gini(counts))
        record("recommendations/novelty", counts @ self._surprise / counts.sum())
        record("recommendations/repetition", again / shown.size)
        vectors = self._env.item_vectors if shown.shape[1] > 1 else None
        if vectors is not None and vectors.shape[1]:
            record("recommendations/diversity", _diversity(vectors[shown]))
        if hasattr(self.model.policy, "get_distribution"):
            record("policy/entropy", self._entropy())
        now = time.perf_counter()
        taken = self.num_timesteps - self._counted
        record("charts/steps_per_second", taken / max(now - self._clock, 1e-9))
        self._draw()
        self._clock, self._counted = now, self.num_timesteps
        self._forget()
        if isinstance(self.model, OffPolicyAlgorithm):
            self.model.dump_logs()  # by itself it counts episodes, several of which end at once

    def _entropy(self) -> float:
        seen = self.model._last_obs
        assert isinstance(seen, dict)
        policy: Any = self.model.policy
        with torch.no_grad():
            obs: Any = obs_as_tensor(seen, self.model.device)
            return float(policy.get_distribution(obs).entropy().mean())

    def _tell(self, step: Step) -> None:
        """Write down what happens to the user of slot 0."""
        texts = self._users.catalogue.texts
        choice, level = int(step.response.choice[0]), int(step.response.level[0])
        shown = [str(texts[item]) for item in step.slates[0, :10]]
        if choice >= 0:
            value = self._users.scale.values[level]
            shown[choice : choice + 1] = [f"**{shown[choice]}** ({value:g})"] if choice < 10 else []
        self._story.append(f"{len(self._story) + 1}. " + "; ".join(shown))
        if step.finished[0]:
            end = "The user leaves." if step.terminated[0] else "The session is cut off."
            self._told, self._story = "\n".join([*self._story, "", end]), []

    def _draw(self) -> None:
        """What Stable-Baselines3's logger has no words for."""
        for writer in writers(self.logger):
            levels = np.concatenate(self._levels)
            if len(levels):
                values = np.array(self._users.scale.values)[levels]
                writer.add_histogram("users/feedback", values, self.num_timesteps)
            if self._told:
                writer.add_text("users/session", self._told, self.num_timesteps)

    def _forget(self) -> None:
        self._totals: NDArray[np.float64] = np.zeros(7)
        self._parts: dict[str, float] = {}
        self._slates: list[NDArray[np.int64]] = []
        self._levels: list[NDArray[np.int64]] = []


def writers(logger: Any) -> list[Any]:
    """TensorBoard's writers behind a logger."""
    formats = logger.output_formats
    return [form.writer for form in formats if isinstance(form, TensorBoardOutputFormat)]


def project_items(logger: Any, policy: Any, users: UserModel, step: int) -> None:
    """Show the policy's item vectors in TensorBoard's projector, the most popular items."""
    scorer = getattr(getattr(policy, "net", policy), "scorer", None)
    if scorer is None:
        return
    popular = np.argsort(-users.catalogue.popularity, kind="stable")[:PROJECTED]
    with torch.no_grad():
        vectors, _ = scorer.items(torch.as_tensor(popular, device=policy.device))
    # A tab or a line break would end the label.
    labels = [" ".join(str(users.catalogue.texts[item]).split()) or "?" for item in popular]
    for writer in writers(logger):
        writer.add_embedding(vectors.cpu(), labels, global_step=step, tag="item_vectors")


def _diversity(vectors: NDArray[np.float32]) -> float:
    """Mean of one minus the cosine between the places of slates, (slates, places, dim)."""
    places = vectors.shape[1]
    together = np.square(vectors.sum(1)).sum(1) - np.square(vectors).sum((1, 2))
    return float(1 - (together / (places * (places - 1))).mean())
