"""What policies are given of the items: their texts, and who else met them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from audience.agents.item_to_item import LARGEST, ItemToItem
from audience.envs.candidates import LARGE
from audience.reward_models.collaborative import FORGETTING
from audience.reward_models.inputs import TEXT_AXES
from audience.reward_models.query_features import LEAST_FLOOR
from audience.reward_models.users import UserModel

TEXT, COMPANY = 32, 24
"""Axes of the texts, and of EASE's matrix, where both are given."""


def item_vectors(users: UserModel) -> NDArray[np.float32] | None:
    """The users' vectors of item text, else TF-IDF of the texts; None where there is no text."""
    vectors: NDArray[np.float32] | None = getattr(users, "text_vectors", None)
    if vectors is not None and vectors.shape[1]:
        return vectors
    from audience.reward_models.text_encoders import TfidfEncoder  # scikit-learn where needed

    vectors = TfidfEncoder().encode(users.catalogue.texts.tolist())
    return vectors if vectors.any() else None


def known_of_items(users: UserModel, text: bool) -> NDArray[np.float32] | None:
    """Vectors of the items for a policy, (items, width), or None where nothing is known.

    Main axes of the texts, and where the users take in collaborative filters (`BertUserModel`),
    what these found in the log: axes of EASE's matrix, explicit ALS's factors, and the mean
    feedback on the item. A policy could learn all of it from its users; it would take most of a
    training.

    Args:
        users: Whose items.
        text: Whether texts are read. If not, EASE's axes are all: ALS's factors and the mean
            feedback of the users' inputs are shrunk towards what the texts say.
    """
    own = item_vectors(users) if text else None
    company = _company(users, text)
    if company is None:
        return own
    if own is None:
        return company
    return np.concatenate([_axes(own, TEXT), company], 1)


def item_to_item_of(users: UserModel, text: bool) -> ItemToItem | None:
    """EASE and what comes next, of the users' inputs; None without, and for more items than LARGE.

    Of many items they cover few. A user's next choice hangs on both; with the axes of
    `known_of_items` alone a policy comes near them at best.

    Args:
        users: Whose inputs.
        text: Whether texts are read; if not, EASE alone is given, as texts are part of what comes.
    """
    inputs: Any = getattr(getattr(users, "model", None), "inputs", None)
    if inputs is None or len(users.catalogue) > LARGE:
        return None
    kinds = 2 if text else 1
    matrices = torch.stack([inputs.ease[0], inputs.coming[0]][:kinds]).cpu()
    floors = inputs.floors[0, :kinds].cpu().clamp(min=LEAST_FLOOR)[:, None, None]
    scaled = (matrices / floors).clamp(-LARGEST, LARGEST).numpy().astype(np.float16)
    return ItemToItem(scaled, inputs.head.cpu().numpy(), (1.0, FORGETTING)[:kinds])


def _company(users: UserModel, text: bool) -> NDArray[np.float32] | None:
    """What collaborative filters know, each part of unit variance, (items, width)."""
    inputs: Any = getattr(getattr(users, "model", None), "inputs", None)
    if inputs is None:
        return None
    ease, head = inputs.ease[0], inputs.head
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the axes are found with random numbers, to the last digits
        _, size, axes = torch.svd_lowrank(ease.cpu(), min(COMPANY, len(head)), niter=6)
    near = np.zeros((len(users.catalogue), axes.shape[1]), np.float32)
    near[head.cpu().numpy()] = (axes * size.sqrt()).numpy()
    parts = [near]
    if text:
        parts += [inputs.design[0, :, 1:-TEXT_AXES].cpu().numpy()]
        parts += [inputs.base[0, :, None].cpu().numpy()]
    parts = [part - part.mean(0) for part in parts]
    return np.concatenate([part / max(float(part.std()), 1e-8) for part in parts], 1)


def _axes(vectors: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Main axes of vectors, each of unit variance, (items, at most count)."""
    centred = vectors - vectors.mean(0)
    _, axes = np.linalg.eigh((centred.T @ centred).astype(np.float64))
    found = centred @ axes[:, ::-1][:, :count].astype(np.float32)
    return found / np.maximum(found.std(0), 1e-8)
