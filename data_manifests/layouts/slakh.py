"""Slakh2100 and BabySlakh: rendered MIDI, one mono file per instrument and a metadata.yaml per song.

The files that exist decide what a song has: `audio_rendered` is false for a whole song of BabySlakh, numbers have
gaps, and folders in the metadata may be those of the author's own disk.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

from data_manifests.general_midi import general_midi
from data_manifests.layouts.layout import (
    MIX_REASON,
    BadMetadata,
    Layout,
    Reader,
    listing_of,
    most_audio,
    read_yaml,
    rule_table,
    stem_of,
    text_at,
    visible,
)
from data_manifests.listing import ListedStem, ListedTrack, Listing
from data_manifests.roles import name_words
from data_manifests.schema import ListedFile

LICENCE = "CC-BY-4.0"
OMITTED = "omitted: the same MIDI file as another song (the redux rule of Slakh2100)"
SPLIT_OF = {"train": "train", "validation": "heldout", "test": "heldout"}

AUDIO_PATH = re.compile(r"(?P<song>(?:.*/)?Track\d{5})/(?:stems/(?P<stem>S\d\d)|mix)\.(?:flac|wav)")


class _Song(NamedTuple):
    """A song's folder, and its stems: S00 -> path."""

    id: str
    stems: Mapping[str, str]

    @property
    def split(self) -> str | None:
        """What the folder above says; Slakh's validation songs are held out too."""
        return next((SPLIT_OF[part] for part in reversed(self.id.split("/")) if part in SPLIT_OF), None)


def _recognises(files: Sequence[str], *, in_parts: bool) -> bool:
    """`in_parts`: train, validation and test folders, which BabySlakh has not."""
    songs = [path for path in files if AUDIO_PATH.fullmatch(path)]
    divided = sum(any(part in SPLIT_OF for part in path.split("/")) for path in songs)
    has_metadata = any(path.endswith("/metadata.yaml") for path in files)
    return has_metadata and (divided > 0) is in_parts and most_audio(files, AUDIO_PATH.fullmatch)


def _list(files: Sequence[str], reader: Reader, *, name: str) -> Listing:
    left_out: dict[str, str] = {}
    songs: defaultdict[str, dict[str, str]] = defaultdict(dict)
    present = set(visible(files))
    for path in sorted(present):
        found = AUDIO_PATH.fullmatch(path)
        if found is None:
            continue
        if "omitted" in path.split("/"):
            left_out[path] = OMITTED
        elif found["stem"] is None:
            left_out[path] = MIX_REASON
        elif songs[found["song"]].setdefault(found["stem"], path) != path:
            left_out[path] = f"the same stem as {songs[found['song']][found['stem']]}"
    tracks, metadata = [], []
    for track_id, stems in songs.items():
        path = f"{track_id}/metadata.yaml"
        try:
            record = read_yaml(reader, path) if path in present else _missing(path)
            tracks.append(_track(name, _Song(track_id, stems), record, left_out))
            metadata.append(path)
        except BadMetadata as error:
            left_out |= dict.fromkeys(stems.values(), str(error))
    return listing_of(name, files, tracks, left_out, metadata=metadata)


def _track(corpus: str, song: _Song, record: Mapping[Any, Any], left_out: dict[str, str]) -> ListedTrack:
    """The song; what of it is not used is added to `left_out`. Its group is its MIDI file: 698 songs share one."""
    entries = record.get("stems")
    if not isinstance(entries, dict):
        raise BadMetadata(f"{song.id}/metadata.yaml: 'stems' is {entries!r:.60}; expected S00, S01, ... with values")
    stems = []
    for stem_id, path in song.stems.items():
        entry = entries.get(stem_id)
        if isinstance(entry, dict) and _program(entry) is not None:
            stems.append(_stem(stem_id, path, entry))
        else:
            left_out[path] = f"its metadata.yaml does not say what {stem_id} is; it could be a voice"
    for stem_id in entries.keys() - song.stems.keys():
        left_out[f"{song.id}/stems/{stem_id}"] = "listed in metadata.yaml, but there is no audio of it"
    uuid = str(record.get("UUID") or "")
    return ListedTrack(
        id=song.id,
        group_id=f"slakh:{uuid or song.id}",
        split=song.split,
        corpus=corpus,
        licence=LICENCE,
        tags=(),
        stems=tuple(stems),
    )


def _stem(stem_id: str, path: str, entry: Mapping[Any, Any]) -> ListedStem:
    kind, program_name = text_at(entry, "inst_class"), text_at(entry, "midi_program_name").lower()
    role, by_class = _role(entry), _table()["classes"].get(kind)
    class_words = kind.partition("(")[0].strip().lower()
    sounds_as_named = by_class is None or by_class == _role_of_program(_program(entry))
    tags = (program_name if sounds_as_named else "", class_words if role != "vocal" else "choir")
    return stem_of(stem_id, [ListedFile(path=path)], role, tags=tags)


def _role(entry: Mapping[Any, Any]) -> str:
    """A voice if the program or the patch is one; else what its class is, or its program."""
    table, program = _table(), _program(entry)
    patch_words = name_words(text_at(entry, "plugin_name"))
    if _role_of_program(program) == "vocal" or set(patch_words) & set(table["vocal_patch_words"]):
        return "vocal"
    if entry.get("is_drum") is True:
        return "drums"
    return str(table["classes"].get(text_at(entry, "inst_class")) or _role_of_program(program))


def _role_of_program(program: int | None) -> str:
    programs = general_midi().programs
    if program == _table()["drum_program"]:
        return "drums"
    return programs[program].role if program is not None and 0 <= program < len(programs) else "other"


def _program(entry: Mapping[Any, Any]) -> int | None:
    number = entry.get("program_num")
    return number if isinstance(number, int) and not isinstance(number, bool) else None


def _missing(path: str) -> dict[Any, Any]:
    raise BadMetadata(f"{path}: is missing; without it nobody knows which stem is a voice")


@cache
def _table() -> dict[str, Any]:
    return rule_table("slakh.yaml")


SLAKH2100 = Layout(
    name="slakh2100",
    example="train/Track00001/stems/S00.flac and train/Track00001/metadata.yaml",
    recognises=partial(_recognises, in_parts=True),
    listing=partial(_list, name="slakh2100"),
)
BABYSLAKH = Layout(
    name="babyslakh",
    example="Track00001/stems/S00.wav and Track00001/metadata.yaml",
    recognises=partial(_recognises, in_parts=False),
    listing=partial(_list, name="babyslakh"),
)
