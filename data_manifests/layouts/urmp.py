"""URMP: chamber music, every player recorded alone; pieces of one composition are one group."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from typing import Any

from data_manifests.layouts.layout import (
    MIX_REASON,
    Layout,
    Reader,
    listing_of,
    most_audio,
    rule_table,
    stem_of,
    visible,
)
from data_manifests.listing import ListedStem, ListedTrack, Listing
from data_manifests.schema import ListedFile

LICENCE = "research only"

STEM_PATH = re.compile(
    r"(?P<song>(?:.*/)?\d\d_(?P<piece>[^/_]+)_[^/]+)/AuSep_(?P<number>\d+)_(?P<code>[a-z]+)_\d\d_[^/]+\.wav"
)
MIX_PATH = re.compile(r"(?:.*/)?AuMix_\d\d_[^/]+\.wav")


def _list(files: Sequence[str], reader: Reader) -> Listing:  # the names say all
    songs: defaultdict[tuple[str, str], list[ListedStem]] = defaultdict(list)
    left_out: dict[str, str] = {}
    for path in sorted(visible(files)):
        if MIX_PATH.fullmatch(path):
            left_out[path] = MIX_REASON
        elif (found := STEM_PATH.fullmatch(path)) and found["code"] in _instruments():
            songs[found["song"], found["piece"]].append(_stem(path, found["number"], found["code"]))
        elif found:
            left_out[path] = f"the instrument {found['code']!r} is unknown; expected one of {', '.join(_instruments())}"
    tracks = [_track(song, piece, stems) for (song, piece), stems in songs.items()]
    return listing_of("urmp", files, tracks, left_out)


def _track(song: str, piece: str, stems: Sequence[ListedStem]) -> ListedTrack:
    """The piece; the same composition was recorded with several ensembles."""
    return ListedTrack(
        id=song,
        group_id=f"urmp:{piece.lower()}",
        split=None,
        corpus="urmp",
        licence=LICENCE,
        tags=("classical",),
        stems=tuple(stems),
    )


def _stem(path: str, number: str, code: str) -> ListedStem:
    """One player; the number is part of the name, for a quintet may have two violins."""
    instrument = _instruments()[code]
    return stem_of(f"{number}_{code}", [ListedFile(path=path)], instrument["role"], tags=(instrument["name"],))


@cache
def _instruments() -> dict[str, Any]:
    return dict(rule_table("urmp.yaml")["instruments"])


URMP = Layout(
    name="urmp",
    example="Dataset/01_Jupiter_vn_vc/AuSep_1_vn_01_Jupiter.wav",
    recognises=lambda files: most_audio(files, lambda path: STEM_PATH.fullmatch(path) or MIX_PATH.fullmatch(path)),
    listing=_list,
)
