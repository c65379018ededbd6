"""The report of a comparison: report.html, report.md and their figures, from its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from audience.benchmarks.files import read_json, write_text
from audience.benchmarks.report_answer import answer, verdict_section
from audience.benchmarks.report_blocks import Report
from audience.benchmarks.report_figures import Curve
from audience.benchmarks.report_front import front_section
from audience.benchmarks.report_markdown import markdown
from audience.benchmarks.report_page import html
from audience.benchmarks.report_parts import agents_section, learning_section, worlds_section
from audience.benchmarks.report_reading import Results
from audience.benchmarks.report_sources import cards_of, curves_of
from audience.benchmarks.report_trust import settings_section, trust_section
from audience.benchmarks.report_turns import assumptions_section, segments_section

FIGURES = "figures"


def write_report(directory: str | Path) -> Path:
    """Write `report.html`, `report.md` and `figures/*.{png,svg}` from `results.json`.

    Whatever results.json, the users' cards and the trainings' TensorBoard files hold is shown;
    what they lack is left out, and where it matters, said to be unknown. Figures of an earlier
    report are replaced.

    Args:
        directory: Of a comparison, finished or not.

    Returns:
        The path of report.html, a page that asks for nothing from outside.

    Raises:
        ValueError: The directory holds no readable results.json.
    """
    directory = Path(directory)
    results = read_json(directory / "results.json")
    if results is None:
        raise ValueError(
            f"directory must hold the results.json of a comparison, got {str(directory)!r}; "
            f"run audience-bench compare with this directory as out"
        )
    trained = [n for n, agent in (results.get("agents") or {}).items() if agent.get("kind") == "rl"]
    report = report_of(results, cards_of(directory), curves_of(directory, trained))
    folder = directory / FIGURES
    folder.mkdir(exist_ok=True)
    for old in (*folder.glob("*.png"), *folder.glob("*.svg")):
        old.unlink()
    for picture in report.pictures():
        write_text(folder / f"{picture.file}.svg", picture.drawing.svg(standalone=True))
        picture.drawing.png(folder / f"{picture.file}.png")
    write_text(directory / "report.md", markdown(report, FIGURES))
    write_text(directory / "report.html", html(report))
    return directory / "report.html"


def report_of(
    results: Results,
    cards: Mapping[str, Mapping[str, Any]] | None = None,
    learned: Mapping[str, Sequence[Curve]] | None = None,
) -> Report:
    """The report's content.

    Args:
        results: As in results.json; any key may be missing.
        cards: Cards of the simulators by seed.
        learned: Learning curves by TensorBoard tag.
    """
    log, settings = results.get("log") or {}, results.get("settings") or {}
    counts = [f"{log[key]:,} {key}" for key in ("users", "items", "events") if key in log]
    seeds = settings.get("seeds")
    about = [
        ", ".join(counts),
        f"preset {settings['preset']}" if "preset" in settings else "",
        f"{seeds} seed{'s' * (seeds != 1)}" if seeds else "",
        "not finished yet" if results.get("complete") is False else "",
    ]
    sections = [
        agents_section(results),
        verdict_section(results),
        worlds_section(results),
        learning_section(results, learned or {}),
        trust_section(results, cards or {}),
        assumptions_section(results),
        front_section(results),
        segments_section(results),
        settings_section(results),
    ]
    return Report(
        title=f"Who recommends best{' on ' + str(log['name']) if 'name' in log else ''}?",
        about=" · ".join(part for part in about if part),
        answer=answer(results),
        sections=[section for section in sections if section and section.blocks],
    )
