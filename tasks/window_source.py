"""Windows for a stage to work through: those of a finished result, or of a plan, cut when they are needed.

Both give the same bytes, so that what is made of them has the same digest: a plan's windows go through the same FLAC.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from data_manifests.pairs import PairRange
from tasks.artifact import Artifact
from tasks.catalogue_file import read_tracks
from tasks.plan_file import read_plan
from tasks.shard_folder import shards_of
from tasks.shards import read_shard
from tasks.windows import cut_window, window_members

CUT_VERSION = 2
"""Raised when the meaning of a cut window changes."""


@dataclass(frozen=True, kw_only=True)
class PlannedWindows:
    """Rows first..stop of a pair plan, in pieces of `shard_rows`, kept nowhere (fused mode)."""

    corpus: Artifact
    catalogue: Artifact
    plan: Artifact
    rows: PairRange
    shard_rows: int
    version: int = CUT_VERSION


WindowSource = Artifact | PlannedWindows


@dataclass(frozen=True)
class StoredPiece:
    """One shard."""

    shard: str


@dataclass(frozen=True)
class PlannedPiece:
    """The rows of what would be one shard: an address that any worker can cut, with no more than their tracks."""

    corpus: Artifact
    catalogue: Artifact
    plan: Artifact
    rows: PairRange


WindowPiece = StoredPiece | PlannedPiece


def pieces_of(windows: WindowSource) -> list[WindowPiece]:
    """The pieces, in order, that workers take one at a time."""
    match windows:
        case Artifact():
            return [StoredPiece(shard) for shard in shards_of(windows)]
        case PlannedWindows(rows=rows, shard_rows=size):
            ranges = (
                PairRange(split=rows.split, first=first, stop=min(first + size, rows.stop))
                for first in range(rows.first, rows.stop, size)
            )
            return [PlannedPiece(windows.corpus, windows.catalogue, windows.plan, piece_rows) for piece_rows in ranges]


def samples_of(piece: WindowPiece) -> Iterator[dict[str, Any]]:
    """The windows of a piece one by one, as a shard holds them: `__key__`, three FLACs and the record."""
    match piece:
        case StoredPiece(shard):
            yield from read_shard(shard)
        case PlannedPiece(corpus, catalogue, plan, rows):
            planned = read_plan(plan.path, rows)
            tracks = read_tracks(catalogue.path, {pair.track_id for pair in planned.pairs})
            for pair in planned.pairs:
                window = cut_window(corpus.path, tracks[pair.track_id], pair, planned.window_samples)
                yield window_members(window)


def source_of(piece: WindowPiece) -> str:
    """Where the windows of a piece come from: their shard, or the folder of the recordings they are cut from."""
    match piece:
        case StoredPiece(shard):
            return shard
        case PlannedPiece(corpus):
            return corpus.location


def label_of(windows: WindowSource) -> str:
    """A source as people tell it from another."""
    match windows:
        case Artifact():
            return windows.path.name[:6]
        case PlannedWindows(rows=rows):
            return f"{rows.split} {rows.first}–{rows.stop}"
