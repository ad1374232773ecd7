"""The most alike target of another song for every window: what random accompaniment is at its hardest.

Strict hard negatives (`hard_negatives`) are rare among a few dozen songs: of 32 held-out songs of the embedded corpus
4 have one. Here every window has a partner wherever its song has labels and another song its style, so that the bound
is made of the same windows, and as many, as the random one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from data_manifests.draws import text_bits
from data_manifests.hard_negatives import TEMPO_WITHIN_BPM, LabelledSong, labelled_song, missing_labels
from data_manifests.schema import Track


class Place(NamedTuple):
    """A window: its key, its song, and its target's role."""

    key: str
    track_id: str
    role: str


class Alike(NamedTuple):
    """The place of each window's partner, and how many partners are hard negatives and of the same role.

    `reason` says why not every window has a partner; then there are none.
    """

    partners: tuple[int, ...]
    hard: int
    same_role: int
    reason: str | None


def most_alike(places: Sequence[Place], tracks: Sequence[Track]) -> Alike:
    """For each window one of a song of another group and the same style: of the same role and key where there is one,
    and the nearest in tempo; among equals drawn by its key.
    """
    by_id = {track.id: track for track in tracks}
    songs = {track.id: labelled_song(track) for track in tracks}
    of_style: defaultdict[str, list[tuple[int, LabelledSong]]] = defaultdict(list)
    for number, place in enumerate(places):
        if song := songs[place.track_id]:
            of_style[song.style].append((number, song))
    partners, hard, same_role = [], 0, 0
    for place in places:
        song = songs[place.track_id]
        if song is None:
            return Alike((), 0, 0, missing_labels(by_id[place.track_id]))
        others = [(number, other) for number, other in of_style[song.style] if _is_another(song, other)]
        if not others:
            return Alike((), 0, 0, f"no other song here is {song.style}, as {song.track_id} is")
        ranks = {number: _rank(place, song, places[number], other) for number, other in others}
        least = min(ranks.values())
        best = sorted((number for number, rank in ranks.items() if rank == least), key=lambda n: places[n].key)
        partners.append(best[text_bits(f"alike {place.key}") % len(best)])
        another_role, another_key, apart_bpm = least
        hard += not another_key and apart_bpm <= TEMPO_WITHIN_BPM
        same_role += not another_role
    return Alike(tuple(partners), hard, same_role, None)


def _is_another(song: LabelledSong, other: LabelledSong) -> bool:
    return other.group_id != song.group_id and other.track_id != song.track_id


def _rank(place: Place, song: LabelledSong, other_place: Place, other: LabelledSong) -> tuple[bool, bool, float]:
    """The less, the more alike. The role comes first, since captions name it; then what clashes, then what drifts."""
    return other_place.role != place.role, other.key != song.key, abs(other.bpm - song.bpm)
