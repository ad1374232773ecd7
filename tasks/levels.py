"""How loud stems are: what tells silent, overdriven and wrongly levelled candidates from sound ones."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from metrics.mixing import SILENT_PEAK, integrated_lufs
from tasks.artifact import Artifact
from tasks.audio_bytes import decode_flac
from tasks.clap import HEARD_SAMPLES
from tasks.cluster import fan_out
from tasks.lost_shards import POISON, LostShard, record_lost
from tasks.runtime import Runtime
from tasks.shard_folder import shards_of
from tasks.shards import read_shard
from tasks.step import Step
from tasks.storage import name_of

LEVELS = "levels.json"


class Level(NamedTuple):
    """The largest magnitude of any sample, where 1 is full scale, and the loudness; -inf where nothing is heard."""

    peak: float
    lufs: float

    @classmethod
    def of(cls, audio_SN: np.ndarray) -> Level:
        """The level of what CLAP hears of a stem, as it is mixed: the mean of its channels."""
        heard_SN = audio_SN[:, :HEARD_SAMPLES]
        return cls(float(np.abs(heard_SN).max()), integrated_lufs(heard_SN.mean(axis=0), rate_hz=48_000))

    @property
    def silent(self) -> bool:
        """Whether nothing is heard, by the bounds of the mixtures."""
        return self.peak < SILENT_PEAK or math.isinf(self.lufs)


@dataclass(frozen=True, kw_only=True)
class MeasureLevels(Step):
    """The level of the target stem of every window: what a candidate for it should be about as loud as."""

    stage: ClassVar[str] = "levels"

    windows: Artifact

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        shards = shards_of(self.windows)
        found = fan_out(runtime, _levels, shards, title="measure levels")
        lost = record_lost(out, [shard for shard in found if isinstance(shard, LostShard)], pieces=len(shards))
        levels = {key: level for part in found if not isinstance(part, LostShard) for key, level in part.items()}
        told = {key: [level.peak, None if level.silent else level.lufs] for key, level in levels.items()}
        (out / LEVELS).write_text(json.dumps(told, indent=1), encoding="utf-8")
        return {"rows": len(levels), "lost": lost}


def _levels(shard: str) -> dict[str, Level] | LostShard:
    """The levels of one shard's targets, or why they cannot be had."""
    try:
        return {sample["__key__"]: Level.of(decode_flac(sample["target.flac"])) for sample in read_shard(shard)}
    except POISON as error:
        return LostShard.of(name_of(shard), error, shard)


def load_levels(artifact: Artifact) -> dict[str, Level]:
    """The level of each window's target stem, by the window's key."""
    told = json.loads((artifact.path / LEVELS).read_text(encoding="utf-8"))
    return {key: Level(peak, -math.inf if lufs is None else lufs) for key, (peak, lufs) in told.items()}
