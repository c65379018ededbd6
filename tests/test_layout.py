"""The layout's promises: which folder may import which, and what is pinned."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ORDER = ["reward_models", "envs", "agents", "benchmarks"]
"""Each folder may import itself and those before it."""


def imported(source: str) -> set[str]:
    """Names of all modules that a source imports, wherever it does."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def broken_rules(folder: str, source: str) -> list[str]:
    allowed = ORDER[: ORDER.index(folder) + 1]
    broken = []
    for name in imported(source):
        first, *rest = name.split(".")
        if first in ORDER or (first == "audience" and rest[:1] and rest[0] not in allowed):
            broken.append(name)
    return broken


def test_the_rules_find_what_breaks_them() -> None:
    assert broken_rules("envs", "import audience.agents.base") == ["audience.agents.base"]
    assert broken_rules("envs", "from audience import agents") == ["audience.agents"]
    assert broken_rules("agents", "def f():\n  from envs import single") == ["envs.single"]
    assert broken_rules("agents", "from audience.envs import single") == []


@pytest.mark.parametrize("folder", ORDER)
def test_dependencies_point_one_way_and_no_import_is_bare(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    for path in files:
        assert not broken_rules(folder, path.read_text()), path


@pytest.mark.parametrize("folder", ORDER)
def test_every_folder_is_packaged_linked_and_importable(folder: str) -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert config["package-dir"][f"audience.{folder}"] == folder
    assert f"audience.{folder}" in config["packages"]
    assert (ROOT / ".types" / "audience" / folder).resolve() == ROOT / folder
    module = importlib.import_module(f"audience.{folder}")
    assert module.__file__ is not None and Path(module.__file__).parent == ROOT / folder
    assert all(hasattr(module, name) for name in getattr(module, "__all__", []))


@pytest.mark.parametrize("folder", ORDER)
def test_the_map_in_a_folders_readme_has_each_file_in_one_row(folder: str) -> None:
    map_ = (ROOT / folder / "README.md").read_text().split("## Which file")[1]
    rows = [re.findall(r"`([\w*]+\.py)`", line) for line in map_.splitlines()]
    found = [path.name for row in rows for name in row for path in (ROOT / folder).glob(name)]
    every = {path.name for path in (ROOT / folder).glob("*.py")} - {"__init__.py"}
    assert sorted(found) == sorted(every)


def test_registering_the_environments_imports_no_torch() -> None:
    code = "import sys, audience.envs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_direct_dependency_is_pinned_within_its_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    for requirement in wanted:
        name, least = re.fullmatch(r"([\w-]+)(?:\[\w+\])?(?:>=([\d.]+))?", requirement).groups()  # type: ignore[union-attr]
        if name == project["name"]:
            continue
        assert name in pinned, f"{name} is missing in constraints.txt"
        if least is not None:
            version = [int(part) for part in pinned[name].split(".")[: least.count(".") + 1]]
            assert version >= [int(part) for part in least.split(".")]
