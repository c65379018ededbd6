"""Fitting BERT users to data that are ready: inputs, behaviour tower, tilt."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from audience.reward_models.about_users import AboutUsers, Written
from audience.reward_models.behaviour import BehaviourModel
from audience.reward_models.bert_users import BertUserModel
from audience.reward_models.blocks import BlockDataset, covering, overlapping
from audience.reward_models.coming import fit_mix
from audience.reward_models.configuration import BehaviourConfig
from audience.reward_models.fit_data import FitData
from audience.reward_models.fit_settings import FitSettings, Size
from audience.reward_models.fit_threads import fits
from audience.reward_models.histories import Histories
from audience.reward_models.input_fitting import fit_inputs, set_coming
from audience.reward_models.inputs import CollaborativeInputs
from audience.reward_models.plainer_heads import give_way
from audience.reward_models.quality_choice import tune_ease
from audience.reward_models.quality_data import QualityData
from audience.reward_models.quality_feedback import tune_als
from audience.reward_models.signals import Signals
from audience.reward_models.text_encoders import TextEncoder, encode_event_texts
from audience.reward_models.tilting import fit_tilt
from audience.reward_models.tower import fit_tower
from audience.reward_models.user_files import pseudonymous
from audience.reward_models.users import POPULATIONS, START_EVENTS, Population

SHUFFLED = {"time": 0.0, "random": 1.0}
"""Share of the blocks in fitting whose events are put in random order, by the model's order."""

FOLDS = 5
"""Parts of the fitting users for cross-fitting: each part's inputs come from the other four."""

COLD_SHARE = 0.15
"""Of the items, those of which a fold of the cross-fitted inputs knows the text alone: so the heads
meet such items, and learn how far text may be trusted. Without it the RMSE of items that were never
met is .999 on movielens, with .05 .923, with .15 .917; that of all others stays at .830."""

USERS_PER_FEATURE = 50
"""Fitting users that a column of user features needs to be taken in of itself: of few users it is
learned by heart. On ml-100k, with 27 users a column, features cost 0.3 % of NLL."""


Parts = list[tuple[Histories, NDArray[np.float64]]]
"""Folds of users: their histories, and the values of their events."""


@dataclass(frozen=True)
class BertFit:
    """How BERT users are fitted.

    Attributes:
        settings: Of the fit.
        order: "time" or "random".
        device: Where to compute.
        work: Directory of checkpoints; where it holds some, the fit resumes from the last.
        verbose: Whether to show progress.
        size: Sizes of the tower and how long it is fitted.
    """

    settings: FitSettings
    order: str
    device: torch.device
    work: Path
    verbose: bool
    size: Size

    def __call__(
        self,
        data: FitData,
        vectors: NDArray[np.float32],
        measures: QualityData | None = None,
        notes: dict[Population, Written] | None = None,
    ) -> tuple[BertUserModel, dict[str, Any]]:
        """Fit to a log.

        Args:
            data: The log.
            vectors: Of the items' texts, shape (items, dim).
            measures: `data.quality`, where it is at hand: what was tuned on it is remembered.
            notes: `encoded_notes` of the encoder of `vectors`. None, or nothing that this encoder
                understands: the model takes in none.

        Returns:
            The users, and what was chosen on the way, for the card's settings.
        """
        settings, order, size = self.settings, self.order, self.size
        measures = data.quality(settings.seed) if measures is None else measures
        self._say("collaborative inputs")
        factors = size.factors
        tuned = {"penalty": tune_als(measures, factors), "ease_l2": tune_ease(measures)}
        own, crossed, folds = _inputs(data, factors, tuned, settings.seed, vectors, order == "time")
        about = _about(data, notes, settings.features)
        model = _new_model(data, vectors, own, settings, size, order, about)
        window, levels = model.config.window, np.array(data.scale.values)
        fitting, validating = data.histories["fitting"], data.histories["validation"]
        training = BlockDataset(
            fitting,
            covering(fitting, window),
            crossed,
            levels,
            window,
            folds,
            order=order,
            shuffled=SHUFFLED[order],
            weights=_bootstrap(len(fitting), model.config.members, settings.seed),
            signals=data.signals["fitting"],
            about=about,
            seed=settings.seed,
        )
        validation = BlockDataset(
            validating,
            overlapping(validating, window),
            own,
            levels,
            window,
            order=order,
            signals=data.signals["validation"],
            about=about,
        )
        self._say("behaviour tower")
        fit_tower(
            model,
            training,
            validation,
            crossed,
            self.work,
            epochs=size.epochs,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            seed=settings.seed,
            device=self.device,
            verbose=self.verbose,
        )
        starts = {name: pseudonymous(data.histories[name], name) for name in POPULATIONS}
        users = BertUserModel(model, data.catalogue, data.scale, starts).to(self.device)
        gave_way = give_way(users, measures)
        if size.tilt_passes:
            self._say("free-running choice")
            fit_tilt(users, validating, fitting, crossed, folds, size.tilt_passes, settings.seed)
        chosen = {"window": window, "members": model.config.members, "order": order}
        return users, tuned | chosen | ({"gave_way": gave_way} if gave_way else {})

    def _say(self, text: str) -> None:
        if self.verbose:
            print(text, file=sys.stderr, flush=True)


def encoded_notes(
    encoder: TextEncoder, signals: dict[Population, Signals]
) -> dict[Population, Written] | None:
    """What was written at the events of each population, as vectors; None without any text.

    Args:
        encoder: That of the items' texts, which it has encoded before.
        signals: Of each population.
    """
    texts = {name: own.texts for name, own in signals.items()}
    if any(own is None for own in texts.values()):
        return None
    return {
        name: encode_event_texts(encoder, own) for name, own in texts.items() if own is not None
    }


