"""The catalogue on disk: one Parquet row per stem, and beside it what was left out and quarantined."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import polars

from data_manifests.schema import Catalogue, Quarantined, Stem, StemFile, Track
from tasks.run_length import from_runs, to_runs
from tasks.whole_files import replacing, write_whole

CATALOGUE_FORMAT = 3
"""Raised when the columns of catalogue.parquet or the fields of left-out.json change."""

ROWS_FILE, LEFT_OUT_FILE = "catalogue.parquet", "left-out.json"

FILE_ROW = polars.Struct(
    {
        "path": polars.String,
        "stream": polars.Int32,
        "side": polars.String,
        "gain_db": polars.Float64,
        "start_s": polars.Float64,
        "channels": polars.Int32,
        "rate_hz": polars.Int32,
        "frames": polars.Int64,
        "sha256": polars.String,
    }
)

TRACK_COLUMNS = {
    "track_id": polars.String,
    "group_id": polars.String,
    "split": polars.String,
    "corpus": polars.String,
    "licence": polars.String,
    "track_tags": polars.List(polars.String),
    "track_frames": polars.Int64,
    "track_labels": polars.List(polars.Struct({"name": polars.String, "value": polars.String})),
}

STEM_COLUMNS = {
    "stem_id": polars.String,
    "files": polars.List(FILE_ROW),
    "role": polars.String,
    "is_vocal": polars.Boolean,
    "usable_as_target": polars.Boolean,
    "usable_in_context": polars.Boolean,
    "reason": polars.String,
    "tags": polars.List(polars.String),
    "flags": polars.List(polars.String),
    "activity_runs": polars.List(polars.Int32),
    "peak": polars.Float64,
    "loudness_lufs": polars.Float64,
    "band_limit_hz": polars.Int32,
}

STEM_ROWS = polars.Schema({**TRACK_COLUMNS, **STEM_COLUMNS})  # type: ignore[arg-type]  # stubs refuse nested types
"""`activity_runs`: seconds of silence, then of sound, and so on in turn. `track_frames` counts at 48 kHz."""

ROWS_AT_ONCE = 20_000
GROUP_ROWS = 8_192  # a reader of some tracks holds one group at a time


def write_catalogue(catalogue: Catalogue, folder: Path) -> None:
    """`catalogue.parquet`, all of the tracks, and `left-out.json`, all that is in none; the same bytes for the same."""
    reported = {
        "format": CATALOGUE_FORMAT,
        "quarantined": [asdict(item) for item in catalogue.quarantined],
        "left_out": [asdict(item) for item in catalogue.left_out],
    }
    text = json.dumps(reported, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
    write_whole(folder / LEFT_OUT_FILE, text.encode(errors="backslashreplace"))
    with replacing(folder / ROWS_FILE) as file:
        stem_rows(catalogue).write_parquet(file, row_group_size=GROUP_ROWS, metadata={"format": str(CATALOGUE_FORMAT)})


def read_catalogue(folder: Path) -> Catalogue:
    """The catalogue of `write_catalogue`. Raises ValueError for another format, and for what is damaged."""
    with _named(folder):
        return _read(folder)


def _read(folder: Path) -> Catalogue:
    path = folder / ROWS_FILE
    _check_format(path, polars.read_parquet_metadata(path).get("format"))
    reported = json.loads((folder / LEFT_OUT_FILE).read_text(encoding="utf-8"))
    _check_format(folder / LEFT_OUT_FILE, str(reported.get("format")))
    return Catalogue(
        tracks=tuple(_tracks(path)),
        quarantined=tuple(Quarantined(**item) for item in reported["quarantined"]),
        left_out=tuple(Quarantined(**item) for item in reported["left_out"]),
    )


def read_tracks(folder: Path, ids: Collection[str]) -> dict[str, Track]:
    """The tracks of those ids alone, by id; no more of the catalogue is in memory than they and one row group."""
    path = folder / ROWS_FILE
    with _named(folder):
        _check_format(path, polars.read_parquet_metadata(path).get("format"))
        return {track.id: track for track in _tracks(path, ids)}


@contextmanager
def _named(folder: Path) -> Iterator[None]:
    """Whatever damaged files lead polars, JSON or a row to, as a ValueError that names the folder."""
    damage = (polars.exceptions.PolarsError, polars.exceptions.PanicException)
    try:
        yield
    except (*damage, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"the catalogue in {folder} cannot be read ({error}); build it again") from error


def stem_rows(catalogue: Catalogue) -> polars.DataFrame:
    """The catalogue as a table of stems, in `STEM_ROWS`."""
    rows = [(*_track_row(track), *_stem_row(stem)) for track in catalogue.tracks for stem in track.stems]
    return polars.DataFrame(rows, schema=STEM_ROWS, orient="row")


def _check_format(path: Path, found: str | None) -> None:
    if found != str(CATALOGUE_FORMAT):
        raise ValueError(
            f"{path} is a catalogue of format {found}; this version reads {CATALOGUE_FORMAT}: build it again, which "
            "reads no audio that is known from before"
        )


def _track_row(track: Track) -> tuple[Any, ...]:
    labels = [{"name": name, "value": value} for name, value in track.labels]
    return track.id, track.group_id, track.split, track.corpus, track.licence, track.tags, track.frames, labels


def _stem_row(stem: Stem) -> tuple[Any, ...]:
    values = {**vars(stem), "stem_id": stem.id, "activity_runs": to_runs(stem.activity)}
    return tuple([vars(file) for file in stem.files] if name == "files" else values[name] for name in STEM_COLUMNS)


def _tracks(path: Path, ids: Collection[str] | None = None) -> Iterator[Track]:
    """The tracks in order; rows are turned into stems piece by piece, as Python's own lists of them take most room."""
    with _without_collection():
        for track, rows in groupby(_rows(path, ids), key=itemgetter(slice(0, len(TRACK_COLUMNS)))):
            track_id, group_id, split, corpus, licence, tags, frames, labels = track
            yield Track(
                id=track_id,
                group_id=group_id,
                split=split,
                corpus=corpus,
                licence=licence,
                tags=tuple(tags),
                frames=frames,
                labels=tuple((label["name"], label["value"]) for label in labels),
                stems=tuple(_stem(row[len(TRACK_COLUMNS) :]) for row in rows),
            )


