"""The pair plan on disk: one Parquet row per pair, in row groups, so that a worker reads only the rows that it cuts."""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any

import polars
import pyarrow.parquet

from data_manifests.pairs import Pair, PairPlan, PairRange
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
    pairs = plan.pairs(rows.first, rows.stop)
    with (
        replacing(folder / PAIRS_FILE) as file,
        pyarrow.parquet.ParquetWriter(file, schema, compression="zstd") as writer,
    ):
        while group := [astuple(pair) for pair in islice(pairs, GROUP_ROWS)]:
            writer.write_table(polars.DataFrame(group, schema=PAIR_ROWS, orient="row").to_arrow().cast(schema))


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


def _pair(row: dict[str, Any]) -> Pair:
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
    return Pair(**values)


assert list(PAIR_ROWS) == [field.name for field in fields(Pair)]
