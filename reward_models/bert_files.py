"""Directories of BERT users, in Hugging Face style, without a pickle.

One holds `config.json` and `model.safetensors` (the behaviour model), `items.parquet`,
`starts.parquet` (first events under pseudonyms), `users.json`, and its card (`card.json`,
`card.md`). Where the model takes them in: `contexts.parquet` (features of the users of the starts)
and `notes.parquet` (vectors of what they wrote at those events, never the words), under the same
pseudonyms.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from audience.reward_models.about_users import AboutUsers
from audience.reward_models.behaviour import BehaviourModel
from audience.reward_models.catalogue import Catalogue
from audience.reward_models.histories import Histories
from audience.reward_models.quiet import quiet
from audience.reward_models.scale import FeedbackScale
from audience.reward_models.user_files import damaged, read_files, write_files
from audience.reward_models.users import Population

KIND = "bert"
"""What users.json calls a directory of these."""

Starts = dict[Population, Histories]


def write_bert(
    directory: Path,
    model: BehaviourModel,
    catalogue: Catalogue,
    scale: FeedbackScale,
    starts: Starts,
) -> None:
    """Write into a directory, which must be new or empty, all but the card."""
    directory.mkdir(parents=True, exist_ok=True)
    with quiet():
        model.save_pretrained(directory)
    write_files(directory, KIND, catalogue, scale, starts)
    model.about.save(directory, _names(starts))


def read_bert(
    directory: Path,
) -> tuple[BehaviourModel, Catalogue, FeedbackScale, Starts, dict[str, Any]]:
    """The model, its catalogue, scale, start histories and card (empty where there is none).

    Raises:
        UserModelError: The directory is missing, damaged or of another version.
    """
    catalogue, scale, starts = read_files(directory)
    try:
        with quiet():
            loaded: Any = BehaviourModel.from_pretrained(directory, output_loading_info=True)
        card_file = directory / "card.json"
        card = json.loads(card_file.read_text()) if card_file.is_file() else {}
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise damaged(directory, str(error)) from error
    model, loading = loaded
    wrong = [*loading["missing_keys"], *loading["unexpected_keys"], *loading["mismatched_keys"]]
    if wrong:
        raise damaged(directory, f"weights do not fit: {wrong[0]}")
    if len(catalogue) != model.config.n_items:
        raise damaged(
            directory,
            f"items.parquet has {len(catalogue)} items, config.json says {model.config.n_items}",
        )
    widths = model.config.context_dim, model.config.note_dim
    model.about = AboutUsers.load(directory, _names(starts), widths, len(catalogue))
    return model, catalogue, scale, starts, card


def _names(starts: Starts) -> NDArray[np.str_]:
    return np.concatenate([histories.users for histories in starts.values()])
