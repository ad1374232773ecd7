"""Mixing Secrets (Cambridge-MT): one folder per song, one file per microphone, known by nothing but their names.

The files are raw: no balance between the stems is known, so every gain is 0 dB.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from data_manifests.layouts.groups import artist_group
from data_manifests.layouts.layout import Layout, Reader, listing_of, most_audio, rule_table, stem_of, visible
from data_manifests.listing import ListedStem, ListedTrack, Listing
from data_manifests.roles import NameReading, house_rules, read_name
from data_manifests.schema import ListedFile

LICENCE = "educational use only; see the song's page"

FILE_PATH = re.compile(r"(?P<song>.+)/\d\d_(?P<name>[A-Z][A-Za-z0-9]*)\.wav")


class _Part(NamedTuple):
    """One microphone: its path, the instrument's name without the microphone's, its side, and what it is."""

    path: str
    instrument: str
    side: str
    role: str
    is_vocal: bool


@dataclass(frozen=True, kw_only=True)
class _Rules:
    """The tables of `cambridge_mt.yaml`."""

    microphones: frozenset[str]
    sides: Mapping[str, str]
    one_stem: frozenset[str]
    rooms_of: frozenset[str]
    room_words: frozenset[str]


def _recognises(files: Sequence[str]) -> bool:
    """Most files have numbers and joined words; a folder with a song.json speaks for itself and is not guessed at."""
    has_song_file = any(path.endswith("song.json") for path in files)
    return not has_song_file and most_audio(files, FILE_PATH.fullmatch)


def _list(files: Sequence[str], reader: Reader) -> Listing:  # no metadata to read
    songs: defaultdict[str, list[_Part]] = defaultdict(list)
    left_out: dict[str, str] = {}
    for path in sorted(visible(files)):
        found = FILE_PATH.fullmatch(path)
        if found is None:
            continue
        reading = _reading(found["name"])
        if reading.leave_out is None:
            songs[found["song"]].append(_part(path, found["name"], reading))
        else:
            left_out[path] = reading.leave_out
    return listing_of("cambridge_mt", files, [_track(song, parts) for song, parts in songs.items()], left_out)


def _track(song: str, parts: Sequence[_Part]) -> ListedTrack:
    """The song. Its folder is called Artist_Title_Full, as the archives are."""
    artist, _, title = song.rpartition("/")[2].partition("_")
    stems: defaultdict[str, list[_Part]] = defaultdict(list)
    for part in parts:
        stems[part.role if part.role in _rules().one_stem else part.instrument].append(part)
    return ListedTrack(
        id=song,
        group_id=(artist_group(artist) if title else None) or song,
        split=None,
        corpus="cambridge_mt",
        licence=LICENCE,
        tags=(),
        stems=tuple(_stem(name, parts) for name, parts in sorted(stems.items())),
    )


def _stem(name: str, parts: Sequence[_Part]) -> ListedStem:
    """The sum of an instrument's microphones; a side counts only where its other half is there."""
    sides: defaultdict[str, set[str]] = defaultdict(set)
    for part in parts:
        sides[_unsided(part)].add(part.side)
    files = [
        ListedFile(path=part.path, side=part.side if {"left", "right"} <= sides[_unsided(part)] else "both")
        for part in parts
    ]
    is_vocal = any(part.is_vocal for part in parts)
    role = "vocal" if is_vocal else parts[0].role
    return stem_of(name, files, role, tags=("" if name == role else _spaced(name), role if role != "other" else ""))


def _part(path: str, name: str, reading: NameReading) -> _Part:
    words, rules = _words(name), _rules()
    side = next((rules.sides[word.lower()] for word in words if word.lower() in rules.sides), "both")
    unsided = [word for word in words if word.lower() not in rules.sides]
    bare = [word for word in unsided if word.lower() not in rules.microphones]
    return _Part(path, "".join(bare or unsided or words), side, reading.role, reading.is_vocal)


def _reading(name: str) -> NameReading:
    """What the words of the name say; the room microphone of a drum kit is one of the kit's."""
    rules = _rules()
    words = _words(name)
    rest = " ".join(word for word in words if word.lower() not in rules.room_words)
    reading = read_name(rest, house_rules())
    return reading if reading.role in rules.rooms_of else read_name(" ".join(words), house_rules())


def _unsided(part: _Part) -> str:
    """What both halves of a pair have in common: the name without number and side."""
    found = FILE_PATH.fullmatch(part.path)
    words = _words(found["name"] if found else "")
    return "".join(word for word in words if word.lower() not in _rules().sides)


def _words(name: str) -> list[str]:
    """KickIn -> Kick, In; ElecGtr1L -> Elec, Gtr, 1, L; BassDI -> Bass, DI."""
    return re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)


def _spaced(name: str) -> str:
    return " ".join(_words(name)).lower()


@cache
def _rules() -> _Rules:
    table = rule_table("cambridge_mt.yaml")
    return _Rules(
        microphones=frozenset(table["microphones"]),
        sides={word: side for side, words in table["sides"].items() for word in words},
        one_stem=frozenset(table["one_stem"]),
        rooms_of=frozenset(table["rooms_of"]),
        room_words=frozenset(table["room_words"]),
    )


CAMBRIDGE_MT = Layout(
    name="cambridge_mt",
    example="Artist_Title_Full/01_KickIn.wav",
    recognises=_recognises,
    listing=_list,
)
