import numpy as np
import pytest

from audience.envs.uniforms import GOLDEN, Streams, keyed_uniforms, keys_of, mix

ZERO = np.zeros(1, np.int64)


def test_mix_is_splitmix64() -> None:
    """The first outputs of the reference implementation for seed 1234567."""
    states = np.uint64(1234567) + GOLDEN * np.arange(1, 4, dtype=np.uint64)
    assert mix(states).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


def test_each_counter_matters_and_the_batch_does_not() -> None:
    keys = keys_of(range(50))
    episodes, steps, columns = np.arange(50) % 3, np.arange(50) % 7, np.arange(4)
    block = keyed_uniforms(keys, episodes, steps, columns)
    alone = keyed_uniforms(keys[9:10], episodes[9:10], steps[9:10], columns[2:3])
    assert alone == block[9, 2]
    every = keyed_uniforms(
        np.repeat(keys_of([0, 1]), 4), np.tile([0, 0, 1, 1], 2), np.tile([0, 1], 4), columns
    )
    assert len(np.unique(every)) == every.size


def test_uniforms_are_uniform() -> None:
    keys = keys_of(range(100_000))
    zeros = np.zeros(100_000, np.int64)
    draws = keyed_uniforms(keys, zeros, zeros, np.arange(2))
    assert draws.min() >= 0 and draws.max() < 1
    # 100,000 draws: the standard error of the mean is .0009, of a decile's share .00095.
    assert draws.mean(axis=0) == pytest.approx(0.5, abs=0.004)
    shares = np.histogram(draws[:, 0], bins=10, range=(0, 1))[0] / len(draws)
    assert shares == pytest.approx(0.1, abs=0.004)
    assert abs(np.corrcoef(draws.T)[0, 1]) < 0.013
    assert abs(np.corrcoef(draws[:-1, 0], draws[1:, 0])[0, 1]) < 0.013


def test_large_seeds_do_not_collide() -> None:
    seeds = [0, 1, 2**63, 2**64 - 1, 2**64, 2**64 + 1, 2**100]
    assert len(set(keys_of(seeds).tolist())) == len(seeds)


def test_streams_ask_the_generator_only_for_slots_without_seed_or_key() -> None:
    streams, everyone = Streams(3), np.ones(3, np.bool_)
    calls = []

    def generator() -> np.random.Generator:
        calls.append(1)
        return np.random.default_rng(0)

    streams.seed([5, 6, 7], everyone, generator)
    assert not calls and streams.keys.tolist() == keys_of([5, 6, 7]).tolist()
    streams.episodes += 1
    streams.seed([None, 9, None], np.array([True, False, True]), generator)
    assert not calls and streams.keys.tolist() == keys_of([5, 6, 7]).tolist()
    assert streams.episodes.tolist() == [0, 0, 0]
    fresh = Streams(2)
    fresh.seed([None, 4], everyone[:2], generator)
    assert len(calls) == 1 and fresh.keys[1] == keys_of([4])[0]
