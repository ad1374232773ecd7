"""What a `song.json` or `tags.txt` beside the stems says: it overrides whatever file names suggest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from data_manifests.schema import ROLES, SPLITS

FASTEST_BPM = 10_000
"""What is faster is no tempo that anybody wrote down."""

LARGEST_GAIN_DB = 200.0
"""Either way; 24-bit audio spans 144 dB, and beyond 700 dB a gain is no float32."""


class BadSongFile(ValueError):
    """A song.json that cannot be understood; the message says what was expected."""


@dataclass(frozen=True, kw_only=True)
class SongStem:
    """One entry of `stems`. `role` and `is_vocal` are None where the file leaves them to the names."""

    file: str
    role: str | None = None
    is_vocal: bool | None = None
    tags: tuple[str, ...] = ()
    descriptions: tuple[str, ...] = ()
    gain_db: float = 0.0
    target_reason: str | None = None
    usable_in_context: bool = True
    leave_out: str | None = None


@dataclass(frozen=True, kw_only=True)
class SongFile:
    """A song's metadata. `stems` is None where the file lists none; `file_tags` come from tags.txt."""

    group: str | None = None
    split: str | None = None
    licence: str | None = None
    tags: tuple[str, ...] = ()
    stems: tuple[SongStem, ...] | None = None
    file_tags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    labels: tuple[tuple[str, str], ...] = ()

    def stem_of(self, file: str) -> SongStem | None:
        """The entry of the file, a path inside the song's folder."""
        return next((stem for stem in self.stems or () if stem.file == file), None)


def parse_song_file(text: str) -> SongFile:
    """A song.json: title, artist, group, split, licence, tags (or genre_words, bpm, key), and stems."""
    try:
        record = json.loads(text)
        json.dumps(record, ensure_ascii=False).encode()  # half a surrogate pair is a text that no file can hold
    except (ValueError, RecursionError) as error:
        raise BadSongFile(f"not JSON ({error}); correct it or remove it") from error
    if not isinstance(record, dict):
        raise BadSongFile(f"holds a {type(record).__name__}; expected an object with the key 'stems'")
    stems = record.get("stems")
    if stems is not None and not (isinstance(stems, list) and all(isinstance(stem, dict) for stem in stems)):
        raise BadSongFile("'stems' must be a list of objects, each with the key 'file'")
    return SongFile(
        group=_group(record),
        split=_one_of(record, "split", SPLITS),
        licence=_text(record, "licence") or _text(record, "license"),
        tags=_song_tags(record),
        stems=None if stems is None else tuple(_parse_stem(stem) for stem in stems),
        labels=_labels(record),
    )


def parse_tags_file(text: str, song: SongFile) -> SongFile:
    """The song with the tags of a tags.txt: comma-separated song tags, and lines `drums.flac: tag, tag` for stems."""
    song_tags: list[str] = []
    file_tags: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        head, colon, tail = line.partition(":")
        if colon and "." in head:
            file_tags[head.strip()] = _comma_separated(tail)
        else:
            song_tags += _comma_separated(line)
    stems = None
    if song.stems is not None:
        stems = tuple(replace(stem, tags=file_tags.get(stem.file, stem.tags)) for stem in song.stems)
    return replace(song, tags=tuple(song_tags) or song.tags, file_tags=file_tags, stems=stems)


def _parse_stem(record: dict[str, Any]) -> SongStem:
    file = _text(record, "file")
    if file is None:
        raise BadSongFile(f"a stem has no 'file': {json.dumps(record)[:80]}")
    descriptions = _descriptions(record)
    return SongStem(
        file=file.replace("\\", "/").removeprefix("./"),
        role=_one_of(record, "role", ROLES),
        is_vocal=_truth(record, "is_vocal"),
        tags=_words(record, "tags") or _described_tags(record),
        descriptions=descriptions,
        gain_db=_decibels(record),
        target_reason=_target_reason(record),
        usable_in_context=_truth(record, "usable_in_context") is not False,
        leave_out="left out by its song.json" if _truth(record, "leave_out") else None,
    )


