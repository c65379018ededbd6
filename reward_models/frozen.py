"""The blocks of a fitted behaviour tower, in as few products as they need in use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, gelu, linear, pad
from transformers.activations import GELUActivation
from transformers.models.bert.modeling_bert import BertLayer

from audience.reward_models.behaviour import BehaviourModel


@dataclass(frozen=True)
class FrozenBlock:
    """One BERT block as it is in evaluation, without the modules around its products.

    At one user a step costs what its calls cost, and the library's block makes three times as
    many: dropout that drops nothing, three projections of the same input, chunking.

    Attributes:
        project: Weight and bias of query, key and value in one product; the query is scaled.
        merge: Those of what merges the heads.
        attended: Weight, bias and epsilon of the norm after it.
        wide: Weight and bias of the intermediate layer.
        activation: What follows it.
        narrow: Those of the output.
        closed: Of the last norm.
        heads: Which places of a vector belong to each head, 0 or 1, shape (heads, d).
    """

    project: tuple[Tensor, Tensor]
    merge: tuple[Tensor, Tensor]
    attended: tuple[Tensor, Tensor, float]
    wide: tuple[Tensor, Tensor]
    activation: Callable[[Tensor], Tensor]
    narrow: tuple[Tensor, Tensor]
    closed: tuple[Tensor, Tensor, float]
    heads: Tensor

    @classmethod
    def of(cls, layer: BertLayer) -> FrozenBlock:
        """The block of a layer; a copy of its projections, else its own memory."""
        attention, output = layer.attention.self, layer.attention.output
        heads, size = attention.num_attention_heads, attention.attention_head_size
        scale = size**-0.5
        parts = attention.query, attention.key, attention.value
        scales = scale, 1.0, 1.0
        weight = torch.cat([part.weight * by for part, by in zip(parts, scales, strict=True)])
        bias = torch.cat([part.bias * by for part, by in zip(parts, scales, strict=True)])
        each = torch.eye(heads, device=weight.device, dtype=weight.dtype)
        norm, last = output.LayerNorm, layer.output.LayerNorm
        return cls(
            (weight, bias),
            (output.dense.weight, output.dense.bias),
            (norm.weight, norm.bias, norm.eps),
            (layer.intermediate.dense.weight, layer.intermediate.dense.bias),
            _plain(layer.intermediate.intermediate_act_fn),
            (layer.output.dense.weight, layer.output.dense.bias),
            (last.weight, last.bias, last.eps),
            each.repeat_interleave(size, 1),
        )

    def split(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scaled query, key and value, each of the shape of what comes in, (..., d)."""
        query, key, value = linear(hidden, *self.project).chunk(3, -1)
        return query, key, value

    def close(self, hidden: Tensor, context: Tensor) -> Tensor:
        """What comes out, from what came in and what attention found, each (..., d)."""
        merged = linear(context, *self.merge).add_(hidden)
        attended = _norm(merged, *self.attended)
        wide = self.activation(linear(attended, *self.wide))
        return _norm(linear(wide, *self.narrow).add_(attended), *self.closed)


@dataclass(frozen=True)
class FrozenFeedback:
    """`BehaviourModel.feedback_logits` of all members and both its heads, in three products.

    Attributes:
        hidden: Weight and bias of the members' hidden layers, over token and features.
        direct: Those of what reaches the logits without one.
        out: From the hidden layers to the logits, shape (heads * members * width, members *
            levels), zero from one member to another.
        members: Number of members.
    """

    hidden: tuple[Tensor, Tensor]
    direct: tuple[Tensor, Tensor]
    out: Tensor
    members: int

    @classmethod
    def of(cls, model: BehaviourModel) -> FrozenFeedback:
        """Those of a model in evaluation."""
        base, head = model.feedback_base, model.feedback_head
        assert base.linear is not None
        d = model.config.hidden_size

        def widened(weight: Tensor) -> Tensor:
            return pad(weight, (d, 0))  # the base sees no token

        return cls(
            (
                torch.cat([widened(base.hidden.weight), head.hidden.weight]),
                torch.cat([base.hidden.bias, head.hidden.bias]),
            ),
            (widened(base.linear.weight), base.linear.bias),
            torch.cat([torch.block_diag(*base.out), torch.block_diag(*head.out)]),
            base.members,
        )

    def logits(self, hidden: Tensor, features: Tensor) -> Tensor:
        """Of each member, (..., d) and (..., features) to (..., members, levels)."""
        both = torch.cat([hidden, features], -1).flatten(0, -2).to(self.out.dtype)
        logits = linear(both, *self.direct)
        logits.addmm_(gelu(linear(both, *self.hidden)), self.out)
        return logits.to(hidden.dtype).view(*hidden.shape[:-1], self.members, -1)


