"""BERT users: a fitted behaviour model with its catalogue, its start histories and its card."""

from __future__ import annotations

import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError

from audience.reward_models.behaviour import BehaviourModel
from audience.reward_models.catalogue import Catalogue
from audience.reward_models.errors import UserModelError
from audience.reward_models.histories import Histories
from audience.reward_models.prediction import predict_events, rank_items
from audience.reward_models.quality_data import EventPredictions
from audience.reward_models.quiet import quiet
from audience.reward_models.scale import FeedbackScale
from audience.reward_models.sessions import BehaviourEngine, BertSessions
from audience.reward_models.users import POPULATIONS, START_EVENTS, Assumptions, Population

if TYPE_CHECKING:
    from audience.reward_models.log import InteractionLog

FORMAT = 1
"""Version of the directory; a directory of another one is refused."""

CALIBRATION_USERS, CALIBRATION_SLATES = 512, 4
"""Start histories and slates drawn for each, over which `acceptance` is met."""


class BertUserModel:
    """Simulated users whose responses come from a BERT behaviour model fitted to a log.

    A directory of one holds `config.json` and `model.safetensors` (the behaviour model),
    `items.parquet`, `starts.parquet` (first events under pseudonyms), `users.json`, and its
    card (`card.json`, `card.md`).

    Args:
        model: The behaviour model.
        catalogue: Its items.
        scale: Its feedback scale.
        starts: First events of the users of each population.
        card: What `card.json` says.
    """

    def __init__(
        self,
        model: BehaviourModel,
        catalogue: Catalogue,
        scale: FeedbackScale,
        starts: dict[Population, Histories],
        card: dict[str, Any] | None = None,
    ) -> None:
        self.model = model.eval()
        self._catalogue, self._scale, self._starts = catalogue, scale, starts
        self.card = card if card is not None else {}
        self._outside: dict[tuple[int, float, float], float] = {}

    @classmethod
    def fit(
        cls,
        log: InteractionLog,
        out: str | Path,
        *,
        preset: Literal["tiny", "demo", "full"] = "full",
        half: Literal["a", "b"] | None = None,
        seed: int = 0,
        device: str = "auto",
        encoder: str | None = None,
        verbose: bool = True,
    ) -> BertUserModel:
        """Fit users to a log, measure them on unseen users, and write them to a directory.

        Args:
            log: The interaction log.
            out: The directory to write. A killed fit leaves nothing there, and resumes.
            preset: "tiny" (seconds, for tests), "demo" (a minute or two) or "full".
            half: Fit on one half of the users who are not test users; None takes them all.
            seed: Of the split, the orders and the weights.
            device: "auto" (a GPU where there is one), "cpu" or "cuda".
            encoder: A directory or Hugging Face id of the text encoder; None: the default.
            verbose: Whether to show progress and print the card's summary.

        Raises:
            LogError: The log is too small to split or to fit on.
            TextEncoderError: No text encoder is to be had.
            UserModelError: `out` exists and is no user model directory.
        """
        from audience.reward_models.fitting import FitSettings, fit

        settings = FitSettings(
            preset=preset, half=half, seed=seed, device=device, encoder=encoder, out=str(out)
        )
        return fit(log, settings, verbose=verbose)

    # The contract of user models

    @property
    def catalogue(self) -> Catalogue:
        """The items that can be shown."""
        return self._catalogue

    @property
    def scale(self) -> FeedbackScale:
        """The levels of the feedback they give."""
        return self._scale

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.model.device

    def to(self, device: str | torch.device) -> BertUserModel:
        """Move to a device (in place)."""
        torch.nn.Module.to(self.model, device)
        return self

    def starts(self, population: Population) -> Histories:
        """The first events of the users of a population, at most START_EVENTS a user."""
        return self._starts[population]

    def open(self, slots: int, slate_size: int, assumptions: Assumptions) -> BertSessions:
        """A block of `slots` sessions that are shown slates of `slate_size` items."""
        return BertSessions(self, slots, slate_size, assumptions)

    # What agents and measures ask

    @property
    def text_vectors(self) -> NDArray[np.float32]:
        """Vectors of the items' texts, shape (items, text dim)."""
        return self.model.text_vectors.cpu().numpy()

    @torch.inference_mode()
    def outside_option(self, slate_size: int, assumptions: Assumptions) -> float:
        """Utility of choosing nothing at which slates drawn by popularity meet `acceptance`.

        The slates are drawn without replacement from what a user has not consumed, for the
        fitting users at the start of a session; the utility is found by bisection.
        """
        key = (slate_size, assumptions.acceptance, assumptions.popularity_discount)
        if key not in self._outside:
            weight = self._popular_slates(slate_size, assumptions.popularity_discount)
            low, high = -80.0, 20.0  # log-probabilities of a catalogue lie well within
            for _ in range(60):
                middle = (low + high) / 2
                accepted = float(np.mean(weight / (weight + np.exp(middle))))
                low, high = (low, middle) if accepted < assumptions.acceptance else (middle, high)
            self._outside[key] = (low + high) / 2
        return self._outside[key]

    def _popular_slates(self, slate_size: int, discount: float) -> NDArray[np.float64]:
        """Summed choice weight of popularity-drawn slates, one a draw, shape (draws,)."""
        starts = self._starts["fitting"].at_least(1)
        starts = starts.take(np.arange(min(len(starts), CALIBRATION_USERS)))
        engine = BehaviourEngine(self.model, discount)
        states = engine.new_states(len(starts))
        engine.encode(states, torch.arange(len(starts), device=self.device), starts)
        utilities = states.utilities.cpu().numpy().astype(np.float64)  # (users, items)
        rng = np.random.default_rng(0)  # part of the definition, so not of any run's seed
        weights = []
        for _ in range(CALIBRATION_SLATES):
            # Gumbel's trick: the largest of log-share plus noise are a draw without replacement.
            key = np.log(self._catalogue.popularity) + rng.gumbel(size=utilities.shape)
            key[np.isneginf(utilities)] = -np.inf
            slates = np.argpartition(-key, slate_size - 1, axis=1)[:, :slate_size]
            weights.append(np.exp(np.take_along_axis(utilities, slates, 1)).sum(1))
        return np.concatenate(weights)

    @torch.inference_mode()
    def score(
        self,
        items: NDArray[np.int64],
        levels: NDArray[np.int64],
        lengths: NDArray[np.int64],
        assumptions: Assumptions,
        slate_size: int,
        top: int = 200,
    ) -> NDArray[np.float32]:
        """How much each item adds to the expected immediate reward of the best slate.

        With choice weights w, outside weight w0 and expected rewards v, a slate S pays
        sum(w v) / (w0 + sum w) over S. Its best value z solves z w0 = sum of the K largest
        w (v - z) (Dinkelbach, Management Science 1967), so the K items with the largest
        w (v - z) are the exact best slate; at slate 1 that is the best item.

        Args:
            items: Catalogue indices, oldest first, left-aligned, shape (n, history).
            levels: Feedback levels, shape (n, history).
            lengths: Used places, shape (n,).
            assumptions: The environment's.
            slate_size: Items shown together.
            top: Items, the likeliest choices, whose feedback is computed.

        Returns:
            w (v - z), shape (n, items); -inf for consumed items and beyond the top.
        """
        histories = Histories.from_padded(items, levels, lengths)
        engine = BehaviourEngine(self.model, assumptions.popularity_discount)
        states = engine.new_states(len(histories))
        rows = torch.arange(len(histories), device=self.device)
        engine.encode(states, rows, histories)
        utilities, likeliest = states.utilities.topk(min(top, len(self._catalogue)), dim=1)
        shares = engine.feedback(states, rows, likeliest)  # (n, top, levels)
        reward = torch.from_numpy(self._scale.scaled).to(shares) @ shares.transpose(1, 2)
        weight, outside = utilities.exp(), np.exp(self.outside_option(slate_size, assumptions))
        value = torch.zeros(len(histories), 1, device=self.device)
        for _ in range(8):  # converges superlinearly; 8 rounds leave nothing to see
            best = (weight * (reward - value)).topk(slate_size, dim=1).indices
            w, v = weight.gather(1, best), reward.gather(1, best)
            value = (w * v).sum(1, keepdim=True) / (w.sum(1, keepdim=True) + outside)
        gain = (weight * (reward - value)).masked_fill(utilities.isneginf(), -torch.inf)
        scores = torch.full(states.utilities.shape, -torch.inf, device=self.device)
        return scores.scatter(1, likeliest, gain).cpu().numpy()

    def predict_events(self, histories: Histories) -> EventPredictions:
        """Predict every event from that user's own earlier events; see `prediction`."""
        return predict_events(self.model, histories)

    def rank_items(self, contexts: Histories) -> NDArray[np.float32]:
        """Utilities of all items after each context, shape (users, items); consumed -inf."""
        return rank_items(self.model, contexts)

    # Directories

    def save_pretrained(self, directory: str | Path) -> None:
        """Write into a directory, which must be new or empty. The card is written beside it."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        with quiet():
            self.model.save_pretrained(directory)
        catalogue = self._catalogue
        pl.DataFrame(
            {
                "item_id": catalogue.item_ids,
                "text": catalogue.texts,
                "count": catalogue.counts,
                "mean_feedback": catalogue.mean_feedback,
            }
        ).write_parquet(directory / "items.parquet")
        pl.concat([_events(name, self._starts[name]) for name in POPULATIONS]).write_parquet(
            directory / "starts.parquet"
        )
        about = {
            "format": FORMAT,
            "audience": version("audience"),
            "values": list(self._scale.values),
            "edges": list(self._scale.edges) if self._scale.edges is not None else None,
        }
        (directory / "users.json").write_text(json.dumps(about, indent=2) + "\n")

    @classmethod
    def from_pretrained(cls, directory: str | Path, device: str = "auto") -> BertUserModel:
        """Load a directory.

        Args:
            directory: What `fit` or `save_pretrained` wrote.
            device: "auto" (a GPU where there is one), "cpu" or "cuda".

        Raises:
            UserModelError: The directory is missing, damaged or of another version.
        """
        path = Path(directory)
        about = _about(path)
        try:
            items = pl.read_parquet(path / "items.parquet")
            starts = pl.read_parquet(path / "starts.parquet")
            with quiet():
                loaded: Any = BehaviourModel.from_pretrained(path, output_loading_info=True)
            card = json.loads((path / "card.json").read_text()) if _has_card(path) else {}
        except (OSError, ValueError, RuntimeError, SafetensorError, pl.exceptions.PolarsError) as e:
            reason = str(e).strip().splitlines()[0]
            raise UserModelError(
                f"users {path}: the directory is damaged ({reason}). {_CURE}"
            ) from e
        model, loading = loaded
        wrong = [*loading["missing_keys"], *loading["unexpected_keys"], *loading["mismatched_keys"]]
        config = model.config
        if wrong or len(items) != config.n_items:
            reason = (
                f"weights do not fit: {wrong[0]}"
                if wrong
                else (f"items.parquet has {len(items)} items, config.json says {config.n_items}")
            )
            raise UserModelError(f"users {path}: the directory is damaged ({reason}). {_CURE}")
        catalogue = Catalogue(
            items["item_id"].to_numpy().astype(np.str_),
            items["text"].to_numpy().astype(np.str_),
            items["count"].to_numpy().astype(np.int64),
            items["mean_feedback"].to_numpy().astype(np.float64),
        )
        edges = about["edges"]
        scale = FeedbackScale(tuple(about["values"]), None if edges is None else tuple(edges))
        histories = {name: _histories(starts, name) for name in POPULATIONS}
        return cls(model, catalogue, scale, histories, card).to(resolve_device(device))


_CURE = "Fit it again with audience-fit, or name another directory."


def resolve_device(device: str) -> torch.device:
    """The torch device of a setting: "auto" takes a GPU where there is one.

    Raises:
        ValueError: The device is not to be had.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device must be auto, cpu or cuda, got {device!r}") from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device is {device!r}, but torch finds no GPU; use auto or cpu")
    return found


