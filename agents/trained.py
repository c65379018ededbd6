"""A trained agent taken out of its directory: its item scores, without environment or users."""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor

from audience.agents.algorithms import Algorithm, algorithm_of
from audience.agents.base import Agent
from audience.agents.embedding_policies import EmbeddingAgent
from audience.agents.saving import ABOUT, Labels, damaged, read_labels
from audience.agents.shortlist import FROM, Shortlist
from audience.envs.actions import reduced
from audience.reward_models.rewards import unit_rows
from audience.reward_models.user_files import is_users, read_files


class TrainedScorer:
    """Scores of all items by a policy: inner products of its query with its item vectors.

    The vectors are computed once; of catalogues of FROM items and more, `best` scores only the
    clusters of items that look promising (`Shortlist`). A policy that was trained with candidates
    scores the whole catalogue here. Of DQN and QR-DQN the value of the state, the same for all
    items, is left out.

    Args:
        model: An algorithm of `ALGORITHMS`.
        embeds: Whether its actions are points among the items' vectors.

    Raises:
        ValueError: `embeds`, and the model holds no item vectors to look its points up in.
    """

    @torch.inference_mode()
    def __init__(self, model: Any, embeds: bool = False) -> None:
        self._model, self._embeds = model, embeds
        policy = model.policy
        policy.set_training_mode(False)
        space = model.observation_space["item"]
        self.window, self.n_items = int(space.shape[0]), int(space.high.max()) + 1
        self._vectors: Tensor
        self._bias: Tensor | None = None
        if embeds:
            unit = looked_up(model)
            self._vectors = torch.as_tensor(unit, dtype=torch.float32, device=policy.device)
        else:
            self._net = policy.net if hasattr(policy, "net") else policy
            self._vectors, self._bias = self._net.scorer.items()
        self._shortlist: Shortlist | None = None
        if self.n_items >= FROM:
            self._shortlist = Shortlist(self._vectors, self._bias)

    @torch.inference_mode()
    def best(
        self,
        items: NDArray[np.int64],
        levels: NDArray[np.int64],
        lengths: NDArray[np.int64],
        count: int,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]] | None:
        """Items of the highest scores and these, (n, count), by a shortlist.

        None for catalogues that are small enough to be scored; see `scores` for the arguments.
        """
        if self._shortlist is None:
            return None
        query, _ = self._query(*self._padded(items, levels), lengths)
        return self._shortlist.best(query, count)

    @torch.inference_mode()
    def scores(
        self, items: NDArray[np.int64], levels: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> NDArray[np.floating[Any]]:
        """Score of every item after each of these histories, shape (n, items).

        Args:
            items: Catalogue indices, oldest first, left-aligned, shape (n, at most window).
            levels: Feedback levels, same shape.
            lengths: Used places, shape (n,).
        """
        query, known = self._query(*self._padded(items, levels), lengths)
        scores = query @ self._vectors.T
        if self._bias is not None:
            scores += self._bias
        if known is not None:
            scores += known
        return np.asarray(scores.cpu().numpy())

    def _padded(
        self, items: NDArray[np.int64], levels: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Both as wide as the window."""
        short = ((0, 0), (0, self.window - items.shape[1]))
        return np.pad(items, short), np.pad(levels, short)

    def _query(
        self, items: NDArray[np.int64], levels: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> tuple[Tensor, Tensor | None]:
        """What the item vectors are multiplied with, (n, dim), and what filters add, (n, items).

        A policy has filters only where its catalogue is small (`item_to_item_of`).
        """
        if self._embeds:
            observed: dict[str, Any] = {
                "item": items,
                "feedback": levels,
                "length": lengths[:, None],
            }
            # The features read the events alone; what else the space has is filled up.
            for name, space in self._model.observation_space.spaces.items():
                if name not in observed:
                    observed[name] = np.zeros((len(items), *space.shape), space.dtype)
            points = self._model.predict(observed, deterministic=True)[0]
            # Of a slate, the point of its first place.
            first = points.reshape(len(items), -1)[:, : self._vectors.shape[1]]
            return torch.as_tensor(first, dtype=torch.float32, device=self._vectors.device), None
        scorer, device = self._net.scorer, self._vectors.device
        events = [torch.as_tensor(part, device=device) for part in (items, levels, lengths)]
        query = self._net.query_net(scorer.encoder(*events, self._vectors))
        query = query.mean(1) if query.ndim == 3 else query  # over quantiles
        query, weights = query[:, : scorer.dim] / math.sqrt(scorer.dim), query[:, scorer.dim :]
        if scorer.filters is None:
            return query, None
        return query, torch.bmm(weights[:, None], scorer.filters(events[0], events[2]))[:, 0]


def looked_up(model: Any) -> NDArray[np.float32]:
    """The vectors of norm 1 that the points of SAC or TD3 are looked up among, (items, dim).

    They are made from those in the model as its environment made them.

    Raises:
        ValueError: The model has none.
    """
    given = model.policy_kwargs["features_extractor_kwargs"].get("item_vectors")
    if given is None:
        raise ValueError(
            "model must have been trained with the items' vectors to look its points up without "
            "an environment; train sac or td3 with item_text"
        )
    return reduced(unit_rows(np.asarray(given)), model.action_space.shape[-1])


def load_agent_of(directory: str | Path, device: str = "auto") -> Agent | BaseAlgorithm:
    """The agent that `audience-train` wrote, for environments whose actions are items.

    Args:
        directory: With model.zip and settings.json.
        device: auto, cpu, cuda.

    Raises:
        ValueError: A file is damaged, or the training has not finished.
    """
    known, settings, model = _load(Path(directory), device)
    if known.embeds:
        return EmbeddingAgent(model, looked_up(model), settings["slate_size"])
    found: BaseAlgorithm = model
    return found


def load_trained(directory: str | Path, device: str = "auto") -> tuple[TrainedScorer, Labels]:
    """What `audience-train` wrote.

    Item ids and feedback scale are read from the directory itself, or, where it has none, from
    the user model that it was trained with.

    Args:
        directory: With model.zip and settings.json.
        device: auto, cpu, cuda.

    Raises:
        ValueError: A file is damaged, or neither place tells the item ids.
    """
    directory = Path(directory)
    known, settings, model = _load(directory, device)
    users = Path(settings["users"])
    if (directory / ABOUT).is_file():
        labels, _ = read_labels(directory)
    elif is_users(users):
        catalogue, scale, _ = read_files(users)
        labels = Labels(catalogue.item_ids, scale)
    else:
        raise ValueError(
            f"{directory} does not tell the ids of its items, and its users {users} are not there; "
            f"train again, or put the user model's directory back"
        )
    scorer = TrainedScorer(model, known.embeds)
    if scorer.n_items != len(labels.item_ids):
        raise damaged(
            directory, f"{len(labels.item_ids)} item ids, the model has {scorer.n_items} items"
        )
    return scorer, labels


def _load(directory: Path, device: str) -> tuple[Algorithm, dict[str, Any], Any]:
    """The algorithm, the settings of the run and the model."""
    if (directory / "settings.json").is_file() and not (directory / "model.zip").is_file():
        raise ValueError(
            f"{directory} holds a training that has not finished: it has no model.zip; run "
            f"audience-train with the same settings again, and it goes on where it was"
        )
    try:
        settings = json.loads((directory / "settings.json").read_text())["settings"]
        known = algorithm_of(settings["algo"])
        settings["users"], settings["slate_size"]
        archive: Any = known.make
        return known, settings, archive.load(directory / "model.zip", device=device)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise damaged(directory, error) from error
