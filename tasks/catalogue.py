"""What a corpus holds, found by hearing every stem once: tracks, stems, activity, and all that is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from data_manifests.listing import ListedTrack, Listing
from data_manifests.schema import RATE_HZ, Catalogue, Quarantined, Stem, Track
from data_manifests.splits import assign_splits
from tasks.copies import mark_copies
from tasks.digests import Map
from tasks.probing import Probe, ProbeStore, probe_stems


def build_catalogue(
    root: Path | str,
    listing: Listing,
    *,
    heldout_fraction: float,
    seed: int,
    map_: Map = map,
    known: ProbeStore | None = None,
) -> Catalogue:
    """The catalogue of a listed corpus; `map_` may spread the reading of files over workers, in order.

    `known` remembers what was probed before, so that only files that changed are read. A file that cannot be read is
    quarantined; a song that gives no pair is left out; both are reported with the reason. Only a corpus with no
    usable song at all is an error.
    """
    root = Path(root)
    listed = [stem for track in listing.tracks for stem in track.stems]
    probed = probe_stems(root, listed, known or ProbeStore(), map_)
    quarantined = tuple(item for item in probed if isinstance(item, Quarantined))
    tracks: list[Track] = []
    unusable: list[Quarantined] = []
    rest = iter(probed)
    for track in listing.tracks:
        of_track = [next(rest) for _ in track.stems]
        found = _track(track, [item for item in of_track if not isinstance(item, Quarantined)])
        reason = _why_unusable(found.stems)
        if reason is None:
            tracks.append(found)
        else:
            unusable.append(Quarantined(path=track.id, reason=reason))
    if not tracks:
        raise ValueError(_nothing_usable(root, [*unusable, *quarantined]))
    corpus_of = {track.group_id: track.corpus for track in reversed(tracks)}  # a group counts where it is met first
    splits = assign_splits(corpus_of, heldout_fraction, seed, _fixed_splits(listing.tracks))
    return Catalogue(
        tracks=tuple(replace(track, split=splits[track.group_id]) for track in tracks),
        quarantined=quarantined,
        left_out=(*unusable, *listing.left_out),
    )


def _track(listed: ListedTrack, probed: Sequence[tuple[Stem, Probe]]) -> Track:
    """The song on one timeline: as long as its longest stem, the activity of shorter ones padded with silence."""
    stems = mark_copies([stem for stem, _ in probed], [probe for _, probe in probed])
    frames = max((stem.end_samples for stem in stems), default=0)
    seconds = -(-frames // RATE_HZ)
    padded = [replace(stem, activity=stem.activity + (False,) * (seconds - len(stem.activity))) for stem in stems]
    return Track(
        **{
            **vars(listed),
            "split": listed.split or "train",  # decided for all songs together, in build_catalogue
            "frames": frames,
            "stems": tuple(padded),
        }
    )


def _fixed_splits(tracks: Sequence[ListedTrack]) -> dict[str, str]:
    """What the songs' own metadata says of their groups; a group in two splits would leak one into the other."""
    fixed: dict[str, str] = {}
    for track in tracks:
        if track.split is not None and fixed.setdefault(track.group_id, track.split) != track.split:
            raise ValueError(
                f"the group {track.group_id!r} is in two splits (see {track.id}); give it one, or two groups"
            )
    return fixed


def _why_unusable(stems: Sequence[Stem]) -> str | None:
    """Why the song gives no pair, or None: it needs a target and another stem as its context."""
    usable = [stem for stem in stems if stem.usable_in_context]
    targets = [stem for stem in stems if stem.usable_as_target]
    if not targets:
        return f"no stem is usable as a target ({len(usable)} as context); expected a non-vocal, active one"
    if all(stem.id == targets[0].id for stem in usable):
        return f"one usable stem ({targets[0].id}): a context and a target are both needed"
    if all(_original(stem) == _original(targets[0]) for stem in (*usable, *targets)):
        return f"its usable stems are copies of {_original(targets[0])}: a copy is no context"
    return None


def _original(stem: Stem) -> str:
    copies = (flag.removeprefix("duplicate_of:") for flag in stem.flags if flag.startswith("duplicate_of:"))
    return next(copies, stem.id)


def _nothing_usable(root: Path, reported: Sequence[Quarantined]) -> str:
    reasons = Counter(item.reason for item in reported).most_common(3)
    listed = "; ".join(f"{reason} ({count}x)" for reason, count in reasons)
    return (
        f"{root}: no usable song. Expected at least one folder with a non-vocal stem and another stem, both active. "
        f"Found: {listed}. Add songs, or correct roles in a song.json beside the stems."
    )
