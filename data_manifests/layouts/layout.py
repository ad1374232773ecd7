"""What all layouts of corpora have in common: how they are told apart, and a listing that accounts for every file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files as package_files
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Protocol

import yaml

from data_manifests.listing import VOCAL_REASON, ListedStem, ListedTrack, Listing
from data_manifests.roles import AUDIO_SUFFIXES, STEM_CONTAINERS, house_rules, read_name
from data_manifests.schema import ListedFile, Quarantined

BLEED = "bleed"
BLEED_REASON = "bleed of other instruments: context only"
MIX_REASON = "a mix of the whole song"

DEEPEST_YAML = 20
"""Levels of a YAML file; those of the corpora have 5."""

LARGEST_YAML = 1_000_000
"""Values of a YAML file, aliases counted as what they stand for."""


class Reader(Protocol):
    """The hands of whoever owns the files: paths are relative to the corpus root, with forward slashes."""

    def text(self, path: str) -> str:
        """The text of a metadata file."""

    def binary(self, path: str) -> BinaryIO:
        """The file opened for reading and seeking; whoever opens it closes it."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One way in which corpora are laid out. `example` is a path of it, for messages.

    `recognises` judges by the names alone and by most of them, so that one stray folder decides nothing.
    """

    name: str
    example: str
    recognises: Callable[[Sequence[str]], bool]
    listing: Callable[[Sequence[str], Reader], Listing]


class BadMetadata(ValueError):
    """A metadata file of a corpus that cannot be understood; the message names it and what was expected."""


def listing_of(
    layout: str,
    files: Iterable[str],
    tracks: Iterable[ListedTrack],
    left_out: Mapping[str, str],
    *,
    metadata: Iterable[str] = (),
) -> Listing:
    """The listing in the order of its names, with a reason for every visible file that is in no stem.

    `metadata` are files that were read for what they say; `left_out` is path -> reason, for files and for what was
    promised but is not there.
    """
    ordered = tuple(sorted((track for track in tracks if track.stems), key=lambda track: track.id))
    used = {file.path for track in ordered for stem in track.stems for file in stem.files} | set(metadata)
    reasons = {path: _why_no_part(layout, path) for path in visible(files) if path not in used}
    reasons |= {path: reason for path, reason in left_out.items() if path not in used}
    return Listing(ordered, tuple(Quarantined(path=path, reason=reasons[path]) for path in sorted(reasons)), layout)


def stem_of(
    stem_id: str,
    files: Iterable[ListedFile],
    role: str,
    *,
    tags: Iterable[str] = (),
    is_vocal: bool = False,
    flags: Iterable[str] = (),
    reason: str | None = None,
) -> ListedStem:
    """A stem that is a target unless it is vocal, bleeds, or `reason` says why not; always usable as context."""
    is_vocal = is_vocal or role == "vocal"
    flags = tuple(flags)
    why_no_target = VOCAL_REASON if is_vocal else reason or (BLEED_REASON if BLEED in flags else None)
    return ListedStem(
        id=stem_id,
        files=tuple(sorted(files, key=lambda file: (file.path, file.stream))),
        role=role,
        is_vocal=is_vocal,
        tags=tuple(dict.fromkeys(tag for tag in tags if tag)),
        usable_as_target=why_no_target is None,
        usable_in_context=True,
        reason=why_no_target,
        flags=flags,
    )


def visible(files: Iterable[str]) -> Iterator[str]:
    """The files that a person sees: no hidden ones, no leavings of a Mac's archiver."""
    for path in files:
        if not any(part.startswith(".") or part == "__MACOSX" for part in path.split("/")):
            yield path


def most_audio(files: Sequence[str], fits: Callable[[str], object]) -> bool:
    """True if more than half of the visible audio files fit."""
    audio = [path for path in visible(files) if is_audio(path)]
    return 2 * sum(bool(fits(path)) for path in audio) > len(audio)


def is_audio(path: str) -> bool:
    return path.rpartition(".")[2].lower() in AUDIO_SUFFIXES or path.lower().endswith(STEM_CONTAINERS)


def read_text(reader: Reader, path: str) -> str:
    """The text of a metadata file."""
    return str(_parsed(reader, path, str))


def read_json(reader: Reader, path: str) -> dict[str, Any]:
    """The object in a JSON file."""
    return _an_object(path, _parsed(reader, path, json.loads))


def read_yaml(reader: Reader, path: str) -> dict[Any, Any]:
    """The mapping in a YAML file, safely loaded."""
    return _an_object(path, _parsed(reader, path, _load_yaml))


def rule_table(name: str) -> dict[str, Any]:
    """A table that ships beside the layouts."""
    text = package_files("data_manifests.layouts").joinpath(name).read_text(encoding="utf-8")
    return _an_object(name, _load_yaml(text))


def text_at(record: Mapping[Any, Any], name: str) -> str:
    """The text in a field; empty where there is none."""
    value = record.get(name)
    return value.strip() if isinstance(value, str) else ""


def truth(path: str, name: str, value: object) -> bool:
    """A truth value that may be written as true, "yes" or "no"; absent is false."""
    if value is None or isinstance(value, bool):
        return bool(value)
    if isinstance(value, str) and value.strip().lower() in ("yes", "no", "true", "false"):
        return value.strip().lower() in ("yes", "true")
    raise BadMetadata(f"{path}: {name!r} is {value!r}; expected yes or no")


def _parsed(reader: Reader, path: str, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(reader.text(path))
    except (ValueError, yaml.YAMLError, RecursionError, OSError) as error:
        raise BadMetadata(f"{path}: cannot be read ({type(error).__name__}: {error}); correct or restore it") from error


def _load_yaml(text: str) -> Any:
    """What the YAML says; refused before it is built if it is nested too deeply or its aliases make it too large."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast as the other
    _check_yaml(yaml.parse(text, Loader=loader))
    return yaml.load(text, Loader=loader)


def _check_yaml(events: Iterable[yaml.Event]) -> None:
    """Raise ValueError for a depth that would crash the C loader, and for aliases of aliases: the billion laughs."""
    sizes: dict[str | None, int] = {}
    within: list[tuple[str | None, int]] = []  # of every open collection: its anchor, and its values so far
    for event in events:
        match event:
            case yaml.CollectionStartEvent():
                within.append((event.anchor, 1))
                if len(within) > DEEPEST_YAML:
                    raise ValueError(f"nested more than {DEEPEST_YAML} deep")
                continue
            case yaml.CollectionEndEvent():
                anchor, size = within.pop()
            case yaml.ScalarEvent() | yaml.AliasEvent():
                anchor = event.anchor
                size = sizes.get(anchor, 1) if isinstance(event, yaml.AliasEvent) else 1
            case _:
                continue
        if anchor:
            sizes[anchor] = size
        if size > LARGEST_YAML:
            raise ValueError(f"more than {LARGEST_YAML} values")
        if within:
            outer, count = within.pop()
            within.append((outer, count + size))


def _an_object(path: str, record: Any) -> dict[Any, Any]:
    if not isinstance(record, dict):
        raise BadMetadata(f"{path}: holds a {type(record).__name__}; expected names with values")
    return record


def _why_no_part(layout: str, path: str) -> str:
    if not is_audio(path):
        return f"no audio ({PurePosixPath(path).suffix or 'no suffix'}), and no metadata that the layout {layout} reads"
    said = read_name(path.rpartition("/")[2], house_rules()).leave_out
    return said or f"no part of the layout {layout}; if it is a stem, put it where that layout keeps them"
