"""One user's session as a screen of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from audience.envs.vector import RecommendVectorEnv

TEXT_WIDTH = 64
"""Characters of an item's text, so that a line with its feedback fits a terminal of 80."""

SHOWN_EVENTS = 8
"""Events of the history on the screen: with a slate of 10 it fills a terminal of 24 lines."""


def screen(env: RecommendVectorEnv, slot: int) -> str:
    """Who the user is, the last events, and the last slate with the response to it."""
    step = env.last_step
    answered = step is not None and env.steps[slot] > 0
    items, levels = env.history(slot)
    if step is not None and answered and step.response.choice[slot] >= 0:
        items, levels = items[:-1], levels[:-1]  # the choice stands below, in its slate
    recent = zip(items[-SHOWN_EVENTS:].tolist(), levels[-SHOWN_EVENTS:].tolist(), strict=True)
    lines = [f"user {env.user_names[slot]} · step {env.steps[slot]} of {env.step_limit}"]
    lines += [f"  {_text(env, item)}  {_value(env, level)}" for item, level in recent]
    if step is None or not answered:
        return "\n".join([*lines, "nothing recommended yet"])
    response, choice = step.response, int(step.response.choice[slot])
    lines.append("recommended")
    for place, item in enumerate(step.slates[slot].tolist()):
        mark, given = ">", _value(env, int(response.level[slot]))
        if place != choice:
            mark, given = " ", ""
        lines.append(f"{mark} {_text(env, item)}  {given}".rstrip())
    outcome = "nothing chosen" if choice < 0 else "chosen: >"
    parts = ", ".join(f"{name} {part[slot]:.2f}" for name, part in step.parts.items())
    lines.append(
        f"{outcome} (something is chosen with probability "
        f"{response.accept_probability[slot]:.2f}) · reward {step.reward[slot]:.2f} ({parts})"
    )
    if step.terminated[slot]:
        lines.append("the user leaves")
    elif step.truncated[slot]:
        lines.append("the session is cut off")
    return "\n".join(lines)


def _text(env: RecommendVectorEnv, item: int) -> str:
    text = " ".join(str(env.users.catalogue.texts[item]).split())
    short = text if len(text) <= TEXT_WIDTH else text[: TEXT_WIDTH - 1] + "…"
    return short.ljust(TEXT_WIDTH)


def _value(env: RecommendVectorEnv, level: int) -> str:
    return f"{env.users.scale.values[level]:g}"
