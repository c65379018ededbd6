"""The README's own lines, run as they stand but for their size."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from audience.agents.__main__ import main as audience_train
from audience.benchmarks.__main__ import main as audience_bench
from audience.reward_models.__main__ import main as audience_fit

README = (Path(__file__).parents[1] / "README.md").read_text()
PROGRAMS = {
    "audience-fit": audience_fit,
    "audience-train": audience_train,
    "audience-bench": audience_bench,
}
SMALLER = {
    "--preset demo": "--preset tiny",
    'preset="demo"': 'preset="tiny"',
    "--steps 300000": "--steps 512 --num-envs 16",
    "300_000": "512",
    "num_envs=1024": "num_envs=64",
    "num_envs=256": "num_envs=16",
    "**PPO_DEFAULTS": '**PPO_DEFAULTS | {"batch_size": 512, "device": "cpu"}',
}
"""What is replaced, so that seconds are enough; each must stand in the README."""


def blocks(heading: str, language: str) -> list[str]:
    """The code blocks of a section."""
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    found = re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
    assert found
    for long, short in SMALLER.items():
        assert long in README
        found = [block.replace(long, short) for block in found]
    return found


def run(block: str) -> None:
    for line in block.splitlines():
        program, *arguments = shlex.split(line, comments=True)
        PROGRAMS[program](arguments)


@pytest.fixture
def two_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the user's two files, as the working directory."""
    rng = np.random.default_rng(0)
    books = [f"book-{i}" for i in range(40)]
    rows = [
        (f"reader-{u}", books[i], float(rng.integers(1, 6)), 1_700_000_000 + 60 * t)
        for u in range(60)
        for t, i in enumerate(rng.permutation(40)[:18])
    ]
    columns = ["user_id", "item_id", "feedback", "timestamp"]
    pl.DataFrame(rows, schema=columns, orient="row").write_csv(tmp_path / "interactions.csv")
    category = ["crime", "poetry"] * 20
    pl.DataFrame({"item_id": books, "title": books, "category": category}).write_csv(
        tmp_path / "items.csv"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUDIENCE_CACHE", str(tmp_path / "cache"))
    return tmp_path


# Stable-Baselines3's progress bar is one of tqdm's experiments.
@pytest.mark.filterwarnings("ignore::tqdm.TqdmExperimentalWarning")
def test_the_lines_for_ones_own_log_and_those_for_the_environments(
    two_files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for block in blocks("Your own log", "sh"):
        run(block)
    assert (two_files / "runs/users/card.md").is_file()
    assert (two_files / "runs/ppo/model.zip").is_file()
    results = json.loads((two_files / "runs/own/results.json").read_text())
    assert set(results["agents"]) >= {"random", "als", "ease", "greedy", "ppo"}
    assert set(results["judges"]) >= {"als", "boosted"} and results["verdict"]["rl"] == "ppo"
    assert "ppo" in capsys.readouterr().out
    for block in blocks("Your own log", "python"):
        names: dict[str, object] = {}
        exec(block, names)
        env = names["env"]
        env.reset(seed=0)  # type: ignore[attr-defined]
        env.step(env.action_space.sample())  # type: ignore[attr-defined]
    # The MovieLens ids, with these users in place of theirs.
    monkeypatch.setattr("audience.envs.movielens.movielens_users", lambda: two_files / "runs/users")
    names = {}
    for block in blocks("The environment", "python"):
        exec(block, names)
    assert names["users"].num_envs == 64  # type: ignore[attr-defined]
    assert names["model"].num_timesteps >= 512  # type: ignore[attr-defined]


def test_a_running_thing_within_forty_lines() -> None:
    first = README.splitlines()[:40]
    assert any(line.startswith("audience-bench compare --log movielens") for line in first)
    assert any("make demo" in line for line in first)
