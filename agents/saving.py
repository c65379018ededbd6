"""A baseline as a directory: `recommender.json`, `arrays.safetensors`, `items.parquet`; no pickle.

What an agent is made of is what its `parameters` say: arrays, sparse matrices, numbers, other
agents, and for the greedy ones the user model, in the directory `users`.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import scipy.sparse as sp
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from audience.agents.base import ScoringAgent
from audience.agents.baselines import BASELINES
from audience.reward_models.catalogue import Catalogue
from audience.reward_models.scale import FeedbackScale
from audience.reward_models.users import Assumptions, load_users

FORMAT = 1
"""Version of the directory; a directory of another one is refused."""

ABOUT, ARRAYS, ITEMS, USERS = "recommender.json", "arrays.safetensors", "items.parquet", "users"
SPARSE = ("data", "indices", "indptr")


@dataclasses.dataclass(frozen=True)
class Labels:
    """What the numbers of an agent stand for.

    Attributes:
        item_ids: Id of each catalogue index, shape (items,).
        scale: Of the feedback.
    """

    item_ids: NDArray[np.str_]
    scale: FeedbackScale


def save_agent(
    agent: ScoringAgent, directory: str | Path, catalogue: Catalogue, scale: FeedbackScale
) -> Path:
    """Write a baseline, whole or not at all; an earlier one in the same place is replaced.

    Args:
        agent: One of `BASELINES`. Of user-KNN, the fitting users' events are written, without
            their names.
        directory: Where to.
        catalogue: Its items.
        scale: The scale of the feedback that it takes.

    Returns:
        The directory.

    Raises:
        TypeError: The agent is none of `BASELINES`, or its user model cannot be saved.
        ValueError: The catalogue has other items than the agent, or the directory holds
            something else.
    """
    directory = Path(directory)
    if len(catalogue) != getattr(agent, "n_items", len(catalogue)):
        raise ValueError(
            f"catalogue must be the one that the agent was fitted with, of {agent.n_items} items, "
            f"got one of {len(catalogue)}"
        )
    if directory.exists() and any(directory.iterdir()) and not (directory / ABOUT).is_file():
        raise ValueError(
            f"{directory} holds something else than a saved baseline; name a new directory"
        )
    temporary = directory.with_name(f".{directory.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        arrays: dict[str, NDArray[Any]] = {}
        about = {
            "agent": _describe(agent, "", arrays, temporary),
            "tuned": getattr(agent, "settings", None),
        }
        save_file(arrays, temporary / ARRAYS)
        write_labels(temporary, catalogue, scale, **about)
        shutil.rmtree(directory, ignore_errors=True)
        temporary.rename(directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return directory


def write_labels(directory: Path, catalogue: Catalogue, scale: FeedbackScale, **about: Any) -> None:
    """Write what an agent's numbers stand for into its directory; a trained one's, too.

    Args:
        directory: Of the agent; it exists.
        catalogue: Its items.
        scale: Of the feedback that it takes.
        **about: Further content of recommender.json, JSON.
    """
    pl.DataFrame({"item_id": catalogue.item_ids}).write_parquet(directory / ITEMS)
    content = {
        "format": FORMAT,
        "audience": version("audience"),
        "values": list(scale.values),
        "edges": None if scale.edges is None else list(scale.edges),
        **about,
    }
    (directory / ABOUT).write_text(json.dumps(content, indent=2) + "\n")


def read_labels(directory: Path) -> tuple[Labels, dict[str, Any]]:
    """What `write_labels` wrote: the labels, and all of recommender.json.

    Raises:
        ValueError: The directory is damaged or of another version.
    """
    try:
        about = json.loads((directory / ABOUT).read_text())
        found = about["format"]
        if found == FORMAT:
            edges = about["edges"]
            scale = FeedbackScale(tuple(about["values"]), None if edges is None else tuple(edges))
            items = pl.read_parquet(directory / ITEMS)["item_id"].to_numpy().astype(np.str_)
            return Labels(items, scale), about
    except (OSError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
        raise damaged(directory, error) from error
    raise ValueError(
        f"{directory}: format {found!r} of version {about.get('audience')}, this version "
        f"({version('audience')}) reads format {FORMAT}; save it again"
    )


def load_agent(directory: str | Path, device: str = "auto") -> tuple[ScoringAgent, Labels]:
    """What `save_agent` wrote.

    Args:
        directory: Where it lies.
        device: Of the user model in it, if it has one: auto, cpu, cuda.

    Raises:
        ValueError: The directory is damaged or of another version.
        UserModelError: The user model in it is.
    """
    directory = Path(directory)
    labels, about = read_labels(directory)
    try:
        arrays = load_file(directory / ARRAYS)
        agent = _made(about["agent"], arrays, directory, device)
        n_items = agent.n_items
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise damaged(directory, error) from error
    if n_items != len(labels.item_ids):
        raise damaged(directory, f"{ITEMS} has {len(labels.item_ids)} items, the agent {n_items}")
    if about.get("tuned") is not None:
        agent.settings = about["tuned"]  # type: ignore[attr-defined]
    return agent, labels


def damaged(directory: Path, reason: object) -> ValueError:
    """The error for a directory that cannot be read."""
    lines = str(reason).strip().splitlines() or [type(reason).__name__]
    return ValueError(f"{directory}: the directory is damaged ({lines[0]}); save it again")


def _describe(
    agent: ScoringAgent, prefix: str, arrays: dict[str, NDArray[Any]], directory: Path
) -> dict[str, Any]:
    """The agent as JSON; its arrays go into `arrays` under names that begin with `prefix`."""
    names = {kind: name for name, kind in BASELINES.items()}
    if type(agent) not in names:
        raise TypeError(
            f"agent must be one of {', '.join(BASELINES)} (BASELINES), got {type(agent).__name__}"
        )
    parameters: dict[str, Any] = {}
    for name, value in agent.parameters().items():
        key = f"{prefix}{name}"
        if isinstance(value, np.ndarray):
            arrays[key] = np.ascontiguousarray(value)
            parameters[name] = {"array": key}
        elif isinstance(value, sp.csr_matrix):
            arrays.update({f"{key}.{part}": getattr(value, part) for part in SPARSE})
            parameters[name] = {"sparse": key, "shape": list(value.shape)}
        elif isinstance(value, ScoringAgent):
            parameters[name] = {"agent": _describe(value, f"{key}.", arrays, directory)}
        elif isinstance(value, Assumptions):
            parameters[name] = {"assumptions": dataclasses.asdict(value)}
        elif hasattr(value, "save_pretrained"):
            value.save_pretrained(directory / USERS)
            parameters[name] = {"users": USERS}
        elif value is None or isinstance(value, bool | int | float | str):
            parameters[name] = {"value": value}
        else:
            raise TypeError(
                f"{name} of {type(agent).__name__} cannot be saved: it is a "
                f"{type(value).__name__} without save_pretrained; use a BertUserModel"
            )
    return {"name": names[type(agent)], "parameters": parameters}


def _made(
    described: dict[str, Any], arrays: dict[str, NDArray[Any]], directory: Path, device: str
) -> ScoringAgent:
    """The agent that `_describe` described."""

    def value(told: dict[str, Any]) -> Any:
        if "array" in told:
            return arrays[told["array"]]
        if "sparse" in told:
            parts = tuple(arrays[f"{told['sparse']}.{part}"] for part in SPARSE)
            return sp.csr_matrix(parts, tuple(told["shape"]))
        if "agent" in told:
            return _made(told["agent"], arrays, directory, device)
        if "assumptions" in told:
            return Assumptions(**told["assumptions"])
        if "users" in told:
            if device == "auto":
                return load_users(directory / told["users"])
            from audience.reward_models.bert_users import BertUserModel  # torch where needed

            return BertUserModel.from_pretrained(directory / told["users"], device=device)
        return told["value"]

    kind = BASELINES[described["name"]]
    return kind(**{name: value(told) for name, told in described["parameters"].items()})
