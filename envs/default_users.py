"""Where an environment's user model comes from: one given, a directory, or the default one."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from weakref import WeakValueDictionary

from audience.reward_models.users import UserModel, load_users

_LOADED: WeakValueDictionary[tuple[Path, int], UserModel] = WeakValueDictionary()
"""Models that an environment of this process still holds, by directory and its time of change."""


def shared_users(users: str | Path | UserModel) -> UserModel:
    """As `load_users`, but environments of one process share the model of a directory.

    Raises:
        UserModelError: The directory is missing, damaged or of another version.
        TypeError: `users` is neither a directory nor a user model.
    """
    if not isinstance(users, (str, Path)) or not Path(users).exists():
        return load_users(users)
    key = (Path(users).resolve(), Path(users).stat().st_mtime_ns)
    model = _LOADED.get(key)
    if model is None:
        model = _LOADED[key] = load_users(users)
    return model


def movielens_directory() -> Path:
    """Where the default user model lies, once it was fitted.

    In the user's cache directory, under a name that says the log, the preset and the version
    that fitted it.
    """
    from audience.reward_models.cache import cache_dir

    return cache_dir() / "users" / f"movielens-default-{version('audience')}"


def movielens_users() -> Path:
    """The directory of the default user model, fitted to MovieLens on first use."""
    directory = movielens_directory()
    if directory.exists():
        return directory
    from audience.reward_models.bert_users import BertUserModel  # torch only where needed
    from audience.reward_models.log import InteractionLog

    print(
        f"audience: no default users yet; fitting them to MovieLens, once, in {directory} "
        f"(some minutes on a CPU)",
        file=sys.stderr,
        flush=True,
    )
    directory.parent.mkdir(parents=True, exist_ok=True)
    BertUserModel.fit(InteractionLog.load("movielens"), out=directory)
    return directory
