"""Downloads that are checked against a known hash before anything reads them."""

from __future__ import annotations

import hashlib
import http.client
import shutil
import sys
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from audience.reward_models.errors import LogError

TIMEOUT_SECONDS = 30
"""Of silence on the line, not of the whole download."""


@dataclass(frozen=True)
class Digest:
    """A published hash of a file.

    Attributes:
        algorithm: "sha256", or "md5" where the publisher gives no better.
        hexdigest: The hash in hex.
    """

    algorithm: str
    hexdigest: str

    def check(self, content: bytes, origin: str) -> None:
        """Refuse content of another hash.

        Raises:
            LogError: The hash differs.
        """
        found = hashlib.new(self.algorithm, content, usedforsecurity=False).hexdigest()
        if found != self.hexdigest:
            raise LogError(
                f"{origin}: the {self.algorithm} hash must be {self.hexdigest}, got {found}: the "
                "file is damaged or of another issue. Remove it and provide the original"
            )


@dataclass(frozen=True)
class Download:
    """A file on the web.

    Attributes:
        url: Where it lies.
        digest: Its hash.
    """

    url: str
    digest: Digest

    def fetch(self, path: Path) -> None:
        """Download to `path`, which appears only when it is whole and its hash was checked.

        Raises:
            LogError: The hash differs.
            OSError: The address cannot be reached, or the download broke off.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        print(f"audience: downloading {self.url} to {path}", file=sys.stderr)
        # In the same directory, so that the final rename is atomic.
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".download-") as folder:
            whole = Path(folder, "whole")
            try:
                with (
                    urllib.request.urlopen(self.url, timeout=TIMEOUT_SECONDS) as response,
                    whole.open("wb") as out,
                ):
                    shutil.copyfileobj(response, out)
            except http.client.HTTPException as error:
                raise OSError(f"the download broke off: {error!r}") from error
            self.digest.check(whole.read_bytes(), self.url)
            whole.replace(path)
