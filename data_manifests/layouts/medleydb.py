"""MedleyDB v1 and v2: stems (never their raw microphones), metadata and mixing coefficients in YAML files.

The audio and the metadata come apart: the YAML files are in the `medleydb` repository. Wherever they lie below the
corpus folder, they are found by name.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from data_manifests.layouts.groups import artist_group
from data_manifests.layouts.layout import (
    BLEED,
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
    truth,
    visible,
)
from data_manifests.listing import ListedStem, ListedTrack, Listing
from data_manifests.roles import house_rules, read_name
from data_manifests.schema import ListedFile

LICENCE = "CC-BY-NC-SA-4.0"
RAW_REASON = "a raw microphone of a stem that is there already"

STEM_PATH = re.compile(r"(?P<folder>(?:.*/)?)(?P<id>[^/]+_[^/]+)_STEMS/(?P=id)_STEM_\d\d\.wav")
RAW_PATH = re.compile(r"(?:.*/)?(?P<id>[^/]+_[^/]+)_RAW/(?P=id)_RAW_\d\d_\d\d\.wav")
MIX_PATH = re.compile(r"(?:.*/)?[^/]+_[^/]+_MIX\.wav")

METADATA = "_METADATA.yaml"
COEFFICIENTS = ("mixing_coefficients.yaml", "mixing_coefficients_version2.yaml")
"""The first one that knows a song decides; it says by how much each stem is multiplied in the song's mix."""


class _Song(NamedTuple):
    """A song as its folder tells it: its MedleyDB id, and its stems' file names -> paths."""

    folder: str
    name: str
    stems: Mapping[str, str]

    @property
    def id(self) -> str:
        """Its own folder, which is named like it; where it has none, that name."""
        own = self.folder.rstrip("/")
        return own if own.rpartition("/")[2] == self.name else f"{self.folder}{self.name}"


def _recognises(files: Sequence[str]) -> bool:
    paths = (STEM_PATH, RAW_PATH, MIX_PATH)
    some_stem = any(STEM_PATH.fullmatch(path) for path in files)
    return some_stem and most_audio(files, lambda path: any(pattern.fullmatch(path) for pattern in paths))


def _list(files: Sequence[str], reader: Reader) -> Listing:
    present = sorted(visible(files))
    named = {path.rpartition("/")[2]: path for path in present if path.endswith(".yaml")}
    mixing = [(named[name], read_yaml(reader, named[name])) for name in COEFFICIENTS if name in named]
    left_out = {path: RAW_REASON for path in present if RAW_PATH.fullmatch(path)}
    left_out |= {path: MIX_REASON for path in present if MIX_PATH.fullmatch(path)}
    tracks, metadata = [], [path for path, _ in mixing]
    for song in _songs(present):
        path = named.get(f"{song.name}{METADATA}")
        try:
            if path is None:
                raise BadMetadata(
                    f"{song.name}{METADATA} is missing; put the folder medleydb/data/Metadata of the medleydb "
                    "repository below the corpus folder"
                )
            tracks.append(_track(song, path, read_yaml(reader, path), _mixing_of(song.name, mixing), left_out))
            metadata.append(path)
        except BadMetadata as error:
            left_out |= dict.fromkeys(song.stems.values(), str(error))
    return listing_of("medleydb", files, tracks, left_out, metadata=metadata)


def _songs(files: Iterable[str]) -> list[_Song]:
    stems: defaultdict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for path in files:
        if found := STEM_PATH.fullmatch(path):
            stems[found["folder"], found["id"]][path.rpartition("/")[2]] = path
    return [_Song(folder, name, paths) for (folder, name), paths in stems.items()]


