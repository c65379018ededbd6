"""BERT users: a fitted behaviour model with its catalogue, its start histories and its card."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audience.reward_models.about_users import NOBODY
from audience.reward_models.behaviour import BehaviourModel
from audience.reward_models.bert_files import read_bert, write_bert
from audience.reward_models.catalogue import Catalogue
from audience.reward_models.device import DtypeName, checked_dtype, resolve_device
from audience.reward_models.engine import BehaviourEngine
from audience.reward_models.histories import Histories
from audience.reward_models.inputs import INPUTS
from audience.reward_models.log_slates import Slates
from audience.reward_models.outside import CALIBRATION_USERS, outside_utility, popular_slate_weights
from audience.reward_models.parts import one_thread
from audience.reward_models.prediction import (
    predict_ends,
    predict_events,
    predict_slates,
    rank_items,
)
from audience.reward_models.quality_data import EventPredictions
from audience.reward_models.scale import FeedbackScale
from audience.reward_models.sessions import BertSessions
from audience.reward_models.slate_gains import slate_gains
from audience.reward_models.start_memo import StartMemo
from audience.reward_models.user_states import UserStates
from audience.reward_models.users import Assumptions, Population

if TYPE_CHECKING:
    from audience.reward_models.log import InteractionLog


class BertUserModel:
    """Simulated users whose responses come from a BERT behaviour model fitted to a log.

    A directory of one holds what `bert_files` says.

    Features and notes are found by the names that histories give their users: those of the starts,
    and in the process of the fit also those of the log. Others are mean users who wrote nothing.

    Args:
        model: The behaviour model.
        catalogue: Its items.
        scale: Its feedback scale.
        starts: First events of the users of each population.
        card: What `card.json` says.

    Attributes:
        dtype: What running users compute the tower in; see `DtypeName`.
    """

    inputs = INPUTS

    def __init__(
        self,
        model: BehaviourModel,
        catalogue: Catalogue,
        scale: FeedbackScale,
        starts: dict[Population, Histories],
        card: dict[str, Any] | None = None,
    ) -> None:
        self.model = model.eval()
        self.dtype: DtypeName = "float32"
        self._catalogue, self._scale, self._starts = catalogue, scale, starts
        self.card = card if card is not None else {}
        self._outside: dict[tuple[int, float, float], float] = {}
        self._engines: dict[tuple[float, bool], BehaviourEngine] = {}
        self._memos: dict[tuple[float, bool], StartMemo] = {}

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
        studies: bool = False,
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
            studies: With preset "full", also refit without text and without some items, and fit
                judges, so that the card says more.
            verbose: Whether to show progress and print the card's summary.

        Raises:
            LogError: The log is too small to split or to fit on.
            TextEncoderError: No text encoder is to be had.
            UserModelError: `out` exists and is no user model directory.
        """
        from audience.reward_models.fit_settings import FitSettings
        from audience.reward_models.fitting import fit

        settings = FitSettings(
            preset=preset,
            half=half,
            seed=seed,
            device=device,
            encoder=encoder,
            studies=studies,
            out=str(out),
        )
        users = fit(log, settings, verbose=verbose)
        assert isinstance(users, cls)  # settings.kind is bert
        return users

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

    def to(
        self, device: str | torch.device | None = None, dtype: DtypeName | None = None
    ) -> BertUserModel:
        """Move to a device, and compute in another type, where one is given (in place).

        Raises:
            ValueError: There is no such type.
        """
        self.dtype = self.dtype if dtype is None else checked_dtype(dtype)
        torch.nn.Module.to(self.model, self.device if device is None else device)
        self._engines.clear()
        self._memos.clear()
        return self

    def engine(self, popularity_discount: float = 0.0, free: bool = False) -> BehaviourEngine:
        """What runs the model, made once: it holds all item vectors of a model that is fitted.

        Args:
            popularity_discount: Part of log-popularity taken out of the utilities.
            free: Whether users run freely, and their choice is tilted.
        """
        key = popularity_discount, free
        if key not in self._engines:
            self._engines[key] = BehaviourEngine(
                self.model, popularity_discount, tilted=free, dtype=getattr(torch, self.dtype)
            )
        return self._engines[key]

    def start_memo(self, popularity_discount: float, free: bool = False) -> StartMemo:
        """The states in which sessions begin, which all sessions of these users share."""
        key = popularity_discount, free
        if key not in self._memos:
            every = Histories.joined(list(self._starts.values()))
            self._memos[key] = StartMemo(self.engine(*key), every)
        return self._memos[key]

    def alone(self, member: int) -> BertUserModel:
        """These users with the feedback of one member of the ensemble, whom no other checks.

        Args:
            member: Its number, from 0.

        Raises:
            ValueError: There is no such member.
        """
        members = self.model.config.members
        if not 0 <= member < members:
            raise ValueError(f"member must be from 0 to {members - 1}, got {member!r}")
        model = deepcopy(self.model)
        model.feedback_base = model.feedback_base.alone(member)
        model.feedback_head = model.feedback_head.alone(member)
        model.config.members = 1
        card = {**self.card, "member": member}
        one = BertUserModel(model, self._catalogue, self._scale, self._starts, card)
        return one.to(dtype=self.dtype)

    def starts(self, population: Population) -> Histories:
        """The first events of the users of a population, at most START_EVENTS a user."""
        return self._starts[population]

    def open(self, slots: int, slate_size: int, assumptions: Assumptions) -> BertSessions:
        """A block of `slots` sessions that are shown slates of `slate_size` items."""
        return BertSessions(self, slots, slate_size, assumptions)

    def roam(self, slots: int) -> BertSessions:
        """A block of sessions whose users take what they like of the whole catalogue (`wander`)."""
        return BertSessions(self, slots, 1, Assumptions(), free=True)

    def __getstate__(self) -> dict[str, Any]:
        # What can be computed again stays behind; it is more than all the rest.
        return self.__dict__ | {"_engines": {}, "_memos": {}}

    # What agents and measures ask

    @property
    def text_vectors(self) -> NDArray[np.float32]:
        """Vectors of the items' texts, shape (items, text dim)."""
        return self.model.text_vectors.cpu().numpy()

    @torch.inference_mode()
    def outside_option(self, slate_size: int, assumptions: Assumptions) -> float:
        """Utility of choosing nothing: as learned, or so that popular slates meet `acceptance`.

        The slates are drawn without replacement from what a user has not consumed, for the
        fitting users at the start of a session; the utility is found by bisection.
        """
        if "outside" in self.learned and assumptions.acceptance is None:
            return 0.0
        key = (slate_size, assumptions.stated.acceptance, assumptions.popularity_discount)
        if key not in self._outside:
            starts = self._starts["fitting"].at_least(1)
            starts = starts.take(np.arange(min(len(starts), CALIBRATION_USERS)))
            engine, states, rows = self._encoded(starts, assumptions.popularity_discount)
            weights = popular_slate_weights(
                engine.worth(states, rows).cpu().numpy(), self._catalogue.popularity, slate_size
            )
            self._outside[key] = outside_utility(weights, assumptions.stated.acceptance)
        return self._outside[key]

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

        Args:
            items: Catalogue indices, oldest first, left-aligned, shape (n, history).
            levels: Feedback levels, shape (n, history).
            lengths: Used places, shape (n,).
            assumptions: The environment's.
            slate_size: Items shown together.
            top: Items, the likeliest choices, whose feedback is computed.

        Returns:
            `slate_gains`, shape (n, items); -inf for consumed items and beyond the top.
        """
        histories = Histories.from_padded(items, levels, lengths)
        names = np.full(len(histories), NOBODY)  # numbers could be names of other users
        histories = Histories(names, histories.offsets, histories.items, histories.levels)
        with one_thread(self.device, len(histories)):
            engine, states, rows = self._encoded(histories, assumptions.popularity_discount)
            worth = engine.worth(states, rows)
            utilities, likeliest = worth.topk(min(top, len(self._catalogue)), dim=1)
            shares = engine.feedback(states, rows, likeliest).mean(2)  # (n, top, levels)
        reward = torch.from_numpy(self._scale.scaled).to(shares) @ shares.transpose(1, 2)
        outside = float(np.exp(self.outside_option(slate_size, assumptions)))
        gain = slate_gains(utilities.exp(), reward, outside, slate_size)
        gain = gain.masked_fill(utilities.isneginf(), -torch.inf)
        return torch.full_like(worth, -torch.inf).scatter(1, likeliest, gain).cpu().numpy()

    def predict_events(self, histories: Histories) -> EventPredictions:
        """Predict every event from that user's own earlier events; see `prediction`."""
        return predict_events(self.model, histories)

    @property
    def learned(self) -> frozenset[str]:
        """What of the answer to a slate was learned: of "outside", "position", "leave", "dwell"."""
        return self.model.learned

    def predict_slates(
        self, histories: Histories, slates: Slates
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """P(chosen) of each item shown and P(nothing) of each slate; None if not learned."""
        if "outside" not in self.learned:
            return None
        return predict_slates(self.model, histories, slates)[:2]

    def predict_leaves(
        self, histories: Histories, slates: Slates | None
    ) -> NDArray[np.float64] | None:
        """P(leave) after each slate's real answer, or after each event; None if not learned."""
        if "leave" not in self.learned:
            return None
        if slates is not None and "outside" in self.learned:
            return predict_slates(self.model, histories, slates)[2]
        return predict_ends(self.model, histories)[0]

    def predict_dwell(
        self, histories: Histories
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Mean and standard deviation of log-seconds of each event; None if not learned."""
        return predict_ends(self.model, histories)[1:] if "dwell" in self.learned else None

    def rank_items(self, contexts: Histories) -> NDArray[np.float32]:
        """Utilities of all items after each context, shape (users, items); consumed -inf."""
        return rank_items(self.model, contexts)

    @torch.inference_mode()
    def feedback(self, histories: Histories, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """Probability of each feedback level for items, each asked after the whole history.

        Args:
            histories: What is known of each user.
            items: Catalogue indices, shape (users, q).

        Returns:
            Shape (users, q, levels).
        """
        engine, states, rows = self._encoded(histories)
        shares = engine.feedback(states, rows, torch.from_numpy(items).to(self.device))
        return shares.mean(2).cpu().numpy()

    @torch.inference_mode()
    def simulate(self, starts: Histories, lengths: NDArray[np.int64], seed: int) -> Histories:
        """Continue histories freely: items by choice from the whole catalogue, then feedback.

        Each sampled event is history for the next.

        Args:
            starts: Where each user begins.
            lengths: Events that each history shall have, shape (users,), at least those of its
                start, at most the catalogue.
            seed: Of the draws.
        """
        sessions = self.roam(len(starts))
        sessions.start(np.arange(len(starts)), starts)
        rng = np.random.default_rng(seed)
        for _ in range(int((lengths - starts.lengths).max(initial=0))):
            going = np.flatnonzero(sessions.histories().lengths < lengths)
            sessions.wander(going, rng.random((len(going), 3)))
        return sessions.histories(starts.users)

    def _encoded(
        self, histories: Histories, discount: float = 0.0
    ) -> tuple[BehaviourEngine, UserStates, Tensor]:
        """These histories in the rows of states of their own."""
        engine = self.engine(discount)
        states = engine.new_states(len(histories))
        rows = torch.arange(len(histories), device=self.device)
        engine.encode(states, rows, histories)
        return engine, states, rows

    # Directories

    def save_pretrained(self, directory: str | Path) -> None:
        """Write into a directory, which must be new or empty. The card is written beside it."""
        write_bert(Path(directory), self.model, self._catalogue, self._scale, self._starts)

    @classmethod
    def from_pretrained(
        cls, directory: str | Path, device: str = "auto", dtype: DtypeName = "float32"
    ) -> BertUserModel:
        """Load a directory.

        Args:
            directory: What `fit` or `save_pretrained` wrote.
            device: "auto" (a GPU where there is one), "cpu" or "cuda".
            dtype: What running users compute the tower in, "float32" or "bfloat16".

        Raises:
            UserModelError: The directory is missing, damaged or of another version.
            ValueError: There is no such device or type.
        """
        return cls(*read_bert(Path(directory))).to(resolve_device(device), dtype)
