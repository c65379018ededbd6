"""Where downloads, item vectors and default user models are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_dir() -> Path:
    """The directory in AUDIENCE_CACHE, else the user's cache directory; it may not exist yet."""
    given = os.environ.get("AUDIENCE_CACHE")
    return Path(given).expanduser() if given else platformdirs.user_cache_path("audience")
