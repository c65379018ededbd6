"""Fidelity: does a simulator rank and value policies as the truth does?"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from rich import box
from rich.table import Table

from audience.benchmarks.agreement import Value, agreement
from audience.benchmarks.compare import VERSIONS
from audience.benchmarks.fidelity_settings import FidelitySettings
from audience.benchmarks.files import read_json, write_json, write_text
from audience.benchmarks.real_feedback import real_feedback
from audience.benchmarks.recovery import recovery
from audience.benchmarks.scripted_truth import SCRIPTED
from audience.reward_models.bert_users import BertUserModel
from audience.reward_models.device import resolve_device
from audience.reward_models.fit_settings import FitSettings
from audience.reward_models.fitting import fit, settings_of
from audience.reward_models.log import InteractionLog
from audience.reward_models.scripted_log import LoggingPolicy

AVERAGED = (
    "kendall",
    "spearman",
    "mean_absolute_value_error",
    "mean_absolute_value_difference",
    "regret",
    "favourite_value_error",
    "favourite_value_difference",
)
"""Figures of `agreement` that are averaged over user models."""


def fidelity(settings: FidelitySettings) -> dict[str, Any]:
    """Fit users, value policies in them and in the truth, and say how far the two agree.

    Writes `settings.json`, `fidelity.json` after each user model, `table.md`, TensorBoard files
    in `summary`, and each user model in `LOG-seed-S`.

    Returns:
        What `fidelity.json` says: the figures of `agreement` and `policies.<name>.{simulator|
        truth}.{value|low|high}`, averaged over user models; `feedback` (of the first user
        model, None for scripted users); `runs[]`, the same of each user model; `settings`.

    Raises:
        LogError: The log or the truth is missing or breaks a rule.
        ValueError: A setting is wrong, or there is nobody to value policies with.
    """
    began = time.perf_counter()

    def say(message: str) -> None:
        print(f"[{time.perf_counter() - began:6.1f} s] {message}", flush=True)

    out = Path(settings.out)
    resolve_device(settings.device)
    told = {
        **dataclasses.asdict(settings),
        "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
    }
    log = None if settings.scripted else settings.load_log()
    write_json(out / "settings.json", told)
    names: tuple[str, ...] = get_args(LoggingPolicy) if log is None else (log.name,)

    def fitted(log: InteractionLog, seed: int) -> BertUserModel:
        return _fitted(log, seed, out / f"{log.name}-seed-{seed}", settings, say)

    runs: list[dict[str, Any]] = []
    results: dict[str, Any] = {}
    planned = [(name, seed) for seed in range(settings.n_seeds) for name in names]
    for name, seed in planned:
        if log is None:
            logging: LoggingPolicy = "uniform" if name == "uniform" else "popularity"
            found = recovery(logging, seed, settings.budget, fitted, say)
        else:
            found = real_feedback(log, seed, settings.truth, fitted, say)
        runs.append({"log": name, "seed": seed, **_told(found)})
        results = results_of(runs) | {
            "log": SCRIPTED if log is None else log.name,
            "settings": told,
            "complete": len(runs) == len(planned),
        }
        write_json(out / "fidelity.json", results)
    write_text(out / "table.md", markdown(results))
    _write_summary(out / "summary", results)
    say(f"finished: {out / 'fidelity.json'}")
    return results


def results_of(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over user models of their values and figures, and the runs themselves.

    The figures are means of each user model's own, None where any is undefined.
    """
    policies = {
        name: {
            world: {
                end: float(np.mean([run["policies"][name][world][end] for run in runs]))
                for end in ("value", "low", "high")
            }
            for world in ("simulator", "truth")
        }
        for name in runs[0]["policies"]
    }
    by_log = {
        log: _means([run for run in runs if run["log"] == log])
        for log in dict.fromkeys(run["log"] for run in runs)
    }
    return {
        "policies": policies,
        **_means(runs),
        "feedback": runs[0].get("feedback"),
        "by_log": by_log,
        "planning": runs[0].get("planning"),
        "runs": list(runs),
    }


