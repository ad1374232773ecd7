"""Several corpora as one: each under a name of its own, with groups that no split divides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from data_manifests.layouts.groups import keep_groups_whole
from data_manifests.listing import ListedStem, ListedTrack, Listing
from data_manifests.schema import Quarantined


def joined_listings(listings: Mapping[str, Listing]) -> Listing:
    """The songs of all corpora; a track's `corpus` is the name that it came under, which also begins its id and paths.

    Groups keep their names, so that one artist in two corpora stays in one split.
    """
    tracks = [_below(track, name) for name, listing in listings.items() for track in listing.tracks]
    left_out = [
        Quarantined(path=f"{name}/{item.path}", reason=item.reason)
        for name, listing in listings.items()
        for item in listing.left_out
    ]
    layouts = "+".join(listing.layout for listing in listings.values())
    return Listing(keep_groups_whole(tracks), tuple(left_out), layouts)


def _below(track: ListedTrack, name: str) -> ListedTrack:
    track_id = f"{name}/{track.id}"
    return replace(
        track,
        id=track_id,
        group_id=track_id if track.group_id == track.id else track.group_id,
        corpus=name,
        stems=tuple(_stem_below(stem, name) for stem in track.stems),
    )


def _stem_below(stem: ListedStem, name: str) -> ListedStem:
    return replace(stem, files=tuple(replace(file, path=f"{name}/{file.path}") for file in stem.files))
