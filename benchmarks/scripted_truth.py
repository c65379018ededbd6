"""Logs of scripted users, of whom the truth is known: the log, and the truth itself."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from audience.reward_models.scripted import ScriptedUsers
from audience.reward_models.users import POPULATIONS, UserModel

if TYPE_CHECKING:
    from audience.reward_models.log import InteractionLog

SCRIPTED = "scripted"
"""The name of the log."""

LOG_STEP_LIMIT = 60
"""Of sessions in the log: hardly any is cut off, so that the end of a session means a leave."""

SEED = 0
"""Of the scripted users and their log, as a named log is one log: the comparison's seeds halve
it."""


@lru_cache(maxsize=1)
def scripted_log(users: int) -> InteractionLog:
    """A log in which everything was shown as often.

    Args:
        users: Who wrote it.
    """
    from audience.reward_models.log import InteractionLog  # polars only where needed
    from audience.reward_models.scripted_log import items_of, write_frame

    scripted = ScriptedUsers(seed=SEED)
    frame = write_frame(scripted, new_users=users, step_limit=LOG_STEP_LIMIT, seed=SEED)
    return InteractionLog.from_frames(frame, items_of(scripted), name=SCRIPTED)


def truth_of(scripted: ScriptedUsers, users: UserModel) -> ScriptedUsers:
    """The scripted users with the catalogue and the starts of users fitted to their log.

    Raises:
        ValueError: The log has lost a level of feedback.
    """
    if users.scale != scripted.scale:
        raise ValueError(
            f"the log must hold all {len(scripted.scale)} levels of feedback, got "
            f"{users.scale.values}; give it more users"
        )
    starts = {name: users.starts(name) for name in POPULATIONS}
    return scripted.with_items(users.catalogue.item_ids, starts)