def _bootstrap(users: int, members: int, seed: int) -> NDArray[np.float32]:
    """How often each user stands in each member's sample of users, (users, members)."""
    if members == 1:
        return np.ones((users, 1), np.float32)
    rng = np.random.default_rng([seed, 1])
    drawn = rng.multinomial(users, np.full(users, 1 / users), size=members)
    return drawn.T.astype(np.float32)


def _inputs(
    data: FitData,
    factors: int,
    tuned: dict[str, float],
    seed: int,
    vectors: NDArray[np.float32],
    timed: bool,
) -> tuple[CollaborativeInputs, CollaborativeInputs, NDArray[np.int64]]:
    """Inputs for use, cross-fitted inputs for fitting, and each fitting user's fold."""
    histories, values = data.histories["fitting"], data.values["fitting"]
    n_folds = min(FOLDS, len(histories))
    folds = np.random.default_rng(seed).permutation(len(histories)) % n_folds

    def part(users: NDArray[np.bool_]) -> tuple[Histories, NDArray[np.float64]]:
        chosen = np.repeat(users, histories.lengths)
        return histories.take(np.flatnonzero(users)), values[chosen]

    def fitted(of: tuple[Parts, NDArray[np.bool_] | None]) -> CollaborativeInputs:
        parts, cold = of
        return fit_inputs(
            parts,
            len(data.catalogue),
            np.array(data.scale.values),
            factors=factors,
            seed=seed,
            vectors=vectors,
            cold=cold,
            **tuned,
        )

    everyone = part(np.ones(len(histories), bool))
    others = [part(folds != k) for k in range(n_folds)] if n_folds > 1 else [everyone]
    wanted: list[tuple[Parts, NDArray[np.bool_] | None]] = [([everyone], None)]
    if n_folds > 1:
        cold = np.random.default_rng([seed, 3]).random((n_folds, len(data.catalogue))) < COLD_SHARE
        wanted.append((others, cold))
    own, *rest = fits(fitted, wanted)
    crossed = rest[0] if rest else own
    if timed:
        known = [of for of, _ in others]
        asked = [part(folds == k)[0] for k in range(n_folds)]
        head, parts = own.head.numpy(), list(zip(known, asked, strict=True))
        floors = crossed.floors[:, 0].tolist()
        ease = list(zip(crossed.ease.numpy(), floors, strict=True))
        mix = fit_mix(parts, head, vectors, seed, ease)
        of_users = [(own, [everyone[0]]), (crossed, known)][: len(wanted)]
        fits(lambda of: set_coming(*of, vectors, mix), of_users)
    return own, crossed, folds.astype(np.int64)


def _about(
    data: FitData, notes: dict[Population, Written] | None, features_wanted: str
) -> AboutUsers:
    """What is known of the users of a log, by their names and by the pseudonyms of their starts.

    Features are centred on the mean fitting user, whom a user of unknown name then is.
    """
    if notes is not None and not notes["fitting"][0].any():
        notes = None
    fitting = data.signals["fitting"].features
    enough = len(fitting) >= USERS_PER_FEATURE * fitting.shape[1]
    with_features = features_wanted == "yes" or (features_wanted == "auto" and enough)
    mean = fitting.mean(0)
    real, started = [], []
    for name in POPULATIONS:
        histories, features = data.histories[name], data.signals[name].features - mean
        features = features if with_features else features[:, :0]
        written = None if notes is None else notes[name]
        real.append((histories, features, written))
        if written is not None:
            begin = np.repeat(histories.offsets[:-1], histories.lengths)
            first = np.arange(len(histories.items)) - begin < START_EVENTS
            written = written[0][first], written[1][first]
        started.append((pseudonymous(histories, name), features, written))
    return AboutUsers.of(real + started, len(data.catalogue))


def _new_model(
    data: FitData,
    vectors: NDArray[np.float32],
    own: CollaborativeInputs,
    settings: FitSettings,
    size: Size,
    order: str,
    about: AboutUsers,
) -> BehaviourModel:
    signals = data.signals["fitting"]
    slates = signals.slates
    config = BehaviourConfig(
        hidden_size=size.hidden_size,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        intermediate_size=2 * size.hidden_size,
        hidden_dropout_prob=settings.dropout,
        attention_probs_dropout_prob=settings.dropout,
        n_items=len(data.catalogue),
        text_dim=vectors.shape[1],
        level_values=list(data.scale.values),
        window=size.window,
        order=order,
        factors=own.design.shape[2] - 1,
        linear_items=len(own.head),
        members=size.members,
        places=0 if slates is None else int(slates.places.max(initial=-1)) + 1,
        leaves=signals.ends is not None or (slates is not None and slates.ends is not None),
        dwells=signals.dwell is not None,
        context_dim=about.context_dim,
        note_dim=about.note_dim,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = BehaviourModel(config)
    model.about = about
    model.inputs.load_state_dict(own.state_dict())
    model.text_vectors.copy_(torch.from_numpy(vectors))
    model.log_popularity.copy_(torch.from_numpy(np.log(data.catalogue.popularity)))
    mean, spread = own.unit.numpy()
    given = (np.array(data.scale.values) - mean) / spread
    model.tilt.prepare(data.catalogue.popularity, data.catalogue.mean_feedback, vectors, given)
    model.known.copy_(torch.from_numpy(data.catalogue.counts > 0))
    return model
