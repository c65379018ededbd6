"""Heads that lose on validation users give way to something plainer."""

from __future__ import annotations

import copy
import dataclasses
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from audience.reward_models.quality_data import QualityData
from audience.reward_models.quality_slates import response_quality

if TYPE_CHECKING:
    from audience.reward_models.bert_users import BertUserModel

GIVEN_WAY = {
    "leave_by_answer": "leave: on validation users the head that was fitted did no better than the "
    "log's rates after the same feedback and after a skip, so users leave at these, whatever else",
    "leave": "leave: on validation users the head that was fitted lost to a constant, so users "
    "leave at the log's rates after a choice and after a skip, whatever the item and the feedback",
    "dwell": "dwell: on validation users the head that was fitted lost to a constant, so all dwell "
    "times are drawn from one distribution, whatever the item and the feedback",
}
"""What may give way, and what the card then says."""


def give_way(users: BertUserModel, data: QualityData) -> list[str]:
    """Put plainer heads in the place of fitted ones that lose to them, in place.

    Leaving does without the user's state, which brings thousands of weights, unless that has a
    lower NLL; the few rates that are left, and dwell times, are the constants of the card only
    where they lose clearly.

    Args:
        users: Fitted users.
        data: Whose validation users decide.

    Returns:
        Of GIVEN_WAY, what did.
    """
    if data.signals is None or not users.learned & {"leave", "dwell"}:
        return []
    validation = dataclasses.replace(
        data,
        test=data.validation,
        test_values=data.validation_values,
        signals=data.signals | {"test": data.signals["validation"]},
    )

    def part(name: str) -> dict[str, Any]:
        method = f"predict_{name}s" if name == "leave" else f"predict_{name}"
        head = SimpleNamespace(**{method: getattr(users, method)})
        return response_quality(head, validation)[name] or {}

    slates, gave = users.model.slates, []
    if leave := part("leave"):
        fitted = copy.deepcopy(slates.leave_out.state_dict())
        slates.leave_by_answer()
        plain = part("leave")
        if plain["model"]["nll"] <= leave["model"]["nll"]:
            leave, gave = plain, ["leave_by_answer"]
        else:
            slates.leave_out.load_state_dict(fitted)
        if _loses(leave):
            rates = leave["constant"]["settings"]
            slates.leave_at(rates["after_choice"], rates.get("after_skip"))
            gave = ["leave"]
    if _loses(dwell := part("dwell")):
        slates.dwell_at(**dwell["constant"]["settings"])
        gave.append("dwell")
    return gave


def _loses(part: dict[str, Any]) -> bool:
    """Whether a head's NLL is above the constant's by more than chance, paired over users.

    By chance even the law itself loses: that of scripted users did by .0005, on 119 validation
    users and 2,831 slates. With the constant in its place the values of their policies were off by
    21 %, without it by 4 %.
    """
    return bool(part) and bool(part["difference"]["nll"]["low"] > 0)
