"""Cells of a comparison in parallel: each on one core with one thread, its results on disk.

What cells leave behind is found by whoever asks for it next, so the comparison itself only has to
read. One thread a cell makes a result the same however many cells run beside it.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from audience.benchmarks.roster import ROSTER
from audience.benchmarks.settings import CompareSettings
from audience.benchmarks.stages import Stages
from audience.benchmarks.world_names import JUDGE, SIMULATOR
from audience.benchmarks.worlds import HALF, OTHER
from audience.reward_models.fit_data import FitData
from audience.reward_models.judges import JUDGES

Kind = Literal[
    "users", "judge", "agent", "opened", "witnesses", "competence", "masked", "grid", "front"
]

CHECKS: tuple[Kind, ...] = ("masked", "competence")
"""What is asked of a seed once all is made."""

MAKING: tuple[Kind, ...] = ("users", "judge", "witnesses", "agent")
"""Cells that fit or train."""

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS")


@dataclass(frozen=True)
class Cell:
    """A piece of one seed's work that needs no other piece of the same wave.

    Attributes:
        seed: The seed.
        kind: `users`: the fit of the simulator; `judge`: of a judge; `witnesses`: of those;
            `agent`: an agent and its sessions in half A; `opened`: its sessions where no agent
            was made; `competence`: of the judges; `masked`: values under replay's masks; `grid`:
            an agent's sessions in a judge under one setting of the assumptions; `front`: those of
            an agent re-ranked for diversity.
        of: Half and class of a judge; name of an agent; or name, world, and row of the grid or
            weight of diversity.
    """

    seed: int
    kind: Kind
    of: tuple[Any, ...] = ()


class Pool:
    """Runs waves of cells.

    Args:
        jobs: Cells at a time; with 0 nothing is run here, and all is left to whoever asks.
        settings: Of the comparison.
        record: What every stage depends on.
        began: When the comparison began, in seconds since the epoch.
    """

    def __init__(
        self, jobs: int, settings: CompareSettings, record: dict[str, Any], began: float
    ) -> None:
        self.jobs = jobs
        self._ahead: list[Future[None]] = []
        self._executor: ProcessPoolExecutor | None = None
        if jobs:
            context = multiprocessing.get_context("spawn")
            self._executor = ProcessPoolExecutor(
                jobs, context, initializer=_begin, initargs=(settings, record, began)
            )

    def run(self, cells: Sequence[Cell], ahead: Sequence[Cell] = ()) -> None:
        """Run a wave; the first cells begin first.

        Args:
            cells: Those of the wave.
            ahead: Cells of the next wave that need nothing of this one. They begin where a process
                is free, and only the next wave waits for them.

        Raises:
            ChildProcessError: A process was killed.
        """
        if self._executor is None:
            return
        with _single_threaded():  # processes are made when there is work
            running = [self._executor.submit(_run, cell) for cell in cells] + self._ahead
            self._ahead = [self._executor.submit(_run, cell) for cell in ahead]
            try:
                for one in running:
                    one.result()
            except BrokenProcessPool as error:
                raise ChildProcessError(
                    f"a process of the comparison was killed, as a rule for want of memory. What "
                    f"is finished is kept: run the same command again, with jobs below {self.jobs} "
                    f"if it was memory"
                ) from error

    def close(self) -> None:
        """Let the processes end; what has not begun is dropped."""
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)


def making(settings: CompareSettings) -> Iterator[tuple[list[Cell], list[Cell]]]:
    """The waves in which all is made, and meets the users: what takes longest comes first.

    Yields:
        What `Pool.run` takes: the cells of a wave, and those that begin ahead of the next.
    """
    seeds = range(settings.budget.seeds)
    own = [settings.inner_judge] + ([] if settings.partner is None else [settings.partner])
    fits = [
        *(Cell(seed, "users") for seed in seeds),
        *(Cell(seed, "judge", (HALF, kind)) for seed in seeds for kind in own),
    ]
    yield fits, [Cell(seed, "judge", (OTHER, kind)) for seed in seeds for kind in JUDGES]
    if any(ROSTER[name].witnesses for name in settings.names):
        yield [Cell(seed, "witnesses") for seed in seeds], []
    trained = [name for name in settings.names if ROSTER[name].kind == "rl"]
    asking = [name for name in settings.names if ROSTER[name].model]
    rest = [name for name in settings.names if name not in (*trained, *asking)]

    def of_agents(kind: Kind) -> list[Cell]:
        return [
            Cell(seed, kind, (name,))
            for names in ([*trained, *asking], rest)
            for seed in seeds  # a process keeps the models of one seed
            for name in names
        ]

    yield of_agents("agent"), []
    checks = [Cell(seed, kind) for seed in seeds for kind in CHECKS]
    yield [*checks, *of_agents("opened")], []


def turning(
    settings: CompareSettings, champions: Sequence[str], rows: int, weights: Sequence[float] = ()
) -> list[Cell]:
    """The wave in which the champions meet the judges under other assumptions, and re-ranked.

    Args:
        settings: Of the comparison.
        champions: Names of agents.
        rows: Of the grid of assumptions.
        weights: Of diversity; for these they meet the simulator, too.
    """
    judges = [f"{JUDGE}{kind}" for kind in JUDGES]
    of = [
        *(("grid", world, row) for world in judges for row in range(rows)),
        *(("front", world, weight) for world in (SIMULATOR, *judges) for weight in weights),
    ]
    return [
        Cell(seed, kind, (name, world, which))  # type: ignore[arg-type]
        for seed in range(settings.budget.seeds)
        for kind, world, which in of
        for name in champions
    ]


class _Runner:
    """Runs cells in a process of its own; models stay loaded while the seed is the same."""

    def __init__(self, settings: CompareSettings, record: dict[str, Any], began: float) -> None:
        self._settings, self._record, self._began = settings, record, began
        self._log = settings.load_log()
        self._stages: Stages | None = None

    def __call__(self, cell: Cell) -> None:
        stages = self._of_seed(cell.seed)
        if cell.kind == "users":
            _ = stages.worlds.simulator  # it is fitted when it is asked for
        elif cell.kind == "judge":
            stages.worlds.judge(*cell.of)
        elif cell.kind == "witnesses":
            _ = stages.worlds.witnesses
        elif cell.kind == "agent":
            stages.in_half_a(*cell.of)
        elif cell.kind == "opened":
            stages.opened(*cell.of)
        elif cell.kind == "competence":
            stages.competences()
        elif cell.kind == "masked":
            stages.masked()
        elif cell.kind == "front":
            stages.varied(*cell.of)
        else:
            stages.turned(*cell.of)
        if cell.kind in MAKING:
            gc.collect()  # what was fitted in refers to itself, too

    def _of_seed(self, seed: int) -> Stages:
        if self._stages is None or self._stages.seed != seed:
            self._stages = None
            # Stages and worlds refer to each other; of themselves they would stay, models and all.
            gc.collect()
            data = FitData.of(self._log, HALF, seed)
            self._stages = Stages(self._settings, self._log, data, seed, self._record, self._say)
        return self._stages

    def _say(self, message: str) -> None:
        print(f"[{time.time() - self._began:6.1f} s] {message}", flush=True)


_runner: _Runner | None = None


def _begin(settings: CompareSettings, record: dict[str, Any], began: float) -> None:
    import torch

    end_with_parent()
    torch.set_num_threads(1)
    global _runner
    _runner = _Runner(settings, record, began)


def end_with_parent() -> None:
    """End this process as soon as its parent has, however that ended.

    Else the cells of a comparison that was killed would go on, and write beside those of the next.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _run(cell: Cell) -> None:
    assert _runner is not None
    _runner(cell)


@contextmanager
def _single_threaded() -> Iterator[None]:
    """Processes that are made meanwhile have one thread each."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
