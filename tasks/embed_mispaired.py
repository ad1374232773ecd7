"""CLAP embeddings of mispaired mixtures: a context with the stem of another track, the lower bound of APA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from metrics.adherence import derangement
from tasks.artifact import Artifact
from tasks.clap import clap_and_cache_resident, clap_space
from tasks.cluster import fan_out, resident_model
from tasks.embed import Mixing, embedded_mixture, embedded_stem
from tasks.embeddings import Row, merge_parts, part_path, window_row, write_part
from tasks.lost_shards import POISON, LostShard, record_lost
from tasks.runtime import Runtime
from tasks.shard_folder import shards_of
from tasks.shards import read_members, read_shard
from tasks.step import Step
from tasks.storage import name_of


@dataclass(frozen=True, kw_only=True)
class EmbedMispaired(Step):
    """Every context with the target of a window of another track: `stem_NE` (that target) and `mixture_NWE`.

    Only whole shards are paired: a window of a lost one is nobody's partner.
    """

    stage: ClassVar[str] = "mispaired"
    version: ClassVar[int] = 2

    windows: Artifact
    clap: Artifact
    mixing: Mixing
    seed: int

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        sources, lost = whole_windows(self.windows, out, runtime)
        partner = derangement([row.track for _, row in sources], seed=self.seed)
        pairs = [(own, sources[other]) for own, other in zip(sources, partner, strict=True)]
        embed_mispaired(pairs, f"clap-{self.key()}", self.clap, self.mixing, out, runtime)
        return merge_parts(out, clap_space(self.clap)) | {"lost": lost}


Source = tuple[str, Row]
"""A window and the shard that holds it."""


def whole_windows(windows: Artifact, out: Path, runtime: Runtime) -> tuple[list[Source], list[str]]:
    """The windows of whole shards in the plan's order, and what is told of the lost ones."""
    shards = shards_of(windows)
    found = fan_out(runtime, _whole_rows, shards, title="read windows")
    lost = record_lost(out, [shard for shard in found if isinstance(shard, LostShard)], pieces=len(shards))
    whole = ((shard, rows) for shard, rows in zip(shards, found, strict=True) if not isinstance(rows, LostShard))
    return [(shard, row) for shard, rows in whole for row in rows], lost


def embed_mispaired(
    pairs: Sequence[tuple[Source, Source]], name: str, clap: Artifact, mixing: Mixing, out: Path, runtime: Runtime
) -> None:
    """Write parts of `stem_NE` and `mixture_NWE` of each first window's context with the second's target."""
    parts = max(1, len({shard for (shard, _), _ in pairs}))
    bounds = np.linspace(0, len(pairs), parts + 1).astype(int)
    pieces = [
        (name, mixing, pairs[first:stop], str(part_path(out, number)))
        for number, (first, stop) in enumerate(pairwise(bounds))
    ]
    resident = clap_and_cache_resident(name, clap, runtime)
    fan_out(runtime, _embed_mispaired, pieces, title="embed mispaired mixtures", resident=resident)


def _whole_rows(shard: str) -> list[Row] | LostShard:
    """The rows of a shard of windows whose digest is right, or why they cannot be had."""
    try:
        return [window_row(sample) for sample in read_shard(shard)]
    except POISON as error:
        return LostShard.of(name_of(shard), error, shard)


def _embed_mispaired(piece: tuple[str, Mixing, Sequence[tuple[Source, Source]], str]) -> None:
    name, mixing, pairs, part = piece
    clap, cache = resident_model(name)
    stems, mixtures = [], []
    for (own_shard, own), (other_shard, other) in pairs:
        context, stem = _member(own_shard, own.key, "context.flac"), _member(other_shard, other.key, "target.flac")
        stems.append(embedded_stem(clap, cache, stem))
        mixtures.append(embedded_mixture(clap, cache, context, stem, mixing))
    rows = [own for (_, own), _ in pairs]
    write_part(Path(part), {"stem_NE": np.stack(stems), "mixture_NWE": np.stack(mixtures)}, rows)


def _member(shard: str, key: str, member: str) -> bytes:
    ((_, members),) = read_members(shard, (member,), keys={key})
    return members[member]
