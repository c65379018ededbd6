import numpy as np
import pytest

from audience.reward_models.splits import UserSplit, uniform_of

IDS = np.array([f"user-{i}" for i in range(10_000)])


def parts(split: UserSplit) -> list[set[str]]:
    return [set(part.tolist()) for part in (split.fitting, split.validation, split.test)]


def test_hash_has_a_known_value_and_covers_the_unit_interval() -> None:
    import hashlib

    digest = hashlib.blake2b(b"test:17", digest_size=8).digest()
    assert uniform_of(["17"], "test")[0] == (int.from_bytes(digest, "big") >> 11) / 2**53
    numbers = uniform_of(IDS, "salt")
    assert numbers.min() >= 0 and numbers.max() < 1
    assert abs(numbers.mean() - 0.5) < 4 * np.sqrt(1 / 12 / len(IDS))


def test_shares_lie_within_binomial_bounds() -> None:
    split = UserSplit.of(IDS)
    for part, share in ((split.fitting, 0.72), (split.validation, 0.08), (split.test, 0.2)):
        assert abs(len(part) - share * 10_000) < 4 * np.sqrt(10_000 * share * (1 - share))
    half = UserSplit.half_of(IDS, "a")
    assert abs(len(half.fitting) + len(half.validation) - 4_000) < 4 * np.sqrt(10_000 * 0.4 * 0.6)


def test_parts_are_disjoint_complete_and_in_the_given_order() -> None:
    split = UserSplit.of(IDS)
    sets = parts(split)
    assert sum(map(len, sets)) == len(IDS) and set.union(*sets) == set(IDS.tolist())
    place = {user: i for i, user in enumerate(IDS.tolist())}
    for part in (split.fitting, split.validation, split.test):
        assert (np.diff([place[user] for user in part.tolist()]) > 0).all()


def test_adding_users_moves_nobody() -> None:
    for before, after in zip(
        parts(UserSplit.of(IDS[:5_000])), parts(UserSplit.of(IDS)), strict=True
    ):
        assert before == after & set(IDS[:5_000].tolist())


def test_the_seed_moves_validation_users_but_never_test_users() -> None:
    first, second = parts(UserSplit.of(IDS, seed=0)), parts(UserSplit.of(IDS, seed=1))
    assert first[2] == second[2]
    assert first[1] != second[1]
    # Independent draws of a tenth share about a tenth.
    assert len(first[1] & second[1]) < 0.25 * len(first[1])


def test_halves_share_only_the_test_users() -> None:
    whole, a, b = UserSplit.of(IDS), UserSplit.half_of(IDS, "a"), UserSplit.half_of(IDS, "b")
    assert a.test.tolist() == b.test.tolist() == whole.test.tolist()
    in_a, in_b = ({*half.fitting.tolist(), *half.validation.tolist()} for half in (a, b))
    assert not in_a & in_b
    assert in_a | in_b | set(whole.test.tolist()) == set(IDS.tolist())
    other = UserSplit.half_of(IDS, "a", seed=1)
    assert in_a != {*other.fitting.tolist(), *other.validation.tolist()}


@pytest.mark.parametrize("users", range(4, 30))
def test_tiny_logs_have_a_user_in_each_part(users: int) -> None:
    for offset in range(20):
        ids = [f"u{offset}-{i}" for i in range(users)]
        splits = [UserSplit.of(ids)]
        if users >= 5:
            splits += [UserSplit.half_of(ids, "a"), UserSplit.half_of(ids, "b")]
        for split in splits:
            assert all(parts(split))
            assert split.test.tolist() == splits[0].test.tolist()


def test_fewer_users_leave_parts_empty_without_error() -> None:
    assert [len(part) for part in parts(UserSplit.of(["a", "b"]))] == [1, 0, 1]
    assert [len(part) for part in parts(UserSplit.of(["a"]))].count(1) == 1


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"distinct, got 'b' 2 times"):
        UserSplit.of(["a", "b", "b"])
    with pytest.raises(ValueError, match=r'half must be "a" or "b", got \'c\''):
        UserSplit.half_of(["a", "b"], "c")  # type: ignore[arg-type]