def replace_directory(new: Path, directory: Path) -> None:
    """Put a finished directory in the place of another (or of none)."""
    old = directory.with_name(directory.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if directory.exists():
        directory.rename(old)
    new.rename(directory)
    shutil.rmtree(old, ignore_errors=True)


def is_users(path: Path) -> bool:
    """Whether a directory says that it is a user model."""
    return (path / "users.json").is_file()


def _has_card(path: Path) -> bool:
    return (path / "card.json").is_file()


def _about(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise UserModelError(
            f"users {path}: no such directory. Fit one with audience-fit --out {path}, or name "
            f"another directory."
        )
    if not is_users(path):
        raise UserModelError(f"users {path}: no user model directory (no users.json). {_CURE}")
    try:
        about = json.loads((path / "users.json").read_text())
        found = about["format"]
        about["values"], about["edges"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserModelError(
            f"users {path}: the directory is damaged (users.json: {error!r}). {_CURE}"
        ) from error
    if found != FORMAT:
        raise UserModelError(
            f"users {path}: format {found!r} of version {about.get('audience')}, this version "
            f"({version('audience')}) reads format {FORMAT}. {_CURE}"
        )
    return dict(about)


def _events(population: Population, histories: Histories) -> pl.DataFrame:
    # A row without an item stands for a user without events.
    lengths = histories.lengths
    padded = np.maximum(lengths, 1)
    item = np.full(int(padded.sum()), -1, np.int64)
    level = item.copy()
    filled = np.repeat(lengths > 0, padded)
    item[filled], level[filled] = histories.items, histories.levels
    return pl.DataFrame(
        {
            "population": np.repeat(population, len(item)),
            "user": np.repeat(histories.users, padded),
            "item": item,
            "level": level,
        },
        schema={
            "population": pl.String,
            "user": pl.String,
            "item": pl.Int64,
            "level": pl.Int64,
        },
    )


def _histories(starts: pl.DataFrame, population: Population) -> Histories:
    rows = starts.filter(pl.col("population") == population)
    users, first = np.unique(rows["user"].to_numpy().astype(np.str_), return_index=True)
    order = np.argsort(first)
    keep = rows["item"].to_numpy() >= 0
    index = np.searchsorted(first[order], np.arange(len(rows)), side="right") - 1
    offsets = np.concatenate([[0], np.cumsum(np.bincount(index[keep], minlength=len(users)))])
    return Histories(
        users[order],
        offsets.astype(np.int64),
        rows["item"].to_numpy()[keep].astype(np.int64),
        rows["level"].to_numpy()[keep].astype(np.int64),
    )


def pseudonymous(histories: Histories, population: Population) -> Histories:
    """The start of each history, under a name that says nothing of the user."""
    names = np.array([f"{population}-{i}" for i in range(len(histories))], dtype=np.str_)
    return Histories(names, histories.offsets, histories.items, histories.levels).first(
        START_EVENTS
    )
