"""Work in parts, a thread each: the same answers as in one, and other settings for no thread."""

import dataclasses
import threading
from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from audience.reward_models import parts
from audience.reward_models.bert_users import BertUserModel
from audience.reward_models.parts import LEAST, one_thread, part_count, side_by_side
from audience.reward_models.users import DRAWS, Assumptions, Response

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    parts._helpers.cache_clear()
    yield
    torch.set_num_threads(before)


def test_each_part_is_worked_on_in_a_thread_of_its_own_that_shares_no_product() -> None:
    met = threading.Barrier(2, timeout=60)  # passes only if both run at the same time

    def work(part: int) -> tuple[int, int, int]:
        met.wait()
        return part, torch.get_num_threads(), threading.get_ident()

    for alone in (False, True):
        with one_thread(CPU) if alone else nullcontext():
            (zero, *first), (one, *second) = side_by_side(work, [0, 1])
        assert (zero, one) == (0, 1) and first[0] == second[0] == 1 and first[1] != second[1]
        assert torch.get_num_threads() == 2


def test_the_helpers_of_few_parts_help_with_many() -> None:
    torch.set_num_threads(4)
    for alone in (False, True):
        with one_thread(CPU) if alone else nullcontext():
            for count in (4, 2, 3):
                assert side_by_side(lambda part: part, range(count)) == list(range(count))
                assert parts._helpers.cache_info().currsize == 1


@pytest.mark.parametrize("inference", [False, True])
def test_helpers_infer_where_they_are_called_to(inference: bool) -> None:
    with torch.inference_mode(inference):
        found = side_by_side(lambda _: torch.is_inference_mode_enabled(), [0, 1])
    assert found == [inference] * 2


def test_an_error_of_any_part_comes_after_all_parts() -> None:
    done = []

    def work(part: int) -> None:
        if part == 0:
            raise ValueError("of the first part")
        done.append(part)

    with pytest.raises(ValueError, match="of the first part"):
        side_by_side(work, [0, 1])
    assert done == [1]
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda part: 1 // (1 - part), [0, 1])


def test_few_users_are_one_part() -> None:
    assert [part_count(users, CPU) for users in (0, 1, 2 * LEAST - 1, 2 * LEAST)] == [1, 1, 1, 2]
    assert part_count(10**6, CPU) == 2 and part_count(10**6, torch.device("cuda")) == 1
    with one_thread(CPU):  # the others still help
        assert part_count(10**6, CPU) == 2


def test_parts_draw_what_one_draws(planted_users: BertUserModel) -> None:
    """Over sessions so long that windows overflow, with slots that rest."""
    slots, rng = 3 * LEAST, np.random.default_rng(0)
    starts = planted_users.starts("fitting")
    starts = starts.take(rng.integers(len(starts), size=slots))
    both = [planted_users.open(slots, 2, Assumptions(acceptance=0.9)) for _ in range(2)]
    for sessions in both:
        sessions.start(np.arange(slots), starts)
    for _ in range(20):
        slates, uniforms = rng.integers(40, size=(slots, 2)), rng.random((slots, DRAWS))
        active = rng.random(slots) < 0.95
        answers = []
        for threads, sessions in zip((1, 2), both, strict=True):
            torch.set_num_threads(threads)
            answers.append(sessions.respond(slates, uniforms, active))
        same(*answers)
        resting = ~active
        assert (answers[1].choice[resting] == -1).all() and (answers[1].choice[active] >= 0).any()
    one, two = (sessions.histories() for sessions in both)
    assert np.array_equal(one.items, two.items) and np.array_equal(one.levels, two.levels)


def same(one: Response, other: Response) -> None:
    for field in dataclasses.fields(Response):
        np.testing.assert_allclose(
            getattr(one, field.name), getattr(other, field.name), atol=1e-5, err_msg=field.name
        )