def _target_reason(record: dict[str, Any]) -> str | None:
    if _truth(record, "has_bleed"):
        return "bleed of other instruments: context only"
    if _truth(record, "usable_as_target") is False or _truth(record, "usable_in_context") is False:
        return _text(record, "reason") or "not usable by its song.json"
    return None


def _group(record: dict[str, Any]) -> str | None:
    """What may not be divided over two splits: the named group, else the same title of the same artist."""
    named = _text(record, "group") or _text(record, "group_id")
    artist, title = _text(record, "artist"), _text(record, "title")
    return named or (f"{artist} - {title}".lower() if artist and title else None)


def _song_tags(record: dict[str, Any]) -> tuple[str, ...]:
    """The song's human tags; without any, its genre words, key and tempo."""
    tags = _words(record, "tags")
    if tags:
        return tags
    tempo = tuple(f"{bpm} bpm" for bpm in _tempo(record))
    key = _text(record, "key")
    return (*_words(record, "genre_words"), *((key,) if key else ()), *tempo)


def _labels(record: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """What the file says of style, tempo and key, as texts; a value of another kind is no label."""
    known = {"style": record.get("style"), "bpm": next(iter(_tempo(record)), None), "key": record.get("key")}
    return tuple((name, value.strip()) for name, value in known.items() if isinstance(value, str) and value.strip())


def _tempo(record: dict[str, Any]) -> tuple[str, ...]:
    """The beats per minute as a text; none where they are no tempo."""
    bpm = record.get("bpm")
    is_tempo = isinstance(bpm, (int, float)) and not isinstance(bpm, bool) and 0 < bpm < FASTEST_BPM
    return (f"{bpm:g}",) if is_tempo else ()


def _descriptions(record: dict[str, Any]) -> tuple[str, ...]:
    texts = (_text(record, "name"), *_words(record, "category"), _text(record, "description"))
    return tuple(text for text in texts if text)


def _described_tags(record: dict[str, Any]) -> tuple[str, ...]:
    """Tags from a description and categories such as "Drums/Percussion/Kicks" (the last word of the path)."""
    description = (_text(record, "description") or "").lower().replace('"', "")
    categories = [category.lower().rsplit("/", 1)[-1].strip() for category in _words(record, "category")]
    return tuple(dict.fromkeys(tag for tag in (description, *categories) if tag))


def _words(record: dict[str, Any], name: str) -> tuple[str, ...]:
    value = record.get(name)
    if value is None:
        return ()
    if isinstance(value, str):
        return _comma_separated(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(item.strip() for item in value if item.strip())
    raise BadSongFile(f"{name!r} must be a list of words, but is {value!r}")


def _comma_separated(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _text(record: dict[str, Any], name: str) -> str | None:
    value = record.get(name)
    if value is None or isinstance(value, str):
        return (value or "").strip() or None
    raise BadSongFile(f"{name!r} must be a text, but is {value!r}")


def _truth(record: dict[str, Any], name: str) -> bool | None:
    value = record.get(name)
    if value is None or isinstance(value, bool):
        return value
    raise BadSongFile(f"{name!r} must be true or false, but is {value!r}")


def _decibels(record: dict[str, Any]) -> float:
    value = record.get("gain_db", 0.0)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= LARGEST_GAIN_DB:
        raise BadSongFile(
            f"'gain_db' must be a finite number of decibels, at most ±{LARGEST_GAIN_DB:g}, but is {value!r}"
        )
    return float(value)


def _one_of(record: dict[str, Any], name: str, allowed: tuple[str, ...]) -> str | None:
    value = _text(record, name)
    if value is not None and value not in allowed:
        raise BadSongFile(f"{name!r} is {value!r}; expected one of {', '.join(allowed)}")
    return value
