"""The READMEs show what the program makes of the committed results."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from audience.benchmarks.__main__ import main
from audience.benchmarks.readme import BEGIN, END, TableSettings, block, put, table
from audience.benchmarks.settings import CompareSettings

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "benchmarks" / "results.json"


def committed() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(COMMITTED.read_text())
    return found


@pytest.mark.parametrize(
    ("page", "file"),
    [("README.md", "results.json"), ("benchmarks/README.md", "results-ml-100k.json")],
)
def test_the_page_is_what_the_program_makes(page: str, file: str) -> None:
    text = (ROOT / page).read_text()
    results = json.loads((ROOT / "benchmarks" / file).read_text())
    assert put(text, block(results)) == text
    assert results["complete"]


def test_the_table_says_what_the_results_say() -> None:
    results = committed()
    made = block(results)
    lines = [line for line in made.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(results["agents"])
    best = results["agents"][results["best_cf"]]["judge_als"]["return"]
    (row,) = [line for line in lines if line.startswith(f"| {results['best_cf']} |")]
    assert f"| {best['mean']:.2f} [{best['low']:.2f}, {best['high']:.2f}] |" in row
    words = " ".join(made.replace("\n> ", " ").split())
    assert results["verdict"]["sentence"] in words
    assert f"--log {results['log']['name']} --preset {results['settings']['preset']}" in made
    assert all(len(line) <= 100 or line.startswith(("|", "What `")) for line in made.splitlines())


def test_what_was_set_by_hand_is_in_the_command() -> None:
    results, demo = copy.deepcopy(committed()), CompareSettings(preset="demo")
    results["settings"] |= {**demo.deciding(), "preset": "demo", "agents": demo.names, "seeds": 1}
    plain = f"`audience-bench compare --log {results['log']['name']} --preset demo"
    assert f"{plain}`" in block(results)
    results["settings"] |= {"seeds": 3, "agents": ["ease"]}
    assert f"{plain} --seeds 3 --agents ease`" in block(results)
    results["settings"] |= {"step_limit": 7, "agents": ["ease"]}
    assert "--agents ease" in block(results) and "--step-limit 7" in block(results)


def test_it_is_put_between_the_marks_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    main(["table", "--results", str(COMMITTED), "--into", str(page)])
    made = block(committed())
    assert capsys.readouterr().out == f"{made}\n"
    assert page.read_text() == f"before\n{BEGIN}\n\n{made}\n\n{END}\nafter\n"


@pytest.mark.parametrize("text", ["", f"{END}\n{BEGIN}", BEGIN, f"{BEGIN}{END}{BEGIN}{END}"])
def test_a_page_without_the_marks_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="into must hold the line '<!-- made by"):
        put(text, "table")


def test_results_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"results must be the results\.json of a comparison, got"):
        table(TableSettings(results=str(tmp_path / "results.json")))
    with pytest.raises(ValueError, match="into must be a Markdown file that exists, got"):
        TableSettings(into=str(tmp_path / "page.md"))