def _means(runs: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Mean of each figure, None where that of any run is undefined."""
    each = {figure: [run[figure] for run in runs] for figure in AVERAGED}
    return {
        figure: None if None in found else float(np.mean(found)) for figure, found in each.items()
    }


def _told(found: dict[str, Any]) -> dict[str, Any]:
    """A run as JSON, with its figures of agreement."""
    valued: dict[str, dict[str, Value]] = found["policies"]
    policies = {
        name: {world: dataclasses.asdict(value) for world, value in worlds.items()}
        for name, worlds in valued.items()
    }
    return {**found, "policies": policies, **agreement(valued)}


def _fitted(
    log: InteractionLog, seed: int, directory: Path, settings: FidelitySettings, say: Any
) -> BertUserModel:
    """The user model of a log and seed, fitted or loaded."""
    # With a truth of their own, all users' rows are history, and fitted on.
    everyone = settings.truth is not None
    wanted = FitSettings(**settings.fit_settings(str(directory), seed), everyone=everyone)
    if read_json(directory / "settings.json") == settings_of(log, wanted):
        say(f"{log.name}, seed {seed}: user model: reused: {directory}")
        return BertUserModel.from_pretrained(directory, device=settings.device)
    say(f"{log.name}, seed {seed}: fitting the user model (preset {wanted.preset})")
    users = fit(log, wanted)
    assert isinstance(users, BertUserModel)  # the default kind
    return users


def rows(results: Mapping[str, Any]) -> list[list[str]]:
    """The table's cells, the truly best policy first."""
    ranked = sorted(results["policies"].items(), key=lambda item: -item[1]["truth"]["value"])
    return [
        [
            name,
            *(
                f"{worlds[world]['value']:.3f} [{worlds[world]['low']:.3f}, "
                f"{worlds[world]['high']:.3f}]"
                for world in ("simulator", "truth")
            ),
        ]
        for name, worlds in ranked
    ]


def sentences(results: Mapping[str, Any]) -> list[str]:
    """The figures in words."""

    def told(figures: Mapping[str, Any]) -> str:
        return (
            f"rank agreement tau-b {_number(figures['kendall'])}, Spearman "
            f"{_number(figures['spearman'])}; value error "
            f"{_number(figures['mean_absolute_value_error'], '.1%')}; the favourite costs "
            f"{_number(figures['regret'])} and is overrated by "
            f"{_number(figures['favourite_value_error'], '+.1%')}."
        )

    said = [f"All {len(results['runs'])} user models: {told(results)}"]
    if len(results["by_log"]) > 1:
        said += [f"Log shown by {name}: {told(of)}" for name, of in results["by_log"].items()]
    if planning := results.get("planning"):
        said.append(
            f"Planning pays: the best policy is worth {planning['best']:.3f}, greedy on the truth "
            f"{planning['greedy']:.3f}, {planning['margin']:.1%} less (exact, seed 0)."
        )
    return said


HEADINGS = ("policy", "simulator [95 %]", "truth [95 %]")


def markdown(results: Mapping[str, Any]) -> str:
    """The table in Markdown, with the figures below."""
    lines = [HEADINGS, ("---", "---:", "---:"), *rows(results)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{table}\n\n" + "\n\n".join(sentences(results)) + "\n"


def screen(results: Mapping[str, Any]) -> Table:
    """The table for a terminal."""
    table = Table(
        title=f"{results['log']}: values of policies in the simulator and in the truth",
        box=box.SIMPLE_HEAD,
        caption="\n".join(sentences(results)),
        caption_justify="left",
    )
    for place, heading in enumerate(HEADINGS):
        table.add_column(heading.replace("[", r"\["), justify="right" if place else "left")
    for row in rows(results):
        table.add_row(*(cell.replace("[", r"\[") for cell in row))
    return table


def _number(value: float | None, form: str = ".3f") -> str:
    return "undefined" if value is None else format(value, form)


def _write_summary(directory: Path, results: Mapping[str, Any]) -> None:
    """Values and figures of each user model as TensorBoard files, in place of older ones."""
    from torch.utils.tensorboard import SummaryWriter

    for old in directory.glob("events.out.tfevents.*"):
        old.unlink()
    with SummaryWriter(str(directory)) as writer:
        for place, run in enumerate(results["runs"]):
            for figure in AVERAGED:
                if run[figure] is not None:
                    writer.add_scalar(f"fidelity/{figure}", run[figure], place)
            for name, worlds in run["policies"].items():
                for world, value in worlds.items():
                    writer.add_scalar(f"{world}/{name}", value["value"], place)
        writer.add_text("fidelity", markdown(results))
