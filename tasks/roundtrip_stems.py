"""Real stems through a codec, as candidates: what the codec alone loses, judged as an arm is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import torch

from models.codec import Codec
from tasks.artifact import Artifact
from tasks.audio_bytes import decode_flac
from tasks.cluster import Resident, fan_out, resident_model
from tasks.fit_codec import load_codec
from tasks.generate import decoded_candidate, keys_of
from tasks.lost_shards import POISON, LostShard, record_lost
from tasks.runtime import Runtime
from tasks.shard_folder import shards_of
from tasks.shards import read_shard, write_shard
from tasks.step import Step
from tasks.storage import name_of


@dataclass(frozen=True, kw_only=True)
class RoundtripStems(Step):
    """The targets of the first `count` windows, encoded and decoded, in shards of candidates."""

    stage: ClassVar[str] = "roundtrip"

    codec: Artifact
    windows: Artifact
    count: int
    seed: int

    def describe(self) -> str:
        return f"real stems through codec {self.codec.path.name[:6]}"

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        name = f"codec-{self.key()}"
        pieces = [(name, shard, take, self.seed, str(out / name_of(shard))) for shard, take in self._first()]
        resident = Resident(name, load_codec, self.codec.location)
        outcomes = fan_out(runtime, _roundtrip_shard, pieces, title=self.describe(), resident=resident)
        lost = record_lost(out, [outcome for outcome in outcomes if outcome], pieces=len(pieces))
        return {"windows": sum(take for _, _, take, _, _ in pieces), "lost": lost}

    def _first(self) -> Iterator[tuple[str, int]]:
        """The shards that hold the first windows, and how many of each."""
        left = self.count
        for shard in shards_of(self.windows):
            take = min(left, len(keys_of(shard)))
            if take:
                yield shard, take
            left -= take


def _roundtrip_shard(piece: tuple[str, str, int, int, str]) -> LostShard | None:
    """The first windows of one shard through the codec, or what is wrong with it."""
    name, shard, take, seed, destination = piece
    codec: Codec = resident_model(name)
    try:
        write_shard(destination, (_roundtrip(codec, sample, seed) for sample in islice(read_shard(shard), take)))
    except POISON as error:
        return LostShard.of(name_of(shard), error, shard)
    return None


def _roundtrip(codec: Codec, sample: dict[str, Any], seed: int) -> dict[str, Any]:
    with torch.inference_mode():
        clip = codec.encode(torch.from_numpy(decode_flac(sample["target.flac"]))[None])
    return decoded_candidate(codec, clip.latent_BCT.numpy(), sample["__key__"], clip.samples, seed)
