"""A tilt of choice and feedback that keeps free-running users like real ones.

A next-item model that was fitted to real histories meets its own ones in simulation, and small
errors feed on themselves: what is too popular is followed by what is too popular. The choice is
therefore tilted, P(a | h) exp(weights . features(a, h)) up to a constant, so that the mean
features of free-running histories are those of real ones (a maximum-entropy tilt, Jaynes 1957). So
is the feedback, by level, as habits feed on themselves too: 3.5 and 4.5 stars were 12 % of what
free runs of movielens' test users gave, and 17 % of what these users gave themselves.

Who is recommended to does not run freely, and is not tilted: the tilt costs accuracy in any one
state. Of the three items that it finds likeliest after 8 events of movielens' unseen users, these
met .49 and .47 later (two halves), untilted .55 and .51; and a policy that had learned in tilted
users earned 0.6 less in judges of other users.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import embedding

from audience.reward_models.user_statistics import Seen

HINGES = (-0.5, 0.3, 1.0, 1.7)
"""Log-popularities, in standard deviations, beyond which an item counts as so popular."""

RECENT = 5
"""Latest events that an item's text is compared with, beside the last alone."""

DIRECTIONS = 32
"""Principal directions of the text vectors in which items are compared."""

OF_ITEM = ("popular", *(f"popular beyond {at}" for at in HINGES), "liked", "liked squared")
"""What is known of an item: log-popularity, how far it exceeds each of HINGES, mean feedback."""

WINDOWS = {"last": 1, "recent": RECENT, "late": 20, "ever": None}
"""Latest events over which means are taken; None: all."""

MET = ("popular", "liked", "given")
"""What is averaged over events: log-popularity and mean feedback of the items, the feedback."""

OF_USER = ("one", "length", *(f"{what} {when}" for what in MET for when in WINDOWS))
"""What is known of a user; see `TiltContext`."""

PAIRS = (
    *(("one", trait) for trait in OF_ITEM),
    ("length", "popular"),
    ("length", "popular beyond 1.0"),
    ("length", "liked"),
    ("popular ever", "popular"),
    ("popular ever", "popular beyond 1.0"),
    ("popular late", "popular"),
    ("popular recent", "popular"),
    ("popular last", "popular"),
    ("liked ever", "liked"),
    ("liked late", "liked"),
    ("liked recent", "liked"),
    ("liked last", "liked"),
    ("given ever", "liked"),
    ("given last", "liked"),
)
"""Products that are features: (of the user, of the item)."""

_USER_SIDE = [OF_USER.index(of_user) for of_user, _ in PAIRS]
_ITEM_SIDE = [OF_ITEM.index(of_item) for _, of_item in PAIRS]

_CELLS = torch.tensor(_USER_SIDE) * len(OF_ITEM) + torch.tensor(_ITEM_SIDE)

_REACHES = torch.tensor([2**31 if size is None else size for size in WINDOWS.values()])

_MET = (OF_ITEM.index("popular"), OF_ITEM.index("liked"), len(OF_ITEM))
"""Columns of MET among the traits of items and the feedback."""

NEARNESS = 4
"""Features beside them: nearness of the text to the last and the recent items, EASE, what comes."""


@dataclass(frozen=True)
class TiltContext:
    """What the tilt knows of some users.

    Attributes:
        of_user: OF_USER: 1, the number of events, and means of MET over WINDOWS, shape (m,
            numbers).
        last: Direction of the last item's text, shape (m, directions).
        recent: Mean direction of the recent items' texts, shape (m, directions).
    """

    of_user: Tensor
    last: Tensor
    recent: Tensor


@dataclass(frozen=True)
class Mixing:
    """The weights of a tilt, as they are added to what the tower mixes.

    Attributes:
        table: Of the products, shape (of the user, of the item).
        last: Of nearness to the last item's text.
        recent: Of nearness to the recent ones'.
        gates: What is added to the weights of EASE and what comes, shape (2,).
    """

    table: Tensor
    last: Tensor
    recent: Tensor
    gates: Tensor

    def sides(self, context: TiltContext) -> tuple[Tensor, Tensor]:
        """Weights of `bases` and `directions`, which add to the utilities; (m, *) each."""
        text = context.last * self.last + context.recent * self.recent
        return context.of_user @ self.table, text


