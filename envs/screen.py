"""One user's episode as a screen of text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from audience.envs.vector import RecommendVectorEnv

TEXT_WIDTH = 64
"""Characters of an item's text, so that a line with its feedback fits a terminal of 80."""

SHOWN_EVENTS = 8
"""Events of the history on the screen: with a slate of 10 it fills a terminal of 24 lines."""


@dataclass(frozen=True)
class Scene:
    """What there is to see of one user.

    Attributes:
        title: Who, and which step.
        recent: Text and feedback of the last events, oldest first.
        slate: Text, feedback (or "") and whether it was chosen, of what was shown; empty before
            the first step.
        outcome: What came of it; "" before the first step.
        end: How the episode ended; "" while it runs.
    """

    title: str
    recent: list[tuple[str, str]]
    slate: list[tuple[str, str, bool]]
    outcome: str
    end: str


def scene(env: RecommendVectorEnv, slot: int) -> Scene:
    """Who the user is, the last events, and the last slate with the response to it."""
    step = env.last_step
    answered = step is not None and env.steps[slot] > 0
    items, levels = env.history(slot)
    if step is not None and answered and step.response.choice[slot] >= 0:
        items, levels = items[:-1], levels[:-1]  # the choice stands below, in its slate
    last = zip(items[-SHOWN_EVENTS:].tolist(), levels[-SHOWN_EVENTS:].tolist(), strict=True)
    recent = [(_text(env, item), _value(env, level)) for item, level in last]
    title = f"user {env.user_names[slot]} · step {env.steps[slot]} of {env.step_limit}"
    if env.sessions_per_episode > 1:
        title += f" · session {env.session[slot] + 1} of {env.sessions_per_episode}"
    if step is None or not answered:
        return Scene(title, recent, [], "", "")
    response, choice = step.response, int(step.response.choice[slot])
    given = _value(env, int(response.level[slot])) if choice >= 0 else ""
    slate = [
        (_text(env, item), given if place == choice else "", place == choice)
        for place, item in enumerate(step.slates[slot].tolist())
    ]
    chosen = "nothing chosen" if choice < 0 else "chosen: >"
    parts = ", ".join(f"{name} {part[slot]:.2f}" for name, part in step.parts.items())
    outcome = (
        f"{chosen} (something is chosen with probability "
        f"{response.accept_probability[slot]:.2f}) · reward {step.reward[slot]:.2f} ({parts})"
    )
    end = ""
    if step.terminated[slot]:
        end = "the user leaves"
    elif step.truncated[slot]:
        end = "the session is cut off"
    elif response.leave[slot]:
        end = f"the user left, and is back after {env.return_days:g} days"
    return Scene(title, recent, slate, outcome, end)


def screen(env: RecommendVectorEnv, slot: int) -> str:
    """The scene as lines of text."""
    seen = scene(env, slot)
    lines = [seen.title, *(f"  {text.ljust(TEXT_WIDTH)}  {value}" for text, value in seen.recent)]
    if not seen.slate:
        return "\n".join([*lines, "nothing recommended yet"])
    lines.append("recommended")
    for text, given, chosen in seen.slate:
        lines.append(f"{'>' if chosen else ' '} {text.ljust(TEXT_WIDTH)}  {given}".rstrip())
    lines.append(seen.outcome)
    return "\n".join([*lines, seen.end] if seen.end else lines)


def _text(env: RecommendVectorEnv, item: int) -> str:
    text = " ".join(str(env.users.catalogue.texts[item]).split())
    return text if len(text) <= TEXT_WIDTH else text[: TEXT_WIDTH - 1] + "…"


def _value(env: RecommendVectorEnv, level: int) -> str:
    return f"{env.users.scale.values[level]:g}"
