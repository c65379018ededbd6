"""audience-fit: fit users to an interaction log."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import tyro

from audience.reward_models.card import summary
from audience.reward_models.errors import LogError, TextEncoderError, UserModelError
from audience.reward_models.fit_settings import FitSettings
from audience.reward_models.fitting import fit, settings_of
from audience.reward_models.user_files import is_users


def main(arguments: list[str] | None = None) -> None:
    """Run the program; an error that the user can cure is one line and exit status 2."""
    try:
        settings = tyro.cli(FitSettings, args=arguments, prog="audience-fit")
        _run(settings)
    except (LogError, TextEncoderError, UserModelError, FloatingPointError, ValueError) as error:
        print(f"audience-fit: {error}", file=sys.stderr)
        sys.exit(2)


def _run(settings: FitSettings) -> None:
    log = settings.read_log()
    out = Path(settings.out)
    file = out / "settings.json"
    if (
        is_users(out)
        and file.is_file()
        and json.loads(file.read_text()) == settings_of(log, settings)
    ):
        print(f"reused: {out} was fitted with these settings", file=sys.stderr)
        print(summary(json.loads((out / "card.json").read_text())), file=sys.stderr)
        return
    fit(log, settings)


if __name__ == "__main__":
    main()