class ChoiceTilt(nn.Module):
    """See the module; weights of 0 tilt nothing.

    Features are the products PAIRS of a number of the user and one of the item, nearness of the
    item's text to the last and to the recent items', and how far EASE and what comes expect it.

    Args:
        n_items: Size of the catalogue.
        n_levels: Levels of the feedback scale.
    """

    bases: Tensor  # (items, traits): OF_ITEM
    given: Tensor  # (levels,): value of each level, standardised
    directions: Tensor  # (items, DIRECTIONS), of unit length
    weights: Tensor  # (len(PAIRS) + NEARNESS,)
    levels: Tensor  # (levels,): added to the logits of the feedback

    def __init__(self, n_items: int, n_levels: int) -> None:
        super().__init__()
        self.register_buffer("bases", torch.zeros(n_items, len(OF_ITEM)))
        self.register_buffer("given", torch.zeros(n_levels))
        self.register_buffer("directions", torch.zeros(n_items, DIRECTIONS))
        self.register_buffer("weights", torch.zeros(len(PAIRS) + NEARNESS))
        self.register_buffer("levels", torch.zeros(n_levels))

    def prepare(
        self,
        popularity: NDArray[np.float64],
        feedback: NDArray[np.float64],
        vectors: NDArray[np.float32],
        given: NDArray[np.float64],
    ) -> None:
        """Take in the catalogue.

        Args:
            popularity: Share of events of each item, shape (items,).
            feedback: Mean feedback of each item, shape (items,).
            vectors: Of the items' texts, shape (items, dim).
            given: Value of each feedback level in standard deviations from the mean, shape
                (levels,).
        """
        log, mean = _standard(np.log(popularity)), _standard(feedback)
        hinges = [2 * np.maximum(log - at, 0) for at in HINGES]
        columns = [log, *hinges, mean, (mean**2 - 1) / 2]
        self.bases.copy_(torch.from_numpy(np.stack(columns, -1)))
        self.given.copy_(torch.from_numpy(given))
        centred = vectors.astype(np.float64) - vectors.mean(0)
        axes = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :DIRECTIONS]
        turned = centred @ axes
        length = np.linalg.norm(turned, axis=1, keepdims=True)
        turned = np.where(length > 1e-6, turned / np.maximum(length, 1e-6), 0.0)
        self.directions[:, : turned.shape[1]] = torch.from_numpy(turned)

    def context(self, seen: Seen) -> TiltContext:
        """What is known of some users by their events."""
        events, levels, count = seen.items, seen.given, seen.count
        width = events.shape[1]
        given = self.given.index_select(0, levels.flatten()).view(*levels.shape, 1)
        met = torch.cat([embedding(events, self.bases), given], -1)  # (m, width, traits + 1)
        each, newest = torch.arange(width, device=count.device), (count - 1)[:, None]
        age = newest - each
        reach = torch.minimum(count[:, None], _REACHES.to(count.device))  # (m, windows)
        inside = (age[:, None] < reach[..., None]) & seen.used[:, None]  # (m, windows, width)
        means = torch.bmm(inside.to(met.dtype), met) / reach.clamp(min=1)[..., None]
        length = (count[:, None].log1p() / 2 - 1.6).to(means.dtype)
        of_user = [torch.ones_like(length), length]
        of_user += [means[..., column] for column in _MET]
        # Texts are looked up for the latest events alone.
        place = newest - each[:RECENT]
        latest = events.gather(1, place.clamp(min=0))
        directions = embedding(latest, self.directions) * (place >= 0)[..., None]
        recent = directions.sum(1) / count.clamp(1, RECENT)[:, None]
        last = directions[:, 0] if width else recent
        return TiltContext(torch.cat(of_user, 1), last, recent)

    def mixing(self) -> Mixing:
        """The weights as they are added up."""
        products = len(PAIRS)
        table = self.weights.new_zeros(len(OF_USER) * len(OF_ITEM))
        table.index_copy_(0, _CELLS.to(table.device), self.weights[:products])
        last, recent, *_ = (3 * self.weights[products:]).unbind()
        return Mixing(table.view(len(OF_USER), -1), last, recent, self.weights[-2:] / 2)

    def features(self, context: TiltContext, items: Tensor, expected: Tensor) -> Tensor:
        """Features of some items, shape (m, q, features).

        Args:
            context: Of the users, m rows.
            items: Shape (m, q).
            expected: How far EASE and what comes expect them, shape (m, q, 2).
        """
        outer = context.of_user[:, None, _USER_SIDE] * self.bases[items][..., _ITEM_SIDE]
        directions = self.directions[items]
        near = [
            3 * (directions * context.last[:, None]).sum(-1),
            3 * (directions * context.recent[:, None]).sum(-1),
            *(expected / 2).unbind(-1),
        ]
        return torch.cat([outer, torch.stack(near, -1)], -1)


def _standard(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return (values - values.mean()) / max(float(values.std()), 1e-6)
