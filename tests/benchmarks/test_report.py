from __future__ import annotations

import html as entities
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from audience.benchmarks.report import report_of, write_report
from audience.benchmarks.report_answer import answer
from audience.benchmarks.report_blocks import Estimate, number
from audience.benchmarks.report_page import html

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

VOID = {"meta", "link"}


class Page(HTMLParser):
    """Checks that tags close in order; keeps the text, and what elements point to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text, self.tags = "", []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("href", "src", "srcset", "data", "action", "xlink:href"):
                self.links.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text += data


def figures(mean: float, half: float = 0.5, **more: Any) -> dict[str, Any]:
    return {"mean": mean, "low": mean - half, "high": mean + half, **more}


def agent(kind: str, mean: float, gap: float | None = None) -> dict[str, Any]:
    returns = figures(mean, iqm=mean + 0.03, per_seed=[mean])
    difference = None if gap is None else figures(gap, 0.2)
    return {
        "kind": kind,
        "simulator": {"return": returns, "difference_to_best_cf": difference},
        "session_length": mean + 4,
        "like_rate": 0.61,
        "coverage": 0.17,
        "gini": 0.93,
    }


def plain() -> dict[str, Any]:
    """What compare writes where there are no judges."""
    agents = {
        "random": agent("reference", 1.67, -12.64),
        "ease": agent("cf", 14.31),
        "ppo": agent("rl", 13.85, -0.46),
    }
    agents["ease"]["simulator"]["validation_return"] = 14.11
    return {
        "agents": agents,
        "best_cf": "ease",
        "judges": None,
        "verdict": {"rl": None, "cf": None, "difference": None, "sentence": "No verdict: none."},
        "settings": {"preset": "demo", "seeds": 1, "agents": list(agents), "steps": 300000},
        "log": {"name": "movielens", "users": 671, "items": 9066, "events": 100004},
        "versions": {"audience": "0.1.0"},
        "complete": True,
    }


def judged() -> dict[str, Any]:
    """All that DESIGN 6 names."""
    results = plain()
    results["agents"]["maskable_ppo"] = agent("rl", 15.02, 0.71)
    results["agents"]["thompson"] = agent("bandit", 11.4, -2.9)
    for place, one in enumerate(results["agents"].values()):
        per_seed = [7.0 + place + 0.1 * seed for seed in range(3)]
        one["judge_als"] = {"return": figures(7.1 + place, 0.4, per_seed=per_seed)}
        one["judge_boosted"] = {"return": figures(6.2 + place, 0.4)}
        one["replay"] = {"return": figures(0.6 + place / 50, 0.02)}
        one["inner_judge"] = {"return": figures(5.25 + place, 0.3)}
        one |= {"novelty": 9.87, "exploitation_gap": 4.21}
        one["segments"] = {"new_users": {"judge_als": figures(5.5 + place)}, "rare_items": 3.25}
    results["judges"] = {
        "als": {"competence": {"competent": True, "sentence": "competent: NLL"}, "kin": ["ease"]},
        "boosted": {"competence": {"ppo": {"competent": False, "sentence": "not: NDCG"}}},
    }
    results["verdict"] = {
        "rl": "maskable_ppo",
        "cf": "ease",
        "sentence": "maskable_ppo beats ease.",
        "difference": {"judge_als": figures(0.83), "replay": figures(0.012, 0.02)},
    }
    results["assumption_grid"] = [
        {
            "acceptance": acceptance,
            "leave": leave,
            "popularity_discount": discount,
            "difference": {"judge_als": figures(2 * acceptance - discount, 0.25)},
        }
        for acceptance in (0.2, 0.4, 0.6)
        for leave in ("low", "default", "high")
        for discount in (0.0, 0.5, 1.0)
    ]
    results["diversity_front"] = [
        {
            "agent": name,
            "kind": kind,
            "weight": weight,
            "judge_als": {
                "return": figures(8.0 - 0.1 * weight**2),
                "diversity": 0.5 + 0.02 * weight,
                "difference": figures(-0.1 * weight**2) if weight else None,
            },
        }
        for name, kind in (("maskable_ppo", "rl"), ("ease", "cf"))
        for weight in (0.0, 0.5, 4.0)
    ]
    results["rank_correlation"] = {"simulator_replay": {"kendall": figures(0.77, 0.1)}}
    return results


def card() -> dict[str, Any]:
    difference = {"rmse": figures(-0.0187, 0.009, against="item_knn")}
    return {
        "log": "movielens",
        "feedback": {"model": {"rmse": 0.8575}, "difference": difference},
        "simulation": {"discriminator_auc": 0.848, "feedback_tv": 0.101},
        "assumptions": ["leave: a <constant> chance"],
    }


def comparison(directory: Path, results: dict[str, Any]) -> Path:
    """A directory as compare leaves it, with two seeds of learning curves of ppo."""
    from torch.utils.tensorboard import SummaryWriter

    (directory / "results.json").write_text(json.dumps(results))
    for seed in range(2):
        with SummaryWriter(str(directory / f"seed-{seed}" / "ppo")) as writer:
            for step in (100, 200, 300):
                writer.add_scalar("evaluation/return", step / 100 + seed, step)
                writer.add_scalar("train/loss", 99.0, step)
    return directory


def test_a_page_of_what_is_known_without_judges(tmp_path: Path) -> None:
    path = write_report(comparison(tmp_path, plain()))
    page = Page(path.read_text())
    assert path == tmp_path / "report.html"
    for wanted in ("random", "ease", "ppo", "1.67", "14.31", "13.85", "−0.46", "[−0.66, −0.26]"):
        assert wanted in page.text
    assert "100,004 events" in page.text and "300000" in page.text
    assert "ppo falls short of ease, the best collaborative filter (−0.46" in page.text
    assert "No judge has valued the agents" in page.text and "One seed only" in page.text
    assert "The worlds side by side" not in page.text  # there is one
    assert "How they learned" in page.text
    assert "ppo: 3.50" in page.text and "99" not in page.text  # seeds end at 3 and 4
    said = (tmp_path / "report.md").read_text()
    assert "14.31" in said and "figures/returns_simulator.png" in said
    names = {file.name for file in (tmp_path / "figures").iterdir()}
    wanted_names = {
        f"{n}.{k}" for n in ("returns_simulator", "evaluation_return") for k in ("png", "svg")
    }
    assert names == wanted_names
    for drawing in (tmp_path / "figures").glob("*.svg"):
        ElementTree.parse(drawing)


def test_all_parts_appear_with_their_keys() -> None:
    report = report_of(judged(), {"0": card(), "1": card()})
    page = Page(html(report))
    assert report.answer == "maskable_ppo beats ease."
    assert [section.title for section in report.sections] == [
        "The agents",
        "What is known",
        "The worlds side by side",
        "How far to trust it",
        "Where the answer turns with the assumptions",
        "What variety costs",
        "For whom",
        "Settings and versions",
    ]
    for wanted in (
        "14.31 [13.81, 14.81]",
        "8.10† [7.70, 8.50]",
        "0.83",
        "0.77",
        "9.87",
        "4.21",
        "3.25",
        "5.25",
    ):
        assert wanted in page.text
    assert (
        "0.858" in page.text and "−0.019 [−0.028, −0.010]" in page.text and "item-KNN" in page.text
    )
    # 2 a - d is .4, -.1, -.6; .8, .3, -.2; 1.2, .7, .2, each three times, give or take .25.
    assert "of 27 settings RL is ahead in 15, behind in 3, and not to be told" in page.text
    assert len(page.ids) == len(set(page.ids))


@pytest.mark.parametrize("key", sorted(judged()))
def test_any_key_may_be_missing(key: str) -> None:
    results = judged()
    del results[key]
    page = Page(html(report_of(results)))
    assert page.tags.count("h1") == 1 and page.tags.count("h2") >= 1
    Page(html(report_of(results | {key: None})))


def test_nothing_is_known_of_nothing() -> None:
    assert answer({}) == "Nothing is known yet: no agent has met a test user."
    Page(html(report_of({})))
    results = plain()
    del results["agents"]["ppo"]
    assert answer(results) == "There is no verdict: no RL agent has been compared."
    for one in results["agents"].values():
        one["simulator"] = None
    Page(html(report_of(results)))


@pytest.mark.parametrize(
    ("gap", "verb"), [(0.5, "beats"), (-0.5, "falls short of"), (0.1, "cannot be told from")]
)
def test_the_answer_goes_by_the_interval(gap: float, verb: str) -> None:
    results = plain()
    results["agents"]["ppo"] = agent("rl", 14, gap)
    said = answer(results)
    assert said.startswith("There is no verdict yet") and f"ppo {verb} ease" in said
    assert said.endswith("what real users would say is not known.")


def test_names_are_escaped(tmp_path: Path) -> None:
    evil = '<script src="x">alert("1")</script>'
    results = judged()
    results["agents"][evil] = agent("rl", 20.0, 3.0)
    results["best_cf"] = "ease"
    results["log"]["name"] = f"{evil}\x0b"
    results["verdict"]["sentence"] = f"{evil} wins"
    results["judges"][evil] = {"competence": {evil: {"competent": True, "sentence": evil}}}
    results["assumption_grid"][0][evil] = evil
    results["settings"][evil] = evil
    results["versions"] = {evil: evil}
    comparison(tmp_path, results)
    text = write_report(tmp_path).read_text()
    page = Page(text)
    assert "script" not in page.tags and "alert" in page.text
    assert "<script" not in text and "\x0b" not in text
    for drawing in (tmp_path / "figures").glob("*.svg"):
        ElementTree.parse(drawing)
    assert "<script" not in (tmp_path / "report.md").read_text().replace("\\<", "")


def test_the_page_asks_for_nothing_from_outside(tmp_path: Path) -> None:
    text = write_report(comparison(tmp_path, judged())).read_text()
    assert "http://" not in text and "https://" not in text
    assert not re.search(r"@import|url\(", text)
    links = Page(text).links
    assert links and all(link.startswith("#") or link == "data:," for link in links)


def test_a_report_twice_is_the_same_and_leaves_no_old_figures(tmp_path: Path) -> None:
    comparison(tmp_path, judged())
    write_report(tmp_path)
    first = {f.name: f.read_bytes() for f in tmp_path.rglob("*") if f.suffix in (".html", ".svg")}
    write_report(tmp_path)
    assert first == {f.name: f.read_bytes() for f in tmp_path.rglob("*") if f.name in first}
    comparison(tmp_path, plain())
    write_report(tmp_path)
    assert not (tmp_path / "figures" / "verdict.svg").exists()


def test_a_directory_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"directory must hold the results\.json .* got .*run audience"
    ):
        write_report(tmp_path)


def test_numbers_and_estimates() -> None:
    assert number(-0.004) == "0.00" and number(-1234.5, 1) == "−1,234.5"
    assert number(0.25, signed=True) == "+0.25"
    assert str(Estimate(1.0, 0.5, 1.5, signed=True)) == "+1.00 [+0.50, +1.50]"
    assert str(Estimate(1.0)) == "1.00"


@pytest.mark.skipif(
    BROWSER is None, reason="no chromium or chrome is installed: apt-get install chromium"
)
@pytest.mark.parametrize("width", [380, 1280])
def test_a_browser_shows_it_without_scrolling_sideways(tmp_path: Path, width: int) -> None:
    page = write_report(comparison(tmp_path, judged())).read_text()
    frame = tmp_path / "frame.html"
    # A window has a least width; a frame in it has none. The script tells what the page asks for.
    frame.write_text(
        f'<!DOCTYPE html><title>-</title><iframe id="f" width="{width}" height="800" '
        f'style="border:0" srcdoc="{entities.escape(page)}"></iframe><script>'
        f"addEventListener('load', () => {{ const w = document.getElementById('f').contentWindow,"
        f"d = w.document.documentElement; document.title = JSON.stringify([d.scrollWidth,"
        f"d.clientWidth, w.performance.getEntriesByType('resource').length]) }})</script>"
    )
    assert BROWSER is not None
    run = subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--enable-logging=stderr",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--window-size=1400,900",
            "--dump-dom",
            frame.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    said = re.search(r"<title>(.*?)</title>", run.stdout)
    assert said is not None
    scroll, client, asked = json.loads(entities.unescape(said[1]))
    assert scroll <= client <= width and asked == 0
    assert "CONSOLE" not in run.stderr


def test_the_best_of_several_rl_agents_is_said_to_be_flattered() -> None:
    results = plain()
    assert "flatters" not in Page(html(report_of(results))).text
    results["agents"]["a2c"] = agent("rl", 13.0, -1.3)
    assert "ppo, the best of 2 RL agents there," in answer(results)
    assert "flatters" in Page(html(report_of(results))).text
