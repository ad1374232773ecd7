"""Shards of windows that cannot be worked through: left out and named, or an error where too many are.

Windows are checked when they are written, so a broken shard means damage since. The rest of the work does not wait for
its repair, and the result tells what it was made without: `lost_shards.json` is part of its digest. What is made of
such a result goes without the same windows, and tells it too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain
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
    def of(cls, shard: str, error: Exception, *sources: str) -> LostShard:
        """What is told of the shard of that name, which could not be made of these sources."""
        reason = str(error)
        for source in sources:
            reason = reason.replace(source, name_of(source))
        return cls(shard, reason)

    def __str__(self) -> str:
        return f"{self.shard}: {self.reason}"


def record_lost(out: Path, lost: Sequence[LostShard], *, pieces: int, sources: Sequence[Artifact] = ()) -> list[str]:
    """Name in the result the shards that it lost and those its sources were made without; lines for its summary.

    Raises ValueError where more than LOST_SHARE of the pieces are lost.
    """
    refuse_too_many(lost, pieces=pieces)
    return _named(out, [*lost_shards(*sources), *lost])


def refuse_too_many(lost: Sequence[LostShard], *, pieces: int) -> None:
    """Raise ValueError where more than LOST_SHARE of the pieces are lost."""
    if len(lost) > LOST_SHARE * pieces:
        raise ValueError(
            f"{len(lost)} of {pieces} shards of windows cannot be used, more than {LOST_SHARE:.0%}: "
            f"{'; '.join(map(str, lost[:5]))}. Check them with `stemwright windows verify`, have them cut again with "
            "`stemwright invalidate windows`, and run again: what is done is kept"
        )


def hand_on_lost(out: Path, *sources: Artifact | None) -> list[str]:
    """Name in the result what its sources were made without; lines for its summary."""
    return _named(out, lost_shards(*sources))


def lost_shards(*artifacts: Artifact | None) -> list[LostShard]:
    """What finished results were made without; None is none."""
    paths = [artifact.path / LOST for artifact in artifacts if artifact]
    told = [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()]
    return [LostShard(**shard) for shard in chain.from_iterable(told)]


def _named(out: Path, lost: Sequence[LostShard]) -> list[str]:
    """Each lost shard once, in the result's own file where there are any."""
    each = list(dict.fromkeys(lost))
    (out / LOST).unlink(missing_ok=True)  # an earlier try of the same stage may have lost what was repaired since
    if each:
        write_whole(out / LOST, json.dumps([asdict(shard) for shard in each], indent=1).encode())
    return [str(shard) for shard in each]
