"""Stems probed file by file: what was found is kept by the content of the files, so that nothing is heard twice.

A worker adds what it finds to a file of its own as soon as it has it; a run that was stopped goes on from there. The
next run gathers these files into one.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars
from numpy.typing import NDArray

from data_manifests.listing import ListedStem
from data_manifests.schema import RATE_HZ, ListedFile, Quarantined, Stem, StemFile
from tasks.digests import CHANGED, FileDigests, Map, stamp_of
from tasks.listening import BrokenFile, Heard, hear
from tasks.run_length import from_runs, to_runs
from tasks.whole_files import replacing

# Shapes: K numbers of a sketch.

PROBES, DIGESTS = "probes", "digests.json"
"""The store's folder in a workspace, and its file of digests."""

PROBER_VERSION = 1
"""Raised when a probe's meaning changes; what an older prober found is then forgotten."""

ACTIVE_DB = -50.0
"""A second is active if its RMS over both channels, with the gains of the stem's files, exceeds this level of full
scale (reference songs' activity is stated at the same level)."""

SILENT_DB = -80.0
"""A stem whose loudest second stays below this is silent: dither, or nothing. Between the two it is near-silent."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What the bytes of a stem's files say of it. `broken` is the number of the file that is no sound audio, or None.

    `sizes` are channels, rate in Hz and frames of each file; `runs` is the activity, see `tasks.run_length`.
    """

    key: str
    sizes: tuple[tuple[int, int, int], ...] = ()
    runs: tuple[int, ...] = ()
    flags: tuple[str, ...] = ()
    peak: float = 0.0
    loudness_lufs: float | None = None
    band_limit_hz: int | None = None
    sketch: bytes = b""
    broken: int | None = None
    reason: str | None = None

    @property
    def waveform_sketch(self) -> NDArray[np.float16]:
        """(K,); see `tasks.listening.Heard.unit_sketch`."""
        return np.frombuffer(self.sketch, dtype="<f2")


ROWS = polars.Schema(
    {  # type: ignore[arg-type]  # polars' stubs refuse nested types in a dict
        "key": polars.String,
        "sizes": polars.List(polars.List(polars.Int64)),
        "runs": polars.List(polars.Int32),
        "flags": polars.List(polars.String),
        "peak": polars.Float64,
        "loudness_lufs": polars.Float64,
        "band_limit_hz": polars.Int32,
        "sketch": polars.Binary,
        "broken": polars.Int32,
        "reason": polars.String,
    }
)


class ProbeStore:
    """A folder of all that was ever probed, and the digests of the files; without a folder it remembers nothing."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.digests = FileDigests(folder / DIGESTS if folder else None)
        self._probes: dict[str, Probe] = {}
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._load(folder)

    def get(self, key: str) -> Probe | None:
        return self._probes.get(key)

    def _load(self, folder: Path) -> None:
        merged = folder / f"probes-{PROBER_VERSION}.parquet"
        if merged.exists():
            self._probes.update((probe.key, probe) for probe in _merged(merged))
        parts = sorted(folder.glob(f"new-{PROBER_VERSION}-*.jsonl"))
        for part in parts:
            self._probes.update((probe.key, probe) for probe in _lines(part))
        if parts:
            rows = [asdict(self._probes[key]) for key in sorted(self._probes)]
            with replacing(merged) as file:
                polars.DataFrame(rows, schema=ROWS, orient="row").write_parquet(file)
            for part in parts:
                part.unlink()


def probe_stems(
    root: Path, stems: Sequence[ListedStem], store: ProbeStore, map_: Map = map
) -> list[tuple[Stem, Probe] | Quarantined]:
    """Each stem as its files are; Quarantined where one of them is no sound audio. Only what is unknown is read."""
    names = dict.fromkeys(file.path for stem in stems for file in stem.files)
    digests = store.digests.of(root, names, map_)
    store.digests.save()
    keys = [_key(stem.files, digests) for stem in stems]
    unknown: dict[str, tuple[ListedFile, ...]] = {}
    for stem, key in zip(stems, keys, strict=True):
        if isinstance(key, str) and store.get(key) is None:
            unknown.setdefault(key, stem.files)
    found = map_(partial(probe, str(root), str(store.folder) if store.folder else None), list(unknown.items()))
    probes = dict(zip(unknown, found, strict=True))
    return [
        _stem(stem, digests, probes.get(key) or store.get(key)) if isinstance(key, str) else _whole(stem, key)
        for stem, key in zip(stems, keys, strict=True)
    ]


def probe(root: str, folder: str | None, piece: tuple[str, tuple[ListedFile, ...]]) -> Probe:
    """One stem heard from beginning to end, and noted in the store's folder."""
    key, files = piece
    before = [stamp_of(f"{root}/{file.path}") for file in files]
    try:
        found = _found(key, hear(Path(root), files), files)
    except BrokenFile as error:
        found = Probe(key=key, broken=error.index, reason=error.reason)
    for index, file in enumerate(files):
        if stamp_of(f"{root}/{file.path}") != before[index]:
            return Probe(key=key, broken=index, reason=CHANGED)
    if folder is not None:
        line = json.dumps({**asdict(found), "sketch": base64.b85encode(found.sketch).decode()})
        part = Path(folder) / f"new-{PROBER_VERSION}-{socket.gethostname()}-{os.getpid()}.jsonl"
        with part.open("a", encoding="utf-8") as file_:
            file_.write(line + "\n")
    return found


