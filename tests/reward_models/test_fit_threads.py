"""Fits side by side: in order, one thread each, and alone where the process has one thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from threading import Barrier, get_ident

import pytest
import torch
from threadpoolctl import threadpool_info

from audience.reward_models.fit_threads import fits


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_fits_come_back_in_order_from_as_many_threads_as_torch_has(threads: int) -> None:
    together = Barrier(threads, timeout=20)  # passed only when so many fits run at a time

    def fit(setting: int) -> tuple[int, int, int]:
        together.wait()
        blas = [info for info in threadpool_info() if info["user_api"] == "blas"]
        return setting, get_ident(), max(info["num_threads"] for info in blas)

    found = fits(fit, range(4))
    assert [setting for setting, _, _ in found] == [0, 1, 2, 3]
    assert len({thread for _, thread, _ in found}) == threads
    if threads == 1:
        assert found[0][1] == threading.get_ident()
    else:
        assert {blas for _, _, blas in found} == {1}
    assert fits(fit, []) == []


def test_a_fit_that_fails_says_so(threads: int) -> None:
    def fit(setting: int) -> int:
        if setting == 2:
            raise ValueError("no such setting")
        return setting

    with pytest.raises(ValueError, match="no such setting"):
        fits(fit, range(3))
