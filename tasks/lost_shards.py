"""Shards of windows that cannot be worked through: left out and named, or an error where too many are.

Windows are checked when they are written, so a broken shard means damage since. The rest of the work does not wait for
its repair, and the result tells what it was made without: `lost_shards.json` is part of its digest.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tasks.artifact import Artifact
from tasks.audio import UnreadableAudio
from tasks.shards import BrokenShard
from tasks.storage import name_of
from tasks.whole_files import write_whole

LOST = "lost_shards.json"
LOST_SHARE = 0.01  # ours: ten thousand of a million windows; where there are fewer than 100 shards, not one may be lost


class UnusableWindow(ValueError):
    """A window that a model makes no finite numbers of."""


POISON = (BrokenShard, UnreadableAudio, UnusableWindow)
"""What is wrong with windows; any other error is the machine's or ours, and ends the run."""


@dataclass(frozen=True)
class LostShard:
    """The shard that was to be made, and why it was not. Without a folder: the same in every workspace."""

    shard: str
    reason: str

    @classmethod
    def of(cls, shard: str, source: str, error: Exception) -> LostShard:
        """What is told of `shard`, whose windows in `source` raised the error."""
        return cls(name_of(shard), str(error).replace(source, name_of(source)))

    def __str__(self) -> str:
        return f"{self.shard}: {self.reason}"


def record_lost(out: Path, lost: Sequence[LostShard], *, pieces: int) -> list[str]:
    """Name the lost shards in the result, if there are any, and return them as lines for its summary.

    Raises ValueError where more than LOST_SHARE of the pieces are lost.
    """
    if len(lost) > LOST_SHARE * pieces:
        raise ValueError(
            f"{len(lost)} of {pieces} shards of windows cannot be used, more than {LOST_SHARE:.0%}: "
            f"{'; '.join(map(str, lost[:5]))}. Check them with `stemwright windows verify`, have them cut again with "
            "`stemwright invalidate windows`, and run again: what is done is kept"
        )
    if lost:
        write_whole(out / LOST, json.dumps([asdict(shard) for shard in lost], indent=1).encode())
    return [str(shard) for shard in lost]


def lost_shards(artifact: Artifact) -> list[LostShard]:
    """What a finished result was made without."""
    path = artifact.path / LOST
    return [LostShard(**told) for told in json.loads(path.read_text(encoding="utf-8"))] if path.exists() else []