@dataclass(frozen=True)
class FrozenTokens:
    """`BehaviourModel.event_tokens` and `query_tokens` in evaluation, one look-up a part.

    Attributes:
        items: Vectors of the items, shape (items, d).
        levels: Of the levels, with the bias of the residual's part, shape (levels, d).
        residual: What a residual of 1 adds, shape (1, d).
        positions: Of the places in the window, shape (window, d); None where they do not count.
        notes: What notes are multiplied by, shape (d, note_dim); None where they do not count.
        features: Weight and bias of the hidden layer over features.
        asked: Weight, over that layer and the interests beside an item, and bias.
        norm: Weight, bias and epsilon of the norm.
    """

    items: Tensor
    levels: Tensor
    residual: Tensor
    positions: Tensor | None
    notes: Tensor | None
    features: tuple[Tensor, Tensor]
    asked: tuple[Tensor, Tensor]
    norm: tuple[Tensor, Tensor, float]

    @classmethod
    def of(cls, model: BehaviourModel, vectors: Tensor, timed: bool) -> FrozenTokens:
        """Those of a model in evaluation.

        Args:
            model: The behaviour model.
            vectors: Its item vectors, shape (items, d).
            timed: Whether events stand in time order.
        """
        first, last, affinity = model.query_part[0], model.query_part[2], model.affinity_part
        assert isinstance(first, nn.Linear) and isinstance(last, nn.Linear)
        position, norm = model.position_part, model.normalise
        unit = model.interest_unit.expand(-1, model.config.hidden_size).flatten()
        return cls(
            vectors,
            model.level_part.weight + model.residual_part.bias,
            model.residual_part.weight.T / model.inputs.unit[1],
            position.weight if position is not None and timed else None,
            model.note_part.weight if model.config.note_dim else None,
            (first.weight, first.bias),
            (torch.cat([last.weight, affinity.weight * unit], 1), last.bias + affinity.bias),
            (norm.weight, norm.bias, norm.eps),
        )

    def events(
        self,
        items: Tensor,
        levels: Tensor,
        residuals: Tensor,
        position: Tensor,
        notes: Tensor | None = None,
    ) -> Tensor:
        """Tokens of events, shape (..., d); arguments of shape (...), notes (..., note_dim)."""
        token = embedding(items, self.items) + embedding(levels, self.levels)
        token.addcmul_(residuals[..., None], self.residual)
        if self.positions is not None:
            token += embedding(position, self.positions)
        if notes is not None and self.notes is not None:
            token += linear(notes, self.notes)
        return _norm(token, *self.norm)

    def queries(self, asked: Tensor, features: Tensor, interests: Tensor) -> Tensor:
        """Tokens of queries, shape (..., d).

        Args:
            asked: Vectors of the items asked about, shape (..., d).
            features: Scaled features, shape (..., features).
            interests: Of the user, shape (..., interests, d).
        """
        near = (interests * asked[..., None, :]).flatten(-2)
        hidden = gelu(linear(features, *self.features))
        token = linear(torch.cat([hidden, near], -1), *self.asked).add_(asked)
        return _norm(token, *self.norm)


def frozen(model: BehaviourModel, dtype: torch.dtype = torch.float32) -> list[FrozenBlock]:
    """The blocks of a model in evaluation, which must not be fitted further meanwhile.

    Args:
        model: The behaviour model.
        dtype: What they compute in, and what their keys and values are kept in.
    """
    with torch.inference_mode():
        return [in_dtype(FrozenBlock.of(layer), dtype) for layer in model.layers]


P = TypeVar("P", FrozenBlock, FrozenFeedback)


def in_dtype(part: P, dtype: torch.dtype) -> P:
    """The same, with all its tensors of this type."""

    def cast(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(cast(one) for one in value)
        return value.to(dtype) if isinstance(value, Tensor) else value

    return replace(part, **{of.name: cast(getattr(part, of.name)) for of in fields(part)})


def _norm(hidden: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return torch.layer_norm(hidden, weight.shape, weight, bias, eps)


def _plain(activation: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The function that a module of the library's is, without the module around it."""
    if isinstance(activation, GELUActivation) and activation.act is gelu:
        return gelu
    return activation
