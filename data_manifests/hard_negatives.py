"""Hard negatives, a named evaluation subset: for a row, another song's row that fits its style, tempo and key.

Whoever scores how well targets fit their contexts compares a row's context with the partner's target: a mismatch that
style, tempo and key alone do not give away.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from data_manifests.draws import text_bits
from data_manifests.pairs import Pair
from data_manifests.schema import Track

TEMPO_WITHIN_BPM = 3.0  # datasets.md C.3
LABELS = ("style", "bpm", "key")
"""The labels (`Track.labels`) that a song needs to have a hard negative, or to be one."""


class HardNegative(NamedTuple):
    """The place among the pairs of the mispaired partner; None, with the reason, where there is none."""

    partner: int | None
    reason: str | None


class LabelledSong(NamedTuple):
    """What decides which songs are alike."""

    track_id: str
    group_id: str
    style: str
    bpm: float
    key: str


def hard_negatives(pairs: Sequence[Pair], tracks: Sequence[Track]) -> tuple[HardNegative, ...]:
    """For each pair the partner among the others: a song of another group, of the same style and key, its tempo
    within 3 BPM. A target of the same role is taken where there is one.
    """
    by_id = {track.id: track for track in tracks}
    songs = {track.id: labelled_song(track) for track in tracks}
    alike: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for place, pair in sorted(enumerate(pairs), key=lambda item: item[1].index):
        song = songs[pair.track_id]
        if song is not None:
            alike[song.style, song.key].append(place)
    roles = [_role(by_id[pair.track_id], pair.target) for pair in pairs]
    found = []
    for place, pair in enumerate(pairs):
        song = songs[pair.track_id]
        if song is None:
            found.append(HardNegative(None, missing_labels(by_id[pair.track_id])))
            continue
        fitting = [other for other in alike[song.style, song.key] if _fits(song, songs[pairs[other].track_id])]
        best = [other for other in fitting if roles[other] == roles[place]] or fitting
        found.append(_drawn(best, pair.index) if best else HardNegative(None, _lonely(song)))
    return tuple(found)


def _drawn(places: Sequence[int], index: int) -> HardNegative:
    """One of the places, the same for the same row, so that not all rows share one partner."""
    return HardNegative(places[text_bits(f"hard negative {index}") % len(places)], None)


def _fits(song: LabelledSong, other: LabelledSong | None) -> bool:
    return (
        other is not None
        and other.group_id != song.group_id
        and other.track_id != song.track_id
        and abs(other.bpm - song.bpm) <= TEMPO_WITHIN_BPM
    )


def labelled_song(track: Track) -> LabelledSong | None:
    """The song's labels; None where one is missing."""
    labels = dict(track.labels)
    if _unknown(labels):
        return None
    style, key = (labels[name].strip().casefold() for name in ("style", "key"))
    return LabelledSong(track.id, track.group_id, style, float(labels["bpm"]), key)


def _unknown(labels: dict[str, str]) -> list[str]:
    return [
        name for name in LABELS if not labels.get(name, "").strip() or (name == "bpm" and not _number(labels[name]))
    ]


def _number(text: str) -> bool:
    try:
        return 0.0 < float(text) < float("inf")
    except ValueError:
        return False


def missing_labels(track: Track) -> str:
    """Which labels a song lacks, in words."""
    return f"the song {track.id} says nothing of its {', '.join(_unknown(dict(track.labels)))}"


def _lonely(song: LabelledSong) -> str:
    return f"no other song here is {song.style} in {song.key} within {TEMPO_WITHIN_BPM:g} of {song.bpm:g} BPM"


def _role(track: Track, stem_id: str) -> str:
    return next(stem.role for stem in track.stems if stem.id == stem_id)
