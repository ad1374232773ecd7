"""`stemwright catalogue`: what a corpus holds, and what was left out of it and why, file by file."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from data_manifests.schema import RATE_HZ, Catalogue, Stem, Track
from flows import preparation
from flows.request import StudyRequest
from flows.session import session
from tasks.catalogue_file import read_catalogue
from tasks.store import Store


def catalogue_lines(request: StudyRequest) -> Iterator[str]:
    """A line for every song, stem and file that was left out, and the sums; the catalogue is kept for the next run."""
    ready = session(request)
    make = partial(Store(ready.runtime.root / "artifacts").build, runtime=ready.runtime)
    result = preparation.catalogue(ready.study, preparation.corpus(ready.study, ready.folder, make), make)
    catalogue = read_catalogue(result.path)
    for track in catalogue.tracks:
        yield _song(track)
        yield from map(_stem, track.stems)
    for item in (*catalogue.quarantined, *catalogue.left_out):
        yield f"left out  {item.path}: {item.reason}"
    yield _sums(catalogue)
    yield f"catalogue {result.path / 'catalogue.parquet'}"


def _song(track: Track) -> str:
    length = f"{track.frames / RATE_HZ:.1f} s"
    return f"{track.id}  ({track.corpus}, {track.split}, {length}, group {track.group_id}, licence {track.licence})"


def _stem(stem: Stem) -> str:
    use = "target" if stem.usable_as_target else "context" if stem.usable_in_context else "unused"
    notes = [*stem.flags, *([stem.reason] if stem.reason else [])]
    files = " + ".join(f"{file.path}{f'#{file.stream}' if file.stream else ''}" for file in stem.files)
    active = f"{sum(stem.activity):4d} s active"
    return f"  {use:8s}{stem.role:11s}{active}  {files}{'  [' + '; '.join(notes) + ']' if notes else ''}"


def _sums(catalogue: Catalogue) -> str:
    stems = [stem for track in catalogue.tracks for stem in track.stems]
    targets = sum(stem.usable_as_target for stem in stems)
    return (
        f"{len(catalogue.tracks)} songs, {len(stems)} stems, {targets} of them targets; "
        f"{len(catalogue.quarantined)} files unreadable, {len(catalogue.left_out)} left out"
    )