def _rows(path: Path, ids: Collection[str] | None) -> Iterator[tuple[Any, ...]]:
    table = polars.scan_parquet(path)
    schema = table.collect_schema()
    if schema != STEM_ROWS:
        raise ValueError(f"{path}: columns {list(schema)}; expected {list(STEM_ROWS)}: build the catalogue again")
    wanted = table if ids is None else table.filter(polars.col("track_id").is_in(sorted(ids)))
    rows = wanted.collect(engine="streaming")
    for piece in rows.iter_slices(ROWS_AT_ONCE):
        yield from zip(*(column.to_list() for column in piece), strict=True)


def _stem(values: tuple[Any, ...]) -> Stem:
    (stem_id, files, role, is_vocal, target, context, reason, tags, flags, runs, peak, lufs, band_limit) = values
    return Stem(
        id=sys.intern(stem_id),
        files=tuple(_file(file) for file in files),
        role=sys.intern(role),
        is_vocal=is_vocal,
        usable_as_target=target,
        usable_in_context=context,
        reason=reason if reason is None else sys.intern(reason),
        tags=tuple(sys.intern(tag) for tag in tags),
        flags=tuple(sys.intern(flag) for flag in flags),
        activity=from_runs(runs),
        peak=peak,
        loudness_lufs=lufs,
        band_limit_hz=band_limit,
    )


def _file(values: dict[str, Any]) -> StemFile:
    return StemFile(**{**values, "side": sys.intern(values["side"])})


@contextmanager
def _without_collection() -> Iterator[None]:
    """Millions of objects that live on: looking for garbage among them would take most of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


assert set(STEM_COLUMNS) == {field.name for field in fields(Stem)} - {"id", "activity"} | {"stem_id", "activity_runs"}
