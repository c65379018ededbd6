"""Logs at the edge of what is legal."""

from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from audience.reward_models.errors import LogError
from audience.reward_models.log import InteractionLog
from audience.reward_models.scale import BINS

USERS = 100


def log_of(feedback: NDArray[np.float64] | None) -> InteractionLog:
    """100 users, 2 of 20 items each, but u0 has one event only; no timestamps."""
    events = np.arange(1, 2 * USERS)
    frame = pl.DataFrame(
        {
            "user_id": [f"u{event // 2}" for event in events],
            "item_id": [f"i{event % 20}" for event in events],
        }
    )
    if feedback is not None:
        frame = frame.with_columns(feedback=pl.Series(feedback[1:]))
    items = pl.DataFrame({"item_id": [f"i{i}" for i in range(20)], "title": ["Same title"] * 20})
    return InteractionLog.from_frames(frame, items)


@pytest.mark.parametrize(
    "feedback",
    [
        np.tile([-3.0, 0.5], USERS),
        np.random.default_rng(0).normal(-1000, 1e-3, 2 * USERS),
        np.random.default_rng(1).lognormal(20, 5, 2 * USERS),
        np.where(np.arange(2 * USERS) % 50 == 0, np.arange(2.0 * USERS), 1e9),
        np.zeros(2 * USERS),
        None,
    ],
    ids=["negative", "continuous", "skewed", "mostly ties", "constant", "implicit"],
)
def test_any_feedback_becomes_levels(feedback: NDArray[np.float64] | None) -> None:
    log = log_of(feedback)
    users = log.user_ids
    scale, catalogue = log.scale(), log.catalogue(users)
    histories = log.histories(users, catalogue, scale)
    assert log.n_users == USERS and len(catalogue) == 20
    assert histories.lengths.tolist() == [1] + [2] * (USERS - 1)
    assert 1 <= len(scale) <= BINS and np.isfinite(scale.values).all()
    assert set(histories.levels.tolist()) == set(range(len(scale)))
    values = log.values(users, catalogue)
    if feedback is not None:
        assert sorted(values) == sorted(feedback[1:])
    # Levels order events as their values do, and stand for their mean.
    for level, value in enumerate(scale.values):
        inside = values[histories.levels == level]
        assert inside.mean() == pytest.approx(value)
        assert (inside <= values[histories.levels > level].min(initial=np.inf)).all()


def test_without_timestamps_a_user_has_one_event_an_item() -> None:
    events = pl.DataFrame({"user_id": ["a", "b", "a"], "item_id": ["x", "y", "x"]})
    items = pl.DataFrame({"item_id": ["x", "y"], "title": ["Ex", "Why"]})
    with pytest.raises(LogError, match="row 3: an event .*give repeated events a timestamp"):
        InteractionLog.from_frames(events, items)


def read(folder: Path, items: str, empty_text: Literal["error", "allow"]) -> list[str]:
    (folder / "events.csv").write_text("user_id,item_id\na,x\nb,y\n")
    (folder / "items.csv").write_text(items)
    log = InteractionLog.from_files(
        folder / "events.csv", folder / "items.csv", text="{title}", empty_text=empty_text
    )
    assert log.catalogue(log.user_ids, min_events=1).texts.tolist() == log.items["text"].to_list()
    return log.items["text"].to_list()


def test_items_without_text(tmp_path: Path) -> None:
    some, none = "item_id,title\nx,\ny,Why\n", "item_id,title\nx,\ny, \n"
    assert read(tmp_path, some, "allow") == ["", "Why"]
    with pytest.raises(LogError, match="data row 1: an item must have text.*empty_text='allow'"):
        read(tmp_path, some, "error")
    with pytest.raises(LogError, match=r"items\.csv: at least one item must have text, but all 2"):
        read(tmp_path, none, "allow")
    with pytest.raises(LogError, match=r"got {title}; the columns are \['item_id', 'name'\]"):
        read(tmp_path, some.replace("title", "name"), "allow")
    with pytest.raises(ValueError, match='empty_text must be "error" or "allow", got \'skip\''):
        read(tmp_path, some, "skip")  # type: ignore[arg-type]
