"""The pair plan on disk: one Parquet row per pair, in row groups, so that a worker reads only the rows that it cuts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars
import pyarrow
import pyarrow.parquet
from numpy.typing import NDArray

from data_manifests.pairs import BLOCK_ROWS, Pair, PairPlan, PairRange, PairRows, style_note
from data_manifests.schema import Track
from tasks.fingerprint import canonical_json
from tasks.whole_files import replacing

PLAN_FORMAT = 1
"""Raised when the columns of pairs.parquet change."""

PAIRS_FILE = "pairs.parquet"
GROUP_ROWS = 10_000

PAIR_ROWS = polars.Schema(
    {  # type: ignore[arg-type]  # stubs refuse nested types
        "index": polars.Int64,
        "track_id": polars.String,
        "target": polars.String,
        "contexts": polars.List(polars.String),
        "start_samples": polars.Int64,
        "style_starts_samples": polars.List(polars.Int64),
        "style_note": polars.String,
        "context_gain_db": polars.Float64,
    }
)
"""The fields of `Pair`, in their order; samples count at 48 kHz."""


@dataclass(frozen=True, kw_only=True)
class PlannedPairs:
    """Some rows of a plan, and the length of its windows."""

    window_samples: int
    pairs: tuple[Pair, ...]


def write_plan(plan: PairPlan, rows: PairRange, folder: Path) -> None:
    """`pairs.parquet` with the rows of that range; the rule stands in its metadata. The same bytes for the same."""
    facts = {
        "format": str(PLAN_FORMAT),
        "split": rows.split,
        "first": str(rows.first),
        "stop": str(rows.stop),
        "window_samples": str(plan.rule.window_samples),
        "rule": canonical_json(plan.rule),
    }
    schema = polars.DataFrame(schema=PAIR_ROWS).to_arrow().schema.with_metadata(facts)
    names = _Names.of(plan.tracks)
    with (
        replacing(folder / PAIRS_FILE) as file,
        pyarrow.parquet.ParquetWriter(file, schema, compression="zstd") as writer,
    ):
        for first in range(rows.first, rows.stop, BLOCK_ROWS):
            block = plan.rows(first, min(first + BLOCK_ROWS, rows.stop))
            writer.write_table(names.table(block).cast(schema), row_group_size=GROUP_ROWS)


def read_plan(folder: Path, rows: PairRange) -> PlannedPairs:
    """The rows of that range. Raises ValueError where the plan is of another format or has not all of them."""
    path = folder / PAIRS_FILE
    facts = polars.read_parquet_metadata(path)
    if facts.get("format") != str(PLAN_FORMAT):
        raise ValueError(f"{path} is a plan of format {facts.get('format')}; this version reads {PLAN_FORMAT}")
    first, stop = int(facts["first"]), int(facts["stop"])
    if facts["split"] != rows.split or not first <= rows.first < rows.stop <= stop:
        raise ValueError(
            f"{path} holds rows {first} to {stop} of {facts['split']}, not {rows.first} to {rows.stop} of {rows.split}"
        )
    table = polars.scan_parquet(path).slice(rows.first - first, rows.stop - rows.first).collect()
    return PlannedPairs(
        window_samples=int(facts["window_samples"]),
        pairs=tuple(_pair(row) for row in table.iter_rows(named=True)),
    )


class _Names(NamedTuple):
    """The ids of a plan's tracks, and of all their stems one track after the other, to name rows that count them.

    `rank_S` orders stems by id: a row's contexts stand in that order.
    """

    tracks: pyarrow.Array
    stems: pyarrow.Array
    first_T: NDArray[np.int64]
    rank_S: NDArray[np.int64]

    @classmethod
    def of(cls, tracks: Sequence[Track]) -> _Names:
        """The names in these tracks."""
        stems = [stem.id for track in tracks for stem in track.stems]
        place = {name: rank for rank, name in enumerate(sorted(set(stems)))}
        return cls(
            tracks=pyarrow.array([track.id for track in tracks]),
            stems=pyarrow.array(stems),
            first_T=np.cumsum([0, *(len(track.stems) for track in tracks)]),
            rank_S=np.array([place[name] for name in stems]),
        )

    def table(self, rows: PairRows) -> pyarrow.Table:
        """The rows as a table, in the columns of `PAIR_ROWS`."""
        count, segments = rows.style_starts_samples_NK.shape
        first_N = self.first_T[rows.track_N]
        row_M = np.repeat(np.arange(count), np.diff(rows.context_first))
        stem_M = first_N[row_M] + rows.context_M
        stem_M = stem_M[np.lexsort((self.rank_S[stem_M], row_M))]
        notes = [
            style_note(shared, may_be_apart=may_be_apart)
            for shared, may_be_apart in zip(
                rows.style_shared_N.tolist(), rows.style_may_be_apart_N.tolist(), strict=True
            )
        ]
        columns = [
            pyarrow.array(rows.index_N),
            self.tracks.take(pyarrow.array(rows.track_N)),
            self.stems.take(pyarrow.array(first_N + rows.target_N)),
            _lists(rows.context_first, self.stems.take(pyarrow.array(stem_M))),
            pyarrow.array(rows.start_samples_N),
            _lists(np.arange(count + 1) * segments, pyarrow.array(rows.style_starts_samples_NK.ravel())),
            pyarrow.array(notes, type=pyarrow.string()),
            pyarrow.array(rows.context_gain_db_N),
        ]
        return pyarrow.table(dict(zip(PAIR_ROWS, columns, strict=True)))


def _lists(first: NDArray[np.int64], values: pyarrow.Array) -> pyarrow.Array:
    return pyarrow.LargeListArray.from_arrays(pyarrow.array(first), values)


def _pair(row: dict[str, Any]) -> Pair:
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
    return Pair(**values)


assert list(PAIR_ROWS) == [field.name for field in fields(Pair)]
