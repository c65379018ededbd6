"""Which cells there are, and in which order; that they give the same is tested with compare."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import weakref
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import polars as pl
import pytest

from audience.benchmarks import __main__ as program
from audience.benchmarks import compare as comparison
from audience.benchmarks.cells import THREADS, Cell, Pool, _Runner, making, turning
from audience.benchmarks.settings import CompareSettings
from audience.reward_models.judges import JUDGES
from audience.reward_models.log import InteractionLog


def test_everything_is_made_once_and_what_takes_longest_begins_first() -> None:
    settings = CompareSettings(agents="random,ease,greedy,ppo", seeds=2)
    (fits, ahead), (agents, none), (opened, _) = making(settings)
    assert fits[:2] == [Cell(0, "users"), Cell(1, "users")]
    own = [("a", "als"), ("a", "boosted")]  # the inner judge and the partner
    assert fits[2:] == [Cell(seed, "judge", of) for seed in (0, 1) for of in own]
    assert ahead == [Cell(seed, "judge", ("b", kind)) for seed in (0, 1) for kind in JUDGES]
    expected = [
        (0, "ppo"),
        (0, "greedy"),
        (1, "ppo"),
        (1, "greedy"),
        (0, "random"),
        (0, "ease"),
        (1, "random"),
        (1, "ease"),
    ]
    assert [(cell.seed, *cell.of) for cell in agents] == expected
    assert not none  # agents make what is asked for next
    assert {cell.kind for cell in opened[:4]} == {"competence", "masked"}
    assert [(cell.seed, *cell.of) for cell in opened[4:]] == expected
    lonely, _ = next(making(CompareSettings(agents="ppo", seeds=1, partner=None)))
    assert Cell(0, "judge", ("a", "boosted")) not in lonely
    grid = turning(settings, ("ppo", "ease"), rows=7)
    assert len(set(grid)) == len(grid) == 2 * len(JUDGES) * 2 * 7
    assert Cell(1, "grid", ("ease", "judge_als", 6)) in grid
    varied = turning(settings, ("ease",), rows=0, weights=(1.0, 2.0))
    assert {cell.kind for cell in varied} == {"front"} and len(varied) == 2 * 3 * 2
    assert Cell(0, "front", ("ease", "simulator", 2.0)) in varied


def test_witnesses_are_fitted_before_the_agents_that_ask_them() -> None:
    waves = making(CompareSettings(agents="ease,greedy_pessimism", seeds=2))
    fits, witnesses, agents, _ = (cells for cells, _ in waves)
    assert witnesses == [Cell(0, "witnesses"), Cell(1, "witnesses")]
    assert Cell(0, "users") in fits and Cell(1, "agent", ("greedy_pessimism",)) in agents


def test_without_processes_all_is_left_to_whoever_asks() -> None:
    before = {name: os.environ.get(name) for name in THREADS}
    pool = Pool(0, CompareSettings(agents="random"), {}, time.time())
    pool.run([Cell(0, "users")])  # would fit for minutes
    pool.close()
    assert {name: os.environ.get(name) for name in THREADS} == before


def test_a_process_lets_go_of_the_models_of_the_seed_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [(f"u{user}", f"i{(user + k) % 9}") for user in range(40) for k in range(8)]
    events = pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row")
    log = InteractionLog.from_frames(events, events.select("item_id", title="item_id").unique())
    monkeypatch.setattr(CompareSettings, "load_log", lambda self: log)
    runner = _Runner(CompareSettings(agents="random", seeds=2), {}, time.time())
    before = weakref.ref(runner._of_seed(0))
    assert runner._of_seed(0) is before()
    runner._of_seed(1)
    assert before() is None  # five seeds' models at once have filled 24 GiB


def test_a_killed_process_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(2, CompareSettings(agents="random"), {}, time.time())
    killed: Future[None] = Future()
    killed.set_exception(BrokenProcessPool("terminated abruptly"))
    monkeypatch.setattr(pool._executor, "submit", lambda *_: killed)
    with pytest.raises(ChildProcessError, match="run the same command again, with jobs below 2"):
        pool.run([Cell(0, "users")])
    monkeypatch.setattr(comparison, "compare", lambda settings: pool.run([Cell(0, "users")]))
    with pytest.raises(SystemExit, match="audience-bench: a process of the comparison was killed"):
        program.main(["compare", "--preset", "tiny"])
    pool.close()


PARENT = """
import multiprocessing, sys, time
from audience.benchmarks.cells import end_with_parent

def work(began):
    end_with_parent()
    began.set()
    time.sleep(60)

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    began = context.Event()
    child = context.Process(target=work, args=(began,))
    child.start()
    began.wait()
    print(child.pid, flush=True)
    time.sleep(60)
"""


def test_a_killed_comparison_leaves_no_process_behind(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    command = [sys.executable, str(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        os.kill(child, 0)  # it is there
        parent.kill()
    for _ in range(100):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    raise AssertionError("the child outlived its parent by ten seconds")


def test_by_default_a_cell_runs_on_each_core() -> None:
    assert 1 <= CompareSettings(agents="random").processes <= 8
    assert CompareSettings(agents="random", jobs=3).processes == 3
