"""A folder of songs as a listing of stems: from its file names and metadata files, without opening audio."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from data_manifests.listing import VOCAL_REASON, ListedStem, ListedTrack, Listing
from data_manifests.roles import (
    AUDIO_SUFFIXES,
    STEM_CONTAINERS,
    RoleRules,
    house_rules,
    is_stem_folder,
    read_name,
    shared_title_words,
)
from data_manifests.schema import ListedFile, Quarantined
from data_manifests.song_file import BadSongFile, SongFile, SongStem, parse_song_file, parse_tags_file

SONG_FILE = "song.json"
TAGS_FILE = "tags.txt"
PLAIN = "plain"


def list_folder(
    files: Mapping[str, None] | Sequence[str], read_text: Callable[[str], str], rules: RoleRules | None = None
) -> Listing:
    """The songs among `files`, paths relative to the corpus root with forward slashes.

    A folder that itself holds audio is one song, with the audio of its `stems` folder; a folder with a
    `song.json` is one song with all audio below it. `read_text` gives the text of a `song.json` or `tags.txt`,
    which override what the names say. Hidden files are passed over.
    """
    rules = rules or house_rules()
    visible = sorted(path for path in files if not _is_hidden(path))
    if not any(_is_audio(path) for path in visible):
        raise ValueError(
            f"the corpus holds no audio: found {len(visible)} files, none of them of "
            f"{', '.join(sorted(AUDIO_SUFFIXES))}. Give a folder with one subfolder per song, one audio file per stem."
        )
    left_out = [Quarantined(path=path, reason=_not_audio(path)) for path in visible if not _is_known(path)]
    tracks, present = [], set(visible)
    for folder, paths in _songs(visible, rules).items():
        track, rejected = _list_track(folder, paths, present, read_text, rules)
        left_out += rejected
        if track is not None:
            tracks.append(track)
    return Listing(tuple(tracks), tuple(sorted(left_out, key=lambda item: item.path)), PLAIN)


def _list_track(
    folder: str, paths: Sequence[str], files: set[str], read_text: Callable[[str], str], rules: RoleRules
) -> tuple[ListedTrack | None, list[Quarantined]]:
    """One song of the audio files `paths`; None where no stem is left or its song.json is unusable."""
    try:
        song = _read_song(folder, files, read_text)
    except BadSongFile as error:
        reason = f"{_join(folder, SONG_FILE)}: {error}"
        return None, [Quarantined(path=path, reason=reason) for path in paths]
    titled = shared_title_words([PurePosixPath(path).name for path in paths])
    stems: list[ListedStem] = []
    rejected: list[Quarantined] = []
    for path, stem_id in zip(paths, _stem_ids(folder, paths, rules), strict=True):
        entry = song.stem_of(_below(folder, path))
        why_not = _reason_to_leave_out(path, song, entry, rules, titled)
        if why_not is not None:
            rejected.append(Quarantined(path=path, reason=why_not))
        else:
            stems.append(_list_stem(path, stem_id, song, entry, rules))
    found = {_below(folder, path) for path in paths}
    for file in (stem.file for stem in song.stems or () if stem.file not in found):
        rejected.append(Quarantined(path=_join(folder, file), reason=f"listed in {SONG_FILE}, but not there"))
    return (_track(folder, song, stems) if stems else None), rejected


def _track(folder: str, song: SongFile, stems: Iterable[ListedStem]) -> ListedTrack:
    track_id = folder or "root"
    return ListedTrack(
        id=track_id,
        group_id=song.group or track_id,
        split=song.split,
        corpus=PLAIN,
        licence=song.licence or "unknown",
        tags=song.tags,
        stems=tuple(stems),
        labels=song.labels,
    )


def _list_stem(path: str, stem_id: str, song: SongFile, entry: SongStem | None, rules: RoleRules) -> ListedStem:
    """What song.json says of a stem, and for the rest what the name and the descriptions say."""
    name = PurePosixPath(path).name
    readings = [read_name(text, rules) for text in (name, *(entry.descriptions if entry else ()))]
    role = next((reading.role for reading in readings if reading.roles), "other")
    is_vocal = any(reading.is_vocal for reading in readings) or role == "vocal"
    if entry is not None and entry.role is not None:
        role, is_vocal = entry.role, entry.role == "vocal"
    if entry is not None and entry.is_vocal is not None:
        is_vocal = entry.is_vocal
    reason = VOCAL_REASON if is_vocal else (entry.target_reason if entry else None)
    tags = (entry.tags if entry else ()) or song.file_tags.get(name, ()) or _tags_of_name(name, role)
    return ListedStem(
        id=stem_id,
        files=(ListedFile(path=path, gain_db=entry.gain_db if entry else 0.0),),
        role="vocal" if is_vocal and role == "other" else role,
        is_vocal=is_vocal,
        tags=tags,
        usable_as_target=reason is None,
        usable_in_context=entry.usable_in_context if entry else True,
        reason=reason,
    )


def _reason_to_leave_out(
    path: str, song: SongFile, entry: SongStem | None, rules: RoleRules, titled: int
) -> str | None:
    """A song.json that lists its stems decides alone; otherwise the rule table does."""
    if entry is not None:
        return entry.leave_out
    if song.stems is not None:
        return f"not among the stems of its {SONG_FILE}"
    return read_name(PurePosixPath(path).name, rules, title_words=titled).leave_out


def _read_song(folder: str, files: set[str], read_text: Callable[[str], str]) -> SongFile:
    song_path, tags_path = _join(folder, SONG_FILE), _join(folder, TAGS_FILE)
    try:
        song = parse_song_file(read_text(song_path)) if song_path in files else SongFile()
        return parse_tags_file(read_text(tags_path), song) if tags_path in files else song
    except UnicodeDecodeError as error:
        raise BadSongFile(f"not UTF-8 text ({error}); save it as UTF-8") from error


def _songs(files: Sequence[str], rules: RoleRules) -> dict[str, list[str]]:
    """Song folder ("" is the root) -> its audio files, both sorted."""
    with_song_file = {_folder(path) for path in files if PurePosixPath(path).name == SONG_FILE}
    songs: defaultdict[str, list[str]] = defaultdict(list)
    for path in files:
        if _is_audio(path):
            songs[_song_folder(path, with_song_file, rules)].append(path)
    return dict(sorted(songs.items()))


def _song_folder(path: str, with_song_file: set[str], rules: RoleRules) -> str:
    own = PurePosixPath(_folder(path))
    for folder in (own, *own.parents):
        if _text(folder) in with_song_file:
            return _text(folder)
    return _text(own.parent) if own.parts and is_stem_folder(own.name, rules) and len(own.parts) > 1 else _text(own)


def _stem_ids(folder: str, paths: Sequence[str], rules: RoleRules) -> list[str]:
    """Names inside the song without suffix; with it where two files differ by nothing else."""
    inside = [_without_stem_folder(PurePosixPath(_below(folder, path)), rules) for path in paths]
    short = [str(path.with_suffix("")) for path in inside]
    ids = [str(path) if short.count(name) > 1 else name for path, name in zip(inside, short, strict=True)]
    return [_below(folder, path) if ids.count(name) > 1 else name for path, name in zip(paths, ids, strict=True)]


def _without_stem_folder(path: PurePosixPath, rules: RoleRules) -> PurePosixPath:
    return PurePosixPath(*path.parts[1:]) if len(path.parts) > 1 and is_stem_folder(path.parts[0], rules) else path


def _tags_of_name(name: str, role: str) -> tuple[str, ...]:
    words = " ".join("".join(c if c.isalpha() else " " for c in PurePosixPath(name).stem).lower().split())
    return tuple(dict.fromkeys(tag for tag in (words, "" if role == "other" else role) if tag))


def _not_audio(path: str) -> str:
    if path.lower().endswith(STEM_CONTAINERS):
        return "a stem file, which holds a mix and several stems: keep stem files in a corpus of their own"
    suffix = PurePosixPath(path).suffix
    return f"not read as audio ({suffix or 'no suffix'}); if it is, convert it to FLAC or WAV"


def _is_known(path: str) -> bool:
    return _is_audio(path) or PurePosixPath(path).name in (SONG_FILE, TAGS_FILE)


def _is_audio(path: str) -> bool:
    suffix = PurePosixPath(path).suffix.lower().removeprefix(".")
    return suffix in AUDIO_SUFFIXES and not path.lower().endswith(STEM_CONTAINERS)


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(path).parts)


def _folder(path: str) -> str:
    return _text(PurePosixPath(path).parent)


def _text(folder: PurePosixPath) -> str:
    return "" if str(folder) == "." else str(folder)


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _below(folder: str, path: str) -> str:
    return path.removeprefix(f"{folder}/") if folder else path
