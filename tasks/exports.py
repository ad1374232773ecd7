"""The scores as Parquet: the typed long table that is the source of truth, and Table 1, a row per arm and inputs."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints
from urllib.parse import quote

import polars as pl

from metrics.protocol import Protocol
from metrics.table import Score, ScoreTable
from tasks.columns import Column, scored_columns
from tasks.provenance import Provenance
from tasks.whole_files import replacing, write_whole

SCORES_SCHEMA = "stemwright.scores/1"
TABLE1_SCHEMA = "stemwright.table1/1"
"""Name and version of each file's columns; raised when a column is added, renamed or changes its meaning."""

_SCHEMA_KEY = "stemwright.schema"
_PROVENANCE_KEY = "stemwright.provenance"
_PROTOCOL_KEY = "stemwright.protocol"


def write_scores_parquet(path: Path, table: ScoreTable, provenance: Provenance) -> None:
    """Long format: one row per arm, inputs, metric and batch, with the whole protocol in columns beside each value.

    Values are raw. Protocol columns begin with `protocol_`, those of the run with `run_`. Equal tables give equal
    bytes.
    """
    run_columns = _run_columns(provenance)
    schema = _SCORE_COLUMNS | protocol_columns() | dict.fromkeys(run_columns, pl.String)
    constants = flat_protocol(table.protocol) | run_columns
    rows = [{name: getattr(score, name) for name in _SCORE_COLUMNS} | constants for score in table.scores]
    write_frame(path, pl.DataFrame(rows, schema=schema, orient="row"), file_metadata(SCORES_SCHEMA, table, provenance))


def read_scores_parquet(path: Path) -> ScoreTable:
    """The table a long file was written from; a file of another schema version is refused."""
    frame = read_frame(path, SCORES_SCHEMA)
    if frame.is_empty():
        raise ValueError(f"{path} holds no scores, so it has no protocol either: write it again from an evaluation")
    rows = frame.to_dicts()
    scores = tuple(Score(**{name: row[name] for name in _SCORE_COLUMNS}) for row in rows)
    return ScoreTable(protocol=_nested_protocol(rows[0]), scores=scores)


def write_table1_parquet(path: Path, table: ScoreTable, provenance: Provenance) -> None:
    """Wide format: a row per arm and inputs in Table 1's order; `<metric>_mean`, `<metric>_std`, null where absent."""
    write_frame(path, table1_frame(table), file_metadata(TABLE1_SCHEMA, table, provenance))


def table1_frame(table: ScoreTable) -> pl.DataFrame:
    """The wide table as a frame; see `write_table1_parquet`."""
    known = scored_columns(table)
    schema: dict[str, Any] = {"arm": pl.String, "inputs": pl.String}
    schema |= {f"{column.metric}_{part}": pl.Float64 for column in known for part in ("mean", "std")}
    rows = [_wide_row(table, known, arm, inputs) for arm, inputs in table.rows()]
    return pl.DataFrame(rows, schema=schema, orient="row")


def add_to_dataset(dataset: Path, scores: Path, *, run: str) -> Path:
    """Put a long file beside those of other runs, as `scale=…/seed=…/run=…/scores.parquet` below `dataset`.

    Readers that know hive partitions read all runs at once and have scale, seed and run as columns. A run of that
    name is replaced.
    """
    told = json.loads(pl.read_parquet_metadata(scores)[_PROVENANCE_KEY])
    keys = {"scale": told["run_scale"], "seed": told["run_seed"], "run": run}
    path = dataset.joinpath(*(f"{key}={quote(value, safe='')}" for key, value in keys.items()), scores.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, scores.read_bytes())
    return path


def flat_protocol(protocol: Protocol) -> dict[str, Any]:
    """Every field of the protocol as one scalar: `protocol_space_width`; a tuple as its JSON text."""
    return dict(_flat_values("protocol", protocol))


def protocol_columns() -> dict[str, Any]:
    """The type of each protocol column, from the declared type of its field rather than from any value."""
    return dict(_flat_types("protocol", Protocol))


_SCORE_COLUMNS = {
    "arm": pl.String,
    "inputs": pl.String,
    "metric": pl.String,
    "batch": pl.Int64,
    "value": pl.Float64,
    "candidates": pl.Int64,
}
_SCALARS = {str: pl.String, int: pl.Int64, float: pl.Float64, bool: pl.Boolean}