def _found(key: str, heard: Heard, files: tuple[ListedFile, ...]) -> Probe:
    ends = (
        round(file.start_s * RATE_HZ) + -(-found.frames * RATE_HZ // found.rate_hz)
        for file, found in zip(files, heard.files, strict=True)
    )
    seconds = -(-max(ends) // RATE_HZ)
    levels_db = heard.levels_db[: max(seconds, 0)] or [-200.0]
    silence = _silence(levels_db)
    lufs = heard.loudness.lufs()
    marks = {
        silence or "": silence is not None,
        "mono": heard.is_mono,
        "clipped": heard.is_clipped,
        "band_limited": silence is None and heard.is_dull,
    }
    return Probe(
        key=key,
        sizes=tuple((file.channels, file.rate_hz, file.frames) for file in heard.files),
        runs=tuple(to_runs([level_db > ACTIVE_DB for level_db in levels_db])),
        flags=tuple(flag for flag, is_set in marks.items() if is_set),
        peak=round(heard.peak, 4),
        loudness_lufs=None if lufs is None else round(lufs, 2),
        band_limit_hz=heard.band_limit_hz,
        sketch=heard.unit_sketch.astype("<f2").tobytes(),
    )


def _silence(levels_db: Sequence[float]) -> str | None:
    loudest_db = max(levels_db)
    if loudest_db > ACTIVE_DB:
        return None
    return "near_silent" if loudest_db > SILENT_DB else "silent"


def _stem(
    listed: ListedStem, digests: dict[str, str | Quarantined], found: Probe | None
) -> tuple[Stem, Probe] | Quarantined:
    assert found is not None
    if found.broken is not None:
        return _whole(listed, Quarantined(path=listed.files[found.broken].path, reason=found.reason or ""))
    files = tuple(
        StemFile(**asdict(file), channels=channels, rate_hz=rate_hz, frames=frames, sha256=str(digests[file.path]))
        for file, (channels, rate_hz, frames) in zip(listed.files, found.sizes, strict=True)
    )
    stem = Stem(
        **{**vars(listed), "files": files, "flags": tuple(dict.fromkeys((*listed.flags, *found.flags)))},
        activity=from_runs(found.runs),
        peak=found.peak,
        loudness_lufs=found.loudness_lufs,
        band_limit_hz=found.band_limit_hz,
    )
    silence = next((flag for flag in ("silent", "near_silent") if flag in found.flags), None)
    if silence:
        reason = f"{silence.replace('_', '-')}: no second above {ACTIVE_DB:g} dB"
        stem = replace(stem, usable_as_target=False, usable_in_context=False, reason=reason)
    return stem, found


def _whole(stem: ListedStem, broken: Quarantined) -> Quarantined:
    """A stem of several files is left out whole: its sum without one of them is another sound."""
    if len(stem.files) == 1:
        return broken
    return replace(broken, reason=f"{broken.reason} (with it the whole stem {stem.id} of {len(stem.files)} files)")


def _key(files: tuple[ListedFile, ...], digests: dict[str, str | Quarantined]) -> str | Quarantined:
    """What determines a probe: the files' bytes and how they are added up."""
    parts: list[Any] = []
    for file in files:
        digest = digests[file.path]
        if isinstance(digest, Quarantined):
            return digest
        parts.append([digest, file.stream, file.side, file.gain_db, file.start_s])
    return hashlib.sha256(json.dumps([PROBER_VERSION, parts]).encode()).hexdigest()


def _merged(path: Path) -> list[Probe]:
    """The probes of earlier runs; none, with a warning, where the file is damaged: the stems are heard again."""
    try:
        rows = polars.read_parquet(path).cast(ROWS).select(list(ROWS)).iter_rows(named=True)  # type: ignore[arg-type]
        return [_probe_of(row) for row in rows]
    except (polars.exceptions.PolarsError, polars.exceptions.PanicException, OSError, TypeError) as error:
        logging.getLogger("stemwright").warning("%s is damaged (%s): every stem is heard again", path, error)
        return []


def _lines(part: Path) -> Iterator[Probe]:
    """The probes of a worker's file; the half line of one that was killed is passed over, and any other damage."""
    for line in part.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
            yield _probe_of({**row, "sketch": base64.b85decode(row["sketch"])})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue


def _probe_of(row: dict[str, Any]) -> Probe:
    sizes = tuple(tuple(size) for size in row["sizes"])
    return Probe(**{**row, "sizes": sizes, "runs": tuple(row["runs"]), "flags": tuple(row["flags"])})
