import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audience.benchmarks import speed_memory, speed_rows
from audience.benchmarks.speed import speed
from audience.benchmarks.speed_figures import figures
from audience.benchmarks.speed_measure import BareForward
from audience.benchmarks.speed_memory import available_bytes, held_bytes
from audience.benchmarks.speed_rows import row
from audience.benchmarks.speed_settings import SpeedSettings
from audience.benchmarks.speed_table import HEADINGS, cells, markdown
from audience.benchmarks.speed_users import synthetic_users
from audience.benchmarks.speed_views import VIEWS, Taken, ViewName, valid_actions
from audience.reward_models.bert_users import BertUserModel

KEYS = {
    *("view", "users", "slate", "items", "history", "members", "device", "dtype"),
    *("user_steps_per_second", "forward_only_per_second", "efficiency", "bytes_per_user"),
}


@pytest.fixture(scope="module")
def bert_users() -> BertUserModel:
    return synthetic_users(60, "tiny", device="cpu")


@pytest.fixture(scope="module")
def results(bert_users: BertUserModel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("speed")
    bert_users.save_pretrained(folder / "users")
    settings = SpeedSettings(str(folder / "users"), str(folder / "out"), "tiny", "cpu")
    return {"folder": folder / "out", **speed(settings)}


def test_rows_have_the_keys_of_the_design_and_positive_figures(results: dict[str, Any]) -> None:
    for found in results["rows"]:
        assert set(found) >= KEYS
        assert found["device"] == "cpu" and found["members"] == 2
        assert found["dtype"] == "float32"
        for name in ("user_steps_per_second", "forward_only_per_second", "bytes_per_user"):
            assert found[name] > 0, name
        for of in ("", "_choosers", "_heads", "_heads_choosers"):
            ratio = found["user_steps_per_second"] / found[f"forward_only{of}_per_second"]
            assert found[f"efficiency{of}"] == pytest.approx(ratio)
        assert 0 < found["choosing"] <= 1 and 0 <= found["resets"] < 0.5
    views = [r for r in results["rows"] if r["series"] == "views"]
    assert {r["view"] for r in views} == {"single", "vector", "sb3"}
    assert {r["slate"] for r in views} == {1, 10} and {r["items"] for r in views} == {60}
    assert [r["items"] for r in results["rows"] if r["series"] == "catalogue"] == [100]
    assert results["latency"][0]["agent"] == "greedy"
    assert 0 < results["latency"][0]["p50_ms"] <= results["latency"][0]["p99_ms"]
    (learned,) = results["training"]
    assert (learned["items"], learned["candidates"], learned["users"]) == (100, 100, 4)
    steps = 1000 * learned["users"] / learned["step_ms"]
    assert learned["user_steps_per_second"] == pytest.approx(steps)
    assert 0 < learned["p50_ms"] <= learned["p99_ms"]
    assert results["machine"]["threads"] == torch.get_num_threads()


def test_what_was_returned_is_written_with_figures_and_scalars(results: dict[str, Any]) -> None:
    folder: Path = results["folder"]
    told = {key: value for key, value in results.items() if key != "folder"}
    assert json.loads((folder / "speed.json").read_text()) == told
    assert json.loads((folder / "settings.json").read_text())["versions"]["torch"]
    for name in ("catalogue", "history"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (folder / f"{name}.svg").read_text()
    assert list((folder / "summary").glob("events.out.tfevents.*"))
    assert (folder / "table.md").read_text() == markdown(results)
    assert all(len(cells(found)) == len(HEADINGS) for found in results["rows"])


def test_scripted_users_have_no_network_to_compare_with() -> None:
    from audience.envs.scripted import scripted_users

    settings = SpeedSettings(preset="tiny")
    found = row(settings, scripted_users(), "views", "vector", 3, 1)
    assert found["user_steps_per_second"] > 0
    assert found["forward_only_per_second"] is None and found["efficiency"] is None
    assert found["members"] is None


def test_what_does_not_fit_into_memory_is_a_row_that_says_so(
    bert_users: BertUserModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed_rows, "available_bytes", lambda: 1000)
    settings = SpeedSettings(preset="tiny", device="cpu")
    for found in (
        row(settings, bert_users, "views", "vector", 4, 1),
        speed_rows.catalogue_row(settings, 100),
    ):
        assert set(found) >= KEYS and found["user_steps_per_second"] is None
        assert "GB of memory" in found["note"]
    machine = {"device": "cpu", "threads": 1}
    assert figures({"rows": [found], "machine": machine}) == {}


def test_a_bare_pass_with_heads_is_that_of_the_network(bert_users: BertUserModel) -> None:
    """It leaves each row the state and the normaliser of its event; the tower alone leaves none."""
    bare = BareForward(bert_users, 5)
    bare.hold(np.array([3, 8, 5, 0, 9]))
    states, rows = bare._states, torch.arange(5)
    assert bare.seconds(5) > 0 and states.stale.all() and not states.hidden.any()
    assert bare.seconds(3, heads=True) > 0
    assert states.stale.tolist() == [False] * 3 + [True] * 2 and states.hidden[:3].any(1).all()
    total = bert_users.engine().utilities(states, rows[:3]).exp().sum(1)
    torch.testing.assert_close(total, torch.ones(3))
    normaliser = states.mixed[:3, -1:]
    one = bert_users.engine().appeals(states, rows[:3], torch.zeros(3, 1, dtype=torch.long))
    torch.testing.assert_close(one, bert_users.engine().utilities(states, rows[:3])[:, :1])
    assert normaliser.isfinite().all()


def test_a_row_begins_with_as_many_events_as_it_says(bert_users: BertUserModel) -> None:
    """And a longer history than that of a start reaches the sessions."""
    world = VIEWS["vector"](bert_users, 3, slate_size=2, leave_after_skip=0.0, history_size=60)
    history = speed_rows._history(bert_users, 40, seed=0)
    world.reset(0, {"history": history})
    assert world.lengths.tolist() == [40] * 3 and world.mask.sum(1).tolist() == [20] * 3


@pytest.mark.parametrize("name", ["vector", "sb3", "single"])
def test_views_count_the_steps_of_running_sessions(
    name: ViewName, bert_users: BertUserModel
) -> None:
    number = 1 if name == "single" else 4
    world = VIEWS[name](bert_users, number, step_limit=2, leave_after_skip=0, leave_after_choice=0)
    world.reset(0)
    rng, taken = np.random.default_rng(0), Taken()
    for _ in range(6):
        actions = valid_actions(world.mask, 1, np.ones(60), rng)
        taken += dataclasses.replace(world.step(actions), seconds=1.0)
    # Autoreset at the next step: two steps of three run.
    assert taken.steps == (4 if name == "vector" else 6) * number
    assert taken.ended == (2 if name == "vector" else 3) * number
    assert taken.seconds == 6 and 0 <= taken.chosen <= taken.steps


def test_actions_are_open_and_distinct_and_follow_the_weights() -> None:
    rng = np.random.default_rng(0)
    mask = rng.random((500, 12)) < 0.5
    mask[:, :3] = True  # a slate always finds place
    drawn = valid_actions(mask, 3, np.arange(1.0, 13), rng)
    assert np.take_along_axis(mask, drawn, 1).all()
    assert all(len(set(slate)) == 3 for slate in drawn.tolist())
    only = np.zeros((2, 1000), np.int8)
    only[0, 7], only[1, 999] = 1, 1
    assert valid_actions(only, 1, np.ones(1000), rng).tolist() == [7, 999]
    shares = np.bincount(valid_actions(np.ones((40_000, 2)), 1, np.array([1.0, 3.0]), rng))
    assert shares[1] / 40_000 == pytest.approx(0.75, abs=0.01)


def test_held_bytes_counts_each_memory_once_and_leaves_out_what_stands_apart() -> None:
    @dataclasses.dataclass
    class Holder:
        parts: list[Any]
        more: dict[str, Any]

    whole, shared = np.zeros(100), torch.zeros(10)
    holder = Holder([whole, whole[:5], shared, shared[2:]], {"again": shared, "name": "x"})
    assert held_bytes(holder) == 800 + 40
    other = Holder([holder, np.zeros(3, np.int8)], {"own": holder})
    assert held_bytes(other, apart=holder) == 3
    assert held_bytes(torch.zeros(4).expand(1000, 4)) == 16


def test_bytes_per_user_are_those_of_another_user(bert_users: BertUserModel) -> None:
    settings = SpeedSettings(preset="tiny", device="cpu")
    few, many = (
        row(settings, bert_users, "views", "vector", number, 1)["bytes_per_user"]
        for number in (8, 64)
    )
    config = bert_users.model.config
    cache = 2 * config.num_hidden_layers * (config.window + 1) * config.hidden_size * 4
    assert cache < many < 20 * cache
    assert few == pytest.approx(many, rel=0.1)


def test_memory_is_read_where_the_system_tells_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "meminfo"
    file.write_text("MemTotal:       10 kB\nMemAvailable:    7 kB\n")
    monkeypatch.setattr(speed_memory, "MEMORY_FILE", file)
    assert available_bytes() == 7 * 1024
    monkeypatch.setattr(speed_memory, "MEMORY_FILE", tmp_path / "none")
    assert available_bytes() is None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"preset": "huge"}, "preset must be one of tiny, demo, full, got 'huge'"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_bad_settings_of_speed_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SpeedSettings(**wrong)
