"""A corpus as a layout's names and metadata tell it, before any audio is opened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from data_manifests.schema import ListedFile, Quarantined

VOCAL_REASON = "vocal: context only, never a target"


@dataclass(frozen=True, kw_only=True)
class ListedStem:
    """A stem as its names and the song's metadata tell it; `flags` are what they say of it, such as `bleed`."""

    id: str
    files: tuple[ListedFile, ...]
    role: str
    is_vocal: bool
    tags: tuple[str, ...]
    usable_as_target: bool
    usable_in_context: bool
    reason: str | None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ListedTrack:
    """A song as listed. `split` is None unless the corpus fixes it."""

    id: str
    group_id: str
    split: str | None
    corpus: str
    licence: str
    tags: tuple[str, ...]
    stems: tuple[ListedStem, ...]
    labels: tuple[tuple[str, str], ...] = ()


class Listing(NamedTuple):
    """The songs of a corpus, every file that is no stem of any, with the reason, and the layout it was read by."""

    tracks: tuple[ListedTrack, ...]
    left_out: tuple[Quarantined, ...]
    layout: str
