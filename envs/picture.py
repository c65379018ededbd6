"""One user's episode as a picture, for videos."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from audience.envs.screen import SHOWN_EVENTS, scene

if TYPE_CHECKING:
    from audience.envs.vector import RecommendVectorEnv

WIDTH, LINE, MARGIN = 720, 24, 16
"""Pixels. Codecs want even sides."""

FONT_SIZE = 15

PAPER, INK, FAINT = (255, 255, 255), (32, 36, 44), (118, 124, 134)
BAND, CHOSEN, MISSED = (38, 50, 72), (206, 232, 214), (240, 241, 244)
"""Colours: of the paper, the text and what is past; of the title, of the chosen item's row and
of the other rows of a slate."""


def picture(env: RecommendVectorEnv, slot: int) -> NDArray[np.uint8]:
    """The scene as a picture of the same size at every step, shape (height, width, 3)."""
    from PIL import Image, ImageDraw  # only where pictures are asked for

    seen = scene(env, slot)
    lines = 1 + SHOWN_EVENTS + 1 + env.slate_size + 2
    image = Image.new("RGB", (WIDTH, 2 * MARGIN + lines * LINE), PAPER)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, WIDTH, MARGIN // 2 + LINE), fill=BAND)
    _line(draw, MARGIN // 2, seen.title, PAPER)
    top = MARGIN + LINE
    for place, (text, value) in enumerate(seen.recent):
        _line(draw, top + place * LINE, text, FAINT, value)
    top += SHOWN_EVENTS * LINE
    _line(draw, top, "recommended" if seen.slate else "nothing recommended yet", INK)
    top += LINE
    for place, (text, given, chosen) in enumerate(seen.slate):
        above = top + place * LINE
        box = (MARGIN // 2, above, WIDTH - MARGIN // 2, above + LINE - 2)
        draw.rectangle(box, fill=CHOSEN if chosen else MISSED)
        _line(draw, above, text, INK, given)
    top += env.slate_size * LINE
    _line(draw, top, seen.outcome.replace("chosen: >", "chosen"), INK)
    _line(draw, top + LINE, seen.end, INK)
    return np.asarray(image, np.uint8).copy()


def _line(draw: Any, top: int, text: str, colour: tuple[int, int, int], right: str = "") -> None:
    """One line of text, cut where it would run into the text at the right."""
    font = _font()
    room = WIDTH - 2 * MARGIN - (draw.textlength(right, font=font) + MARGIN if right else 0)
    while draw.textlength(text, font=font) > room:
        text = text[:-2] + "…"
    draw.text((MARGIN, top + 2), text, fill=colour, font=font)
    if right:
        draw.text((WIDTH - MARGIN, top + 2), right, fill=colour, font=font, anchor="ra")


@cache
def _font() -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(FONT_SIZE)
