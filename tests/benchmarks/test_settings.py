from typing import Any

import pytest

from audience.benchmarks.roster import ROSTER
from audience.benchmarks.settings import PRESETS, CompareSettings


def test_what_is_set_by_hand_replaces_the_preset() -> None:
    settings = CompareSettings(preset="demo", seeds=3, steps=1000)
    assert settings.budget.seeds == 3 and settings.budget.steps == 1000
    assert settings.budget.sessions == PRESETS["demo"].sessions
    assert CompareSettings(preset="full").budget.seeds == 5


def test_agents_are_named_once_in_the_order_of_the_roster() -> None:
    assert CompareSettings(agents="all").names == list(ROSTER)
    several = CompareSettings(agents="all", slate_size=3).names
    assert set(ROSTER) - set(several) == {"dqn", "qr_dqn"}
    assert CompareSettings(agents="ppo, ease,ppo").names == ["ease", "ppo"]
    default = CompareSettings().names
    assert [name for name in ROSTER if name in default] == default and "ppo" in default


def test_seeds_and_agents_add_to_a_directory_and_other_settings_do_not() -> None:
    one = CompareSettings(agents="ease", seeds=1, out="a", device="cpu").deciding()
    assert one == CompareSettings(agents="ppo,als", seeds=4, out="b").deciding()
    assert one != CompareSettings(slate_size=2).deciding()
    assert one != CompareSettings(steps=10).deciding()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"agents": "ease,dreamer"}, "agents must be names from random, .*'dreamer' is none"),
        ({"agents": " , "}, "agents must be names from random, .*, separated by commas"),
        ({"preset": "huge"}, "preset must be one of tiny, demo, full, all, got 'huge'"),
        ({"text": "{title}"}, "text goes with interactions and items"),
        ({"seeds": 0}, "seeds must be at least 1, got 0"),
        ({"slate_size": 2, "agents": "dqn,ppo"}, "slate_size must be 1 with dqn, whose"),
        ({"slate_size": -1}, "slate_size must be at least 1, got -1"),
    ],
)
def test_bad_settings_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CompareSettings(**wrong)
