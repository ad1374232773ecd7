"""A finished result: a directory named by its key, with a digest of what it holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A finished directory of one stage.

    `digest` is that of the contents and is all that enters a fingerprint: the same bytes under another key or in
    another place are the same input. `key` is None for what the user brought along (a folder of stems, a
    checkpoint). An artifact without a digest is only planned: nothing has been built yet.
    """

    stage: str
    key: str | None
    location: str
    digest: str | None

    @property
    def path(self) -> Path:
        return Path(self.location)

    @property
    def planned(self) -> bool:
        """Whether this is a promise of `stemwright plan` rather than a result."""
        return self.digest is None


def planned(stage: str) -> Artifact:
    """A promise of a result whose key cannot be known before what it depends on is built."""
    return Artifact(stage=stage, key=None, location="", digest=None)
