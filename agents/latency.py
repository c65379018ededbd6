"""How long one recommendation takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audience.agents.base import Agent


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one call.

    Attributes:
        p50: Half of the calls took no longer.
        p99: 99 of 100 calls took no longer.
        mean: Over all calls.
        calls: How many were timed.
    """

    p50: float
    p99: float
    mean: float
    calls: int


def latency(call: Callable[[int], object], calls: int = 200, warmup: int = 5) -> Latency:
    """Time `call(0)`, `call(1)`, …, one by one.

    Args:
        call: What to time; it takes the number of the call.
        calls: How many, at least 1; the 99th percentile of fewer than 100 is the slowest.
        warmup: Calls before, which do not count: they fill caches.

    Raises:
        ValueError: `calls` is below 1.
    """
    if calls < 1:
        raise ValueError(f"calls must be at least 1, got {calls!r}")
    for number in range(warmup):
        call(number)
    seconds = np.empty(calls)
    for number in range(calls):
        began = time.perf_counter()
        call(number)
        seconds[number] = time.perf_counter() - began
    p50, p99 = 1000 * np.quantile(seconds, [0.5, 0.99], method="higher")
    return Latency(float(p50), float(p99), float(1000 * seconds.mean()), calls)


def predict_latency(
    agent: Agent, observation: Mapping[str, NDArray[Any]], calls: int = 200, warmup: int = 5
) -> Latency:
    """Time `agent.predict` for one user at a time, those of a batch of observations in turn.

    Args:
        agent: Baseline or algorithm.
        observation: A batch, such as a vector environment's `reset` gives.
        calls: See `latency`.
        warmup: See `latency`.
    """
    rows = len(observation["length"])
    single = [{key: value[row] for key, value in observation.items()} for row in range(rows)]
    return latency(lambda n: agent.predict(single[n % rows], deterministic=True), calls, warmup)
