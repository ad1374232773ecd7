"""What a folder of songs holds, found by reading every file once: tracks, stems, activity, and all that is left out."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars
from numpy.typing import NDArray

from data_manifests.folder import list_folder
from data_manifests.listing import ListedStem, ListedTrack
from data_manifests.schema import RATE_HZ, Catalogue, Quarantined, Stem, StemFile, Track
from data_manifests.splits import assign_splits
from tasks.audio import UnreadableAudio, probe, read_blocks
from tasks.whole_files import file_sha256, replacing, write_whole

# Shapes: F frames of a file at its own rate, S channels.

ACTIVE_DB = -50.0
"""A second is active if its RMS over all channels, after the stem's gain, exceeds this level of full scale
(reference songs' activity is stated at the same level)."""

SILENT_DB = -80.0
"""A stem whose loudest second stays below this is silent: dither, or nothing. Between the two it is near-silent."""

CLIPPED_RUN = 3
"""So many samples in a row at full scale are taken as clipping."""

CATALOGUE_FORMAT = 2
"""Raised when the fields of catalogue.json or catalogue.parquet change."""

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

STEM_ROWS = polars.Schema(
    {  # type: ignore[arg-type]  # polars' stubs refuse nested types in a dict
        "track_id": polars.String,
        "group_id": polars.String,
        "split": polars.String,
        "corpus": polars.String,
        "licence": polars.String,
        "track_tags": polars.List(polars.String),
        "track_s": polars.Float64,
        "stem_id": polars.String,
        "files": polars.List(FILE_ROW),
        "role": polars.String,
        "is_vocal": polars.Boolean,
        "usable_as_target": polars.Boolean,
        "usable_in_context": polars.Boolean,
        "reason": polars.String,
        "tags": polars.List(polars.String),
        "flags": polars.List(polars.String),
        "active_s": polars.Int32,
        "peak": polars.Float64,
    }
)
"""One row per stem of catalogue.parquet, for people; catalogue.json is what later stages read."""

Map = Callable[[Callable[[ListedStem], Stem | Quarantined], Sequence[ListedStem]], Iterable[Stem | Quarantined]]


def build_catalogue(root: Path | str, *, heldout_fraction: float, seed: int, map_: Map = map) -> Catalogue:
    """The catalogue of the corpus folder; `map_` may spread the reading of files over workers, in order.

    A file that cannot be read is quarantined; a song that gives no pair is left out; both are reported with the
    reason. Only a corpus with no usable song at all is an error.
    """
    root = Path(root)
    listing = list_folder(corpus_files(root), lambda path: (root / path).read_text(encoding="utf-8-sig"))
    listed = [stem for track in listing.tracks for stem in track.stems]
    probed = dict(zip(listed, map_(partial(probe_stem, str(root)), listed), strict=True))
    quarantined = tuple(item for item in probed.values() if isinstance(item, Quarantined))
    tracks: list[Track] = []
    unusable: list[Quarantined] = []
    for track in listing.tracks:
        stems = [probed[stem] for stem in track.stems]
        found = _track(track, [stem for stem in stems if isinstance(stem, Stem)])
        reason = _why_unusable(found.stems)
        if reason is None:
            tracks.append(found)
        else:
            unusable.append(Quarantined(path=track.id, reason=reason))
    if not tracks:
        raise ValueError(_nothing_usable(root, [*unusable, *quarantined]))
    splits = assign_splits((track.group_id for track in tracks), heldout_fraction, seed, _fixed_splits(listing.tracks))
    return Catalogue(
        tracks=tuple(replace(track, split=splits[track.group_id]) for track in tracks),
        quarantined=quarantined,
        left_out=(*unusable, *listing.left_out),
    )


def probe_stem(root: Path | str, listed: ListedStem) -> Stem | Quarantined:
    """The stem as its files are, each read once from beginning to end; Quarantined if one is no sound audio."""
    (file,) = listed.files
    path = Path(root) / file.path
    try:
        info = probe(path)
        heard = _listen(path, info.rate_hz, gain=10.0 ** (file.gain_db / 20.0))
    except UnreadableAudio as error:
        return Quarantined(path=file.path, reason=str(error).removeprefix(f"{path}: "))
    found = StemFile(
        **asdict(file),
        channels=info.channels,
        rate_hz=info.rate_hz,
        frames=info.frames,
        sha256=file_sha256(path),
    )
    silence = _silence(heard.levels_db)
    flags = [*listed.flags, silence] if silence else [*listed.flags]
    flags += ["mono"] if heard.is_mono else []
    flags += ["clipped"] if heard.is_clipped else []
    stem = Stem(
        **{**vars(listed), "files": (found,), "flags": tuple(flags)},
        activity=tuple(level_db > ACTIVE_DB for level_db in heard.levels_db),
        peak=round(heard.peak, 4),
    )
    return _unusable(stem, f"{silence.replace('_', '-')}: no second above {ACTIVE_DB:g} dB") if silence else stem


def write_catalogue(catalogue: Catalogue, folder: Path) -> None:
    """`catalogue.json`, canonical and complete, and `catalogue.parquet`, one row per stem, for people."""
    write_whole(folder / "catalogue.json", catalogue_to_json(catalogue).encode())
    catalogue_to_parquet(catalogue, folder / "catalogue.parquet")


def read_catalogue(folder: Path) -> Catalogue:
    """The catalogue of `write_catalogue`."""
    return catalogue_from_json((folder / "catalogue.json").read_text(encoding="utf-8"))


def catalogue_to_json(catalogue: Catalogue) -> str:
    """Canonical JSON: the same text for the same catalogue; activity is a text of 0 and 1 per stem."""
    record = {"format": CATALOGUE_FORMAT, **asdict(catalogue)}
    for track in record["tracks"]:
        for stem in track["stems"]:
            stem["activity"] = "".join("1" if active else "0" for active in stem["activity"])
    return json.dumps(record, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def catalogue_from_json(text: str) -> Catalogue:
    """The catalogue of `catalogue_to_json`; another format is refused."""
    record = json.loads(text)
    if record.get("format") != CATALOGUE_FORMAT:
        raise ValueError(f"a catalogue of format {record.get('format')}; expected {CATALOGUE_FORMAT}: build it again")
    return Catalogue(
        tracks=tuple(_track_of(track) for track in record["tracks"]),
        quarantined=tuple(Quarantined(**item) for item in record["quarantined"]),
        left_out=tuple(Quarantined(**item) for item in record["left_out"]),
    )


def catalogue_to_parquet(catalogue: Catalogue, path: Path) -> None:
    """One row per stem, in `STEM_ROWS`."""
    with replacing(path) as file:
        stem_rows(catalogue).write_parquet(file, metadata={"format": str(CATALOGUE_FORMAT)})


def stem_rows(catalogue: Catalogue) -> polars.DataFrame:
    """The catalogue as a table of stems."""
    rows = [_row(track, stem) for track in catalogue.tracks for stem in track.stems]
    return polars.DataFrame(rows, schema=STEM_ROWS, orient="row")


class _Heard(NamedTuple):
    """What one pass over a file finds; levels are those of whole or part seconds, after the stem's gain."""

    levels_db: tuple[float, ...]
    peak: float
    is_mono: bool
    is_clipped: bool


def _listen(path: Path, rate_hz: int, *, gain: float) -> _Heard:
    levels_db, peak, is_mono, is_clipped = [], 0.0, True, False
    for block_FS in read_blocks(path, rate_hz):
        power = float(np.mean(np.square(block_FS, dtype=np.float64))) * gain**2
        levels_db.append(10.0 * np.log10(max(power, 1e-20)))
        peak = max(peak, float(np.abs(block_FS).max()))
        is_mono = is_mono and bool(np.all(block_FS[:, :1] == block_FS))
        is_clipped = is_clipped or _is_clipped(block_FS)
    return _Heard(tuple(levels_db), peak, is_mono, is_clipped)


def _is_clipped(block_FS: NDArray[np.float32]) -> bool:
    full_FS = np.abs(block_FS) >= 32767 / 32768
    runs_FS = full_FS[CLIPPED_RUN - 1 :].copy()
    for shift in range(CLIPPED_RUN - 1):
        runs_FS &= full_FS[shift : shift + len(runs_FS)]
    return bool(runs_FS.any())


def _silence(levels_db: Sequence[float]) -> str | None:
    loudest_db = max(levels_db)
    if loudest_db > ACTIVE_DB:
        return None
    return "near_silent" if loudest_db > SILENT_DB else "silent"


def _track(listed: ListedTrack, stems: Sequence[Stem]) -> Track:
    """The song on one timeline: as long as its longest stem, the activity of shorter ones padded with silence."""
    frames = max((stem.end_samples for stem in stems), default=0)
    seconds = -(-frames // RATE_HZ)
    padded = [
        replace(stem, activity=stem.activity + (False,) * (seconds - len(stem.activity)))
        for stem in _without_copies(stems)
    ]
    return Track(
        id=listed.id,
        group_id=listed.group_id,
        split=listed.split or "train",  # decided for all songs together, in build_catalogue
        corpus=listed.corpus,
        licence=listed.licence,
        tags=listed.tags,
        frames=frames,
        stems=tuple(padded),
    )


def _fixed_splits(tracks: Sequence[ListedTrack]) -> dict[str, str]:
    """What the songs' own metadata says of their groups; a group in two splits would leak one into the other."""
    fixed: dict[str, str] = {}
    for track in tracks:
        if track.split is not None and fixed.setdefault(track.group_id, track.split) != track.split:
            raise ValueError(
                f"the group {track.group_id!r} is in two splits (see {track.id}); give it one, or two groups"
            )
    return fixed


def _without_copies(stems: Sequence[Stem]) -> list[Stem]:
    """Later stems with the bytes of an earlier one are flagged and unusable: a copy in the context gives it away.

    A vocal name on any of the copies makes the first one vocal, and so no target.
    """
    vocal = {_bytes_of(stem) for stem in stems if stem.is_vocal}
    first: dict[tuple[str, ...], Stem] = {}
    kept = []
    for stem in stems:
        original = first.setdefault(_bytes_of(stem), stem)
        if original is not stem:
            copy = replace(stem, flags=(*stem.flags, f"duplicate_of:{original.id}"))
            kept.append(_unusable(copy, f"the same bytes as {original.id}") if copy.usable_in_context else copy)
        elif _bytes_of(stem) in vocal and stem.usable_as_target:
            kept.append(replace(stem, is_vocal=True, usable_as_target=False, reason="the same bytes as a vocal stem"))
        else:
            kept.append(stem)
    return kept


def _bytes_of(stem: Stem) -> tuple[str, ...]:
    """What the stem is made of: equal for equal files, whatever their names."""
    return tuple(f"{file.sha256}/{file.stream}" for file in stem.files)


def _unusable(stem: Stem, reason: str) -> Stem:
    return replace(stem, usable_as_target=False, usable_in_context=False, reason=reason)


def _why_unusable(stems: Sequence[Stem]) -> str | None:
    """Why the song gives no pair, or None: it needs a target and another stem as its context."""
    usable = [stem for stem in stems if stem.usable_in_context]
    targets = [stem for stem in stems if stem.usable_as_target]
    if not targets:
        return f"no stem is usable as a target ({len(usable)} as context); expected a non-vocal, active one"
    if all(stem.id == targets[0].id for stem in usable):
        return f"one usable stem ({targets[0].id}): a context and a target are both needed"
    return None


def _nothing_usable(root: Path, reported: Sequence[Quarantined]) -> str:
    reasons = Counter(item.reason for item in reported).most_common(3)
    listed = "; ".join(f"{reason} ({count}x)" for reason, count in reasons)
    return (
        f"{root}: no usable song. Expected at least one folder with a non-vocal stem and another stem, both active. "
        f"Found: {listed}. Add songs, or correct roles in a song.json beside the stems."
    )


def corpus_files(root: Path) -> list[str]:
    if not root.is_dir():
        raise ValueError(f"{root}: there is no such corpus folder; expected one subfolder per song with its stems")
    found, seen = [], set()
    for folder, subfolders, names in os.walk(root, followlinks=True):  # songs are often links
        if os.path.realpath(folder) in seen:
            subfolders.clear()  # a link back up
            continue
        seen.add(os.path.realpath(folder))
        found += [(Path(folder) / name).relative_to(root).as_posix() for name in names]
    return sorted(found)


def _row(track: Track, stem: Stem) -> dict[str, Any]:
    return {
        **{name: value for name, value in asdict(stem).items() if name not in ("id", "activity")},
        "stem_id": stem.id,
        "active_s": sum(stem.activity),
        "track_id": track.id,
        "group_id": track.group_id,
        "split": track.split,
        "corpus": track.corpus,
        "licence": track.licence,
        "track_tags": track.tags,
        "track_s": round(track.frames / RATE_HZ, 3),
    }


def _track_of(record: dict[str, Any]) -> Track:
    stems = tuple(_stem_of(stem) for stem in record["stems"])
    return Track(**{**record, "tags": tuple(record["tags"]), "stems": stems})


def _stem_of(record: dict[str, Any]) -> Stem:
    activity = tuple(digit == "1" for digit in record["activity"])
    files = tuple(StemFile(**file) for file in record["files"])
    tags, flags = tuple(record["tags"]), tuple(record["flags"])
    return Stem(**{**record, "files": files, "tags": tags, "flags": flags, "activity": activity})