def _track(
    song: _Song, path: str, record: Mapping[Any, Any], mixing: Mapping[Any, Any], left_out: dict[str, str]
) -> ListedTrack:
    """The song; what of it is not used is added to `left_out`."""
    entries = record.get("stems")
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise BadMetadata(f"{path}: 'stems' is {entries!r:.60}; expected S01, S02, ... with values")
    has_bleed = truth(path, "has_bleed", record.get("has_bleed"))
    of_file = {text_at(entry, "filename"): (key, entry) for key, entry in entries.items()}
    stems = []
    for name, file in song.stems.items():
        key, entry = of_file.get(name, ("", {}))
        gain_db = _gain_db(path, mixing, key)
        reason = _why_no_stem(path, entry, gain_db)
        if reason is None:
            stems.append(_stem(str(key), file, entry, gain_db=gain_db, has_bleed=has_bleed))
        else:
            left_out[file] = reason
    missing = set(of_file) - set(song.stems)
    left_out |= {f"{song.folder}{song.name}_STEMS/{name}": f"listed in {path}, but not there" for name in missing}
    artist = text_at(record, "artist") or song.name.partition("_")[0]
    return ListedTrack(
        id=song.id,
        group_id=artist_group(artist) or f"medleydb:{song.name}",
        split=None,
        corpus="medleydb",
        licence=LICENCE,
        tags=tuple(tag for tag in (text_at(record, "genre").lower(),) if tag),
        stems=tuple(stems),
    )


def _why_no_stem(path: str, entry: Mapping[Any, Any], gain_db: float) -> str | None:
    if not entry:
        return f"not listed in {path}"
    if gain_db == -math.inf:
        return "its mixing coefficient is zero: it is not in the song's mix"
    reasons = (_table()["leave_out"].get(name.lower()) for name in _instruments(entry))
    return next((reason for reason in reasons if reason is not None), None)


def _stem(stem_id: str, path: str, entry: Mapping[Any, Any], *, gain_db: float, has_bleed: bool) -> ListedStem:
    instruments = [name.lower() for name in _instruments(entry)]
    roles = [_role_of(name) for name in instruments] or ["other"]
    doubts = [_table()["unknown"][name] for name in instruments if name in _table()["unknown"]]
    return stem_of(
        stem_id,
        [ListedFile(path=path, gain_db=gain_db)],
        "vocal" if "vocal" in roles else roles[0],
        tags=instruments if not doubts else (),
        flags=(BLEED,) if has_bleed else (),
        reason=doubts[0] if doubts else None,
    )


def _instruments(entry: Mapping[Any, Any]) -> list[str]:
    """One name in all published songs; the code of MedleyDB expects lists too."""
    value = entry.get("instrument")
    return [str(name).strip() for name in (value if isinstance(value, list) else [value]) if name]


def _mixing_of(song: str, mixing: Sequence[tuple[str, Mapping[Any, Any]]]) -> Mapping[Any, Any]:
    """Stem number -> coefficient, from the first table that knows the song; empty where none does.

    The second version has two estimates, whose mean is taken, and for some songs a `manual` table that goes before.
    """
    for path, table in mixing:
        record = table.get(song)
        if record is None:
            continue
        if not isinstance(record, dict):
            raise BadMetadata(f"{path}: {song} is {record!r:.60}; expected stem numbers with coefficients")
        estimates = [record[name] for name in ("audio", "stft") if isinstance(record.get(name), dict)]
        manual = record["manual"] if isinstance(record.get("manual"), dict) else {}
        if not estimates and not manual:
            return record
        stems = set().union(*estimates)
        return {
            stem: _mean([_number(path, table[stem]) for table in estimates if stem in table]) for stem in stems
        } | manual
    return {}


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)


def _gain_db(path: str, mixing: Mapping[Any, Any], key: object) -> float:
    """The level of stem S01 in the mix; 0 dB where none is known, minus infinity for a stem left out."""
    digits = re.sub(r"\D", "", str(key))
    value = mixing.get(int(digits)) if 0 < len(digits) < 5 else None
    if value is None:
        return 0.0
    number = _number(path, value)
    return round(20.0 * math.log10(number), 3) if number > 0.0 else -math.inf


def _number(path: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 <= value <= 1e6:
        raise BadMetadata(f"{path}: a mixing coefficient is {value!r:.60}; expected a number that is not negative")
    return float(value)


def _role_of(instrument: str) -> str:
    """The taxonomy's role, or that of the words of a name that it does not know."""
    return _roles().get(instrument) or read_name(instrument, house_rules()).role


@cache
def _roles() -> dict[str, str]:
    return {name: role for role, names in _table()["roles"].items() for name in names}


@cache
def _table() -> dict[str, Any]:
    return rule_table("medleydb.yaml")


MEDLEYDB = Layout(
    name="medleydb",
    example="Audio/Artist_Title/Artist_Title_STEMS/Artist_Title_STEM_01.wav and Artist_Title_METADATA.yaml",
    recognises=_recognises,
    listing=_list,
)
