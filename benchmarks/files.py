"""Files of a comparison, each written whole or not at all, and sessions kept on disk."""

from __future__ import annotations

import dataclasses
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from audience.agents.evaluation import Evaluation


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content`; a reader sees the old file or the new one."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_text(path: Path, content: str) -> None:
    """Write `content`; a reader sees the old file or the new one."""
    _replace(path, lambda stream: stream.write(content.encode()))


def read_json(path: Path) -> dict[str, Any] | None:
    """What `write_json` wrote, or None where there is nothing to be read."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def save_sessions(path: Path, sessions: Evaluation, record: dict[str, Any]) -> None:
    """Keep an evaluation with the record of what it depends on."""
    arrays = dataclasses.asdict(sessions)
    _replace(
        path,
        lambda stream: np.savez_compressed(stream, record=json.dumps(record), **arrays),
    )


def load_sessions(path: Path, record: dict[str, Any]) -> Evaluation | None:
    """The evaluation kept under this very record, or None."""
    try:
        # Of a damaged file, np.load given a path leaves the file open.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as kept:
            if json.loads(str(kept["record"])) != json.loads(json.dumps(record)):
                return None
            arrays: dict[str, Any] = {
                field.name: kept[field.name] for field in dataclasses.fields(Evaluation)
            }
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return None
    arrays |= {name: int(arrays[name]) for name in ("n_items", "n_users")}
    return Evaluation(**arrays)


def _replace(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            write(stream)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
