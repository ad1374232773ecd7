"""MoisesDB: a data.json per song that sorts its tracks into stems and finer types; the tracks of a stem are summed."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

from data_manifests.layouts.groups import artist_group
from data_manifests.layouts.layout import (
    BLEED,
    BadMetadata,
    Layout,
    Reader,
    listing_of,
    most_audio,
    read_json,
    rule_table,
    stem_of,
    text_at,
    truth,
    visible,
)
from data_manifests.listing import ListedStem, ListedTrack, Listing
from data_manifests.schema import ListedFile

LICENCE = "CC-BY-NC-SA-4.0"
UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
SONG_PATH = re.compile(rf"(?P<song>(?:.*/)?{UUID})/data\.json")
AUDIO_PATH = re.compile(rf"(?P<song>(?:.*/)?{UUID})/(?P<stem>[a-z_]+)/{UUID}\.\w+")


class _Part(NamedTuple):
    """One track of a song: where it is, in which stem, and what it is."""

    path: str
    stem: str
    kind: str
    has_bleed: bool


def _recognises(files: Sequence[str]) -> bool:
    return any(SONG_PATH.fullmatch(path) for path in files) and most_audio(files, AUDIO_PATH.fullmatch)


def _list(files: Sequence[str], reader: Reader) -> Listing:
    present = set(visible(files))
    metadata = [path for path in present if path.rpartition("/")[2] == "data.json"]
    tracks: list[ListedTrack] = []
    left_out: dict[str, str] = {}
    for path in metadata:
        folder = path.removesuffix("data.json")
        try:
            tracks.append(_track(folder, read_json(reader, path), present, left_out))
        except BadMetadata as error:
            left_out |= {file: str(error) for file in present if file.startswith(folder) and file != path}
    return listing_of("moisesdb", files, tracks, left_out, metadata=metadata)


def _track(folder: str, record: dict[str, Any], present: set[str], left_out: dict[str, str]) -> ListedTrack:
    """The song in a folder; what of it is not used is added to `left_out`."""
    stems: defaultdict[tuple[str, str], list[_Part]] = defaultdict(list)
    for part in _parts(folder, record):
        reason = _table()["leave_out"].get(part.kind)
        if part.path not in present:
            left_out[part.path] = "listed in data.json, but not there"
        elif reason is not None:
            left_out[part.path] = reason
        else:
            stems[part.stem, _role(part)].append(part)
    track_id = folder.rstrip("/") or "root"
    return ListedTrack(
        id=track_id,
        group_id=artist_group(text_at(record, "artist")) or f"moisesdb:{track_id}",
        split=None,
        corpus="moisesdb",
        licence=LICENCE,
        tags=tuple(tag for tag in (text_at(record, "genre").replace("_", " ").lower(),) if tag),
        stems=tuple(_stem(stem, role, parts) for (stem, role), parts in sorted(stems.items())),
    )


def _stem(name: str, role: str, parts: Sequence[_Part]) -> ListedStem:
    """The sum of a stem's tracks of one role: a synth pad and an organ among the other keys are two stems."""
    kinds = sorted({_short(part.kind) for part in parts})
    return stem_of(
        name if role == _table()["stems"].get(name, "other") else f"{name}/{role}",
        [ListedFile(path=path) for path in {part.path for part in parts}],
        role,
        tags=[tag for tag in (*kinds, name.replace("_", " ")) if not tag.startswith("other")],
        is_vocal=name == "vocals",
        flags=(BLEED,) if any(part.has_bleed for part in parts) else (),
    )


def _parts(folder: str, record: dict[str, Any]) -> Iterator[_Part]:
    """All tracks of a song; the same stemName may stand there more than once."""
    path = f"{folder}data.json"
    for stem in _objects(path, record, "stems"):
        for track in _objects(path, stem, "tracks"):
            name, track_id = text_at(stem, "stemName").replace(" ", "_"), text_at(track, "id")
            extension = text_at(track, "extension").lstrip(".")
            yield _Part(
                path=f"{folder}{name}/{track_id}.{extension}",
                stem=name,
                kind=text_at(track, "trackType").lower(),
                has_bleed=truth(path, "has_bleed", track.get("has_bleed")),
            )


def _objects(path: str, record: dict[str, Any], name: str) -> list[dict[str, Any]]:
    items = record.get(name)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise BadMetadata(f"{path}: {name!r} is {type(items).__name__}; expected a list of objects")
    return items


def _role(part: _Part) -> str:
    table = _table()
    whole, short = table["tracks"].get(part.kind), table["tracks"].get(_short(part.kind))
    return str(whole or short or table["stems"].get(part.stem, "other"))


def _short(kind: str) -> str:
    """ "brass (trumpet, trombone, french horn, brass etc)" -> "brass"."""
    return kind.partition("(")[0].strip()


@cache
def _table() -> dict[str, Any]:
    return rule_table("moisesdb.yaml")


MOISESDB = Layout(
    name="moisesdb",
    example="moisesdb_v0.1/<song uuid>/data.json and <song uuid>/drums/<track uuid>.wav",
    recognises=_recognises,
    listing=_list,
)
