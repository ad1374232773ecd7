"""MUSDB18-HQ, MUSDB18 and DSD100: drums, bass, other and vocals of every song, divided into training and test."""

from __future__ import annotations

import csv
import io
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

from data_manifests.layouts.groups import artist_group, artist_of
from data_manifests.layouts.layout import (
    BLEED,
    MIX_REASON,
    BadMetadata,
    Layout,
    Reader,
    listing_of,
    most_audio,
    read_text,
    rule_table,
    stem_of,
    visible,
)
from data_manifests.listing import ListedStem, ListedTrack, Listing
from data_manifests.schema import ListedFile

RESTRICTED = "restricted: academic use only"

STREAM_OF = {"drums": 1, "bass": 2, "other": 3, "vocals": 4}
"""The audio streams of MUSDB18's containers; stream 0 is the mix, and a cover picture counts as no stream."""

SPLIT_OF = {"train": "train", "test": "heldout", "Dev": "train", "Test": "heldout"}

HQ_PATH = re.compile(r"(?P<song>(?:.*/)?(?P<part>train|test)/(?P<name>[^/]+))/(?P<stem>\w+)\.wav")
CONTAINER_PATH = re.compile(r"(?P<song>(?:.*/)?(?P<part>train|test)/(?P<name>[^/]+))\.stem\.mp4")
DSD_PATH = re.compile(
    r"(?P<above>.*/)?(?:Sources|Mixtures)/(?P<song>(?P<part>Dev|Test)/(?P<name>[^/]+))/(?P<stem>\w+)\.wav"
)


class _Song(NamedTuple):
    """A song, as one of its paths tells it: its folder in the corpus, "Artist - Title", and part of the corpus."""

    id: str
    name: str
    part: str


class _Entry(NamedTuple):
    """What MUSDB's tracklist.csv says of a song."""

    tags: tuple[str, ...]
    licence: str


def _recognises(files: Sequence[str], *, path: re.Pattern[str]) -> bool:
    return most_audio(files, lambda name: (found := path.fullmatch(name)) and _is_stem_or_mix(found))


def _list_folders(files: Sequence[str], reader: Reader, *, name: str, path: re.Pattern[str]) -> Listing:
    """Songs whose stems are files of their own."""
    songs: defaultdict[_Song, list[tuple[str, ListedFile]]] = defaultdict(list)
    left_out = {}
    for file in visible(files):
        found = path.fullmatch(file)
        if found and found["stem"] == "mixture":
            left_out[file] = MIX_REASON
        elif found and _is_stem_or_mix(found):
            songs[_song(found)].append((found["stem"], ListedFile(path=file)))
    return _listing(name, files, reader, songs, left_out)


def _list_containers(files: Sequence[str], reader: Reader) -> Listing:
    """Songs whose stems are audio streams of one file."""
    songs = {
        _song(found): [(stem, ListedFile(path=file, stream=stream)) for stem, stream in STREAM_OF.items()]
        for file in visible(files)
        if (found := CONTAINER_PATH.fullmatch(file))
    }
    return _listing("musdb18", files, reader, songs, {})


def _listing(
    name: str,
    files: Sequence[str],
    reader: Reader,
    songs: Mapping[_Song, Sequence[tuple[str, ListedFile]]],
    left_out: Mapping[str, str],
) -> Listing:
    tracklists = [path for path in visible(files) if path.rpartition("/")[2] == "tracklist.csv"]
    known = {song: entry for path in tracklists for song, entry in _tracklist(path, read_text(reader, path))}
    tracks = [_track(name, song, stems, known) for song, stems in songs.items()]
    return listing_of(name, files, tracks, left_out, metadata=tracklists)


def _track(
    corpus: str, song: _Song, stems: Sequence[tuple[str, ListedFile]], known: Mapping[str, _Entry]
) -> ListedTrack:
    title = re.sub(r"^\d{3} - ", "", song.name)
    entry = known.get(title, _Entry(tags=(), licence=RESTRICTED))
    return ListedTrack(
        id=song.id,
        group_id=artist_group(artist_of(song.name) or song.name) or song.id,
        split=SPLIT_OF[song.part],
        corpus=corpus,
        licence=entry.licence,
        tags=entry.tags,
        stems=tuple(_stem(title, stem, file) for stem, file in sorted(stems)),
    )


def _stem(title: str, name: str, file: ListedFile) -> ListedStem:
    table = _table()
    fault = table["errata"].get(title, {}).get(name)
    role = table["stems"][name]
    return stem_of(
        name,
        [file],
        role,
        tags=() if role == "other" else (name,),
        flags=(BLEED,) if fault else (),
        reason=f"the data set's errata: {fault}" if fault else None,
    )


def _tracklist(path: str, text: str) -> Iterator[tuple[str, _Entry]]:
    """Song -> genre and licence, from MUSDB's tracklist.csv; rows without a track name say nothing."""
    try:
        rows = list(csv.DictReader(io.StringIO(text.lstrip("\ufeff").replace("\0", ""))))
    except csv.Error as error:
        raise BadMetadata(f"{path}: no table ({error}); correct or restore it") from error
    for row in rows:
        genre, licence = (row.get("Genre") or "").strip().lower(), (row.get("License") or "").strip()
        if song := (row.get("Track Name") or "").strip():
            yield song, _Entry(tags=(genre,) if genre else (), licence=licence or RESTRICTED)


def _song(found: re.Match[str]) -> _Song:
    return _Song(id=f"{found.groupdict().get('above') or ''}{found['song']}", name=found["name"], part=found["part"])


def _is_stem_or_mix(found: re.Match[str]) -> bool:
    return found.groupdict().get("stem", "mixture") in (*STREAM_OF, "mixture")


@cache
def _table() -> dict[str, Any]:
    return rule_table("musdb.yaml")


MUSDB18_HQ = Layout(
    name="musdb18hq",
    example="train/Artist - Title/drums.wav",
    recognises=partial(_recognises, path=HQ_PATH),
    listing=partial(_list_folders, name="musdb18hq", path=HQ_PATH),
)
MUSDB18 = Layout(
    name="musdb18",
    example="train/Artist - Title.stem.mp4",
    recognises=partial(_recognises, path=CONTAINER_PATH),
    listing=_list_containers,
)
DSD100 = Layout(
    name="dsd100",
    example="Sources/Dev/051 - Artist - Title/drums.wav",
    recognises=partial(_recognises, path=DSD_PATH),
    listing=partial(_list_folders, name="dsd100", path=DSD_PATH),
)
