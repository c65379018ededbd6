"""What an environment holds in memory, and what the machine has."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch

LEAVES = (str, bytes, int, float, type, FunctionType, MethodType, ModuleType)
"""Classes of things that hold no arrays."""

MEMORY_FILE, CPU_FILE = Path("/proc/meminfo"), Path("/proc/cpuinfo")
"""Where Linux tells its memory, and its processor."""


def held_bytes(thing: object, apart: object = None) -> int:
    """Bytes of all arrays and tensors that can be reached from a thing by attributes.

    Each memory counts once, whatever views of it there are, and whole.

    Args:
        thing: Where to begin.
        apart: What does not count, nor what can be reached through it alone.
    """
    sizes: dict[int, int] = {}
    seen = {id(apart)}
    waiting = [thing]
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, LEAVES):
            continue
        seen.add(id(thing))
        if isinstance(thing, torch.Tensor):
            storage = thing.untyped_storage()
            sizes[storage.data_ptr()] = max(storage.nbytes(), sizes.get(storage.data_ptr(), 0))
        elif isinstance(thing, np.ndarray):
            if isinstance(thing.base, (np.ndarray, torch.Tensor)):
                waiting.append(thing.base)  # a view of it
            else:
                at = thing.__array_interface__["data"][0]
                sizes[at] = max(thing.nbytes, sizes.get(at, 0))
        else:
            waiting.extend(_parts(thing))
    return sum(sizes.values())


def available_bytes() -> int | None:
    """Memory that is free or can be freed; None where the system does not say."""
    kibibytes = _told(MEMORY_FILE).get("MemAvailable", "").split()
    return 1024 * int(kibibytes[0]) if kibibytes else None


def machine(device: torch.device) -> dict[str, Any]:
    """What the figures were measured on: `cpu`, `cores`, `threads` of torch, `device`, versions."""
    cpu = _told(CPU_FILE).get("model name") or platform.processor() or platform.machine()
    cuda = device.type == "cuda"
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if cuda else device.type,
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
    }


def _told(file: Path) -> dict[str, str]:
    """The lines "key: value" of a file of the system's, the first of each key; none without it."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in reversed(lines) if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _parts(thing: Any) -> Iterable[object]:
    if isinstance(thing, dict):
        return [part for part in thing.values() if not isinstance(part, LEAVES)]
    if isinstance(thing, (list, tuple, set, frozenset)):
        return thing
    own = list(getattr(thing, "__dict__", {}).values())
    slots = [getattr(thing, name, None) for name in getattr(type(thing), "__slots__", ())]
    return own + slots