def _flat_values(prefix: str, record: Any) -> list[tuple[str, Any]]:
    pairs = [(f"{prefix}_{field.name}", getattr(record, field.name)) for field in fields(record)]
    return [flat for name, value in pairs for flat in _flat_value(name, value)]


def _flat_value(name: str, value: Any) -> list[tuple[str, Any]]:
    if is_dataclass(value):
        return _flat_values(name, value)
    return [(name, json.dumps(value) if isinstance(value, tuple) else value)]


def _flat_types(prefix: str, record_type: Any) -> list[tuple[str, Any]]:
    hints = get_type_hints(record_type)
    pairs = [(f"{prefix}_{field.name}", _present_type(hints[field.name])) for field in fields(record_type)]
    return [flat for name, type_ in pairs for flat in _flat_type(name, type_)]


def _flat_type(name: str, type_: Any) -> list[tuple[str, Any]]:
    if is_dataclass(type_):
        return _flat_types(name, type_)
    # Whatever is not a scalar is stored as text: a tuple as JSON.
    return [(name, _SCALARS.get(type_, pl.String))]


def _present_type(hint: Any) -> Any:
    """The type of a field when it is not absent: `int` for `int | None`."""
    if not isinstance(hint, UnionType):
        return hint
    return next(option for option in get_args(hint) if option is not NoneType)


def _nested_protocol(row: dict[str, Any]) -> Protocol:
    protocol: Protocol = _nested("protocol", Protocol, row)
    return protocol


def _nested(prefix: str, record_type: Any, row: dict[str, Any]) -> Any:
    hints = get_type_hints(record_type)
    return record_type(
        **{field.name: _typed(f"{prefix}_{field.name}", hints[field.name], row) for field in fields(record_type)}
    )


def _typed(name: str, hint: Any, row: dict[str, Any]) -> Any:
    present = _present_type(hint)
    if is_dataclass(present):
        return _nested(name, present, row)
    value = row[name]
    return tuple(json.loads(value)) if get_origin(present) is tuple and value is not None else value


def _run_columns(provenance: Provenance) -> dict[str, str]:
    return {
        "run_name": provenance.name,
        "run_scale": provenance.scale,
        "run_corpus": provenance.corpus,
        "run_corpus_digest": provenance.corpus_digest,
        "run_codec": provenance.codec,
        "run_seed": str(provenance.seed),
        "run_code_version": provenance.code_version,
        **{f"run_secondary_{name}_sha256": digest for name, digest in provenance.secondary.items()},
    }


def _wide_row(table: ScoreTable, known: tuple[Column, ...], arm: str, inputs: str) -> dict[str, Any]:
    row: dict[str, Any] = {"arm": arm, "inputs": inputs}
    for column in known:
        cell = table.cell(arm, inputs, column.metric)
        row[f"{column.metric}_mean"] = cell.mean if cell else None
        # One batch has no spread: null, so that nobody reads a spread of zero.
        row[f"{column.metric}_std"] = cell.std if cell and cell.batches > 1 else None
    return row


def file_metadata(schema: str, table: ScoreTable, provenance: Provenance) -> dict[str, str]:
    """What each file tells of itself: the version of its columns, the protocol and the run."""
    return {
        _SCHEMA_KEY: schema,
        _PROTOCOL_KEY: json.dumps(flat_protocol(table.protocol), sort_keys=True, ensure_ascii=False),
        _PROVENANCE_KEY: json.dumps(_run_columns(provenance), sort_keys=True, ensure_ascii=False),
    }


def write_frame(path: Path, frame: pl.DataFrame, metadata: dict[str, str]) -> None:
    """Write the file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        frame.write_parquet(file, compression="zstd", metadata=metadata)


def read_frame(path: Path, schema: str) -> pl.DataFrame:
    """A file of ours; one of another schema version is refused."""
    found = pl.read_parquet_metadata(path).get(_SCHEMA_KEY)
    if found != schema:
        raise ValueError(f"{path} has the schema {found or 'of some other program'}, this version reads {schema}")
    return pl.read_parquet(path)
