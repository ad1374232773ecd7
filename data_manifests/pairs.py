"""The pair plan: which target, context and style windows row i holds, computed from i alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from data_manifests.pair_rows import PairRows, RowTable, concatenated_rows, row_table
from data_manifests.pair_rule import GRID_SAMPLES, PairRule
from data_manifests.schema import RATE_HZ, SPLITS, Quarantined, Stem, Track
from data_manifests.turns import MAX_ROWS

__all__ = ["GRID_SAMPLES", "Pair", "PairPlan", "PairRange", "PairRows", "PairRule", "split_tracks", "tag_text"]

BLOCK_ROWS = 65_536
"""So many rows are worked out at once: bounds the memory of a long range."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One row. `style_note` says why a style window overlaps the target, and is None when none does.

    `context_gain_db` is added to the context's level before the two are scaled together.
    """

    index: int
    track_id: str
    target: str
    contexts: tuple[str, ...]
    start_samples: int
    style_starts_samples: tuple[int, ...]
    style_note: str | None
    context_gain_db: float = 0.0


@dataclass(frozen=True, kw_only=True)
class PairRange:
    """Rows `first` to `stop - 1` of a split's plan: an address, not a list."""

    split: str
    first: int
    stop: int

    def __post_init__(self) -> None:
        if self.split not in SPLITS or not 0 <= self.first < self.stop:
            raise ValueError(f"{self}: expected a split of {', '.join(SPLITS)} and 0 <= first < stop")


@dataclass(frozen=True)
class PairPlan:
    """The endless list of pairs over the tracks of one split; row i is a pure function of (rule, tracks, i).

    Each round of rows visits every usable track once, in an order of its own (with weights, each corpus has its own
    rounds); within a track the visits go round its roles, within a role round its stems, and within a stem over the
    possible starts in golden-ratio steps, so that no (track, target, start) returns before all of that stem's starts
    are used up.
    """

    tracks: tuple[Track, ...]
    rule: PairRule

    def __post_init__(self) -> None:
        splits = sorted({track.split for track in self.tracks})
        if len(splits) > 1:
            raise ValueError(f"a plan is over the tracks of one split, but these are of {' and '.join(splits)}")
        if len(self._by_id) < len(self.tracks):
            twice = sorted(track.id for track in self.tracks if self._by_id[track.id] is not track)
            raise ValueError(f"two tracks have the id {twice[0]!r}; give each its own, such as its corpus' name and it")
        if not len(self._table.targets.usable_tracks):
            reasons = "; ".join(f"{item.path}: {item.reason}" for item in self.left_out[:5]) or "no tracks"
            raise ValueError(
                f"no pair can be drawn from {len(self.tracks)} track(s) ({reasons}). Expected a track of more than "
                f"{self.rule.window_samples / RATE_HZ:.2f} s with an active non-vocal target and another active stem."
            )

    def pair(self, index: int) -> Pair:
        """Row `index`, counted from 0."""
        return next(self.pairs(index, index + 1))

    def pairs(self, first: int, stop: int) -> Iterator[Pair]:
        """Rows `first` to `stop - 1`, one by one; far cheaper than as many calls of `pair`."""
        for rows in self._blocks(first, stop):
            for place in range(len(rows.index_N)):
                yield _pair(self.tracks, rows, place)

    def rows(self, first: int, stop: int) -> PairRows:
        """The same rows as columns."""
        return concatenated_rows(list(self._blocks(first, stop)))

    def _blocks(self, first: int, stop: int) -> Iterator[PairRows]:
        if not 0 <= first < stop <= MAX_ROWS:
            raise ValueError(f"rows {first} to {stop}: rows are counted from 0; expected first < stop <= {MAX_ROWS}")
        for begin in range(first, stop, BLOCK_ROWS):
            yield self._table.rows(begin, min(begin + BLOCK_ROWS, stop))

    def track(self, track_id: str) -> Track:
        """The plan's track of that id."""
        return self._by_id[track_id]

    @cached_property
    def left_out(self) -> tuple[Quarantined, ...]:
        """The tracks that give no pair, with the reason."""
        usable = {self.tracks[index].id for index in self._table.targets.usable_tracks}
        in_turn = {self.tracks[index].id for pool in self._table.pools for index in pool.tracks_P}
        return tuple(
            Quarantined(path=track.id, reason=_why_unusable(track, self.rule, gives_pairs=track.id in usable))
            for track in self.tracks
            if track.id not in in_turn
        )

    @cached_property
    def _by_id(self) -> dict[str, Track]:
        return {track.id: track for track in self.tracks}

    @cached_property
    def _table(self) -> RowTable:
        return row_table(self.tracks, self.rule)


def _pair(tracks: Sequence[Track], rows: PairRows, place: int) -> Pair:
    track = tracks[rows.track_N[place]]
    contexts = rows.context_M[rows.context_first[place] : rows.context_first[place + 1]]
    return Pair(
        index=int(rows.index_N[place]),
        track_id=track.id,
        target=track.stems[rows.target_N[place]].id,
        contexts=tuple(sorted(track.stems[stem].id for stem in contexts)),
        start_samples=int(rows.start_samples_N[place]),
        style_starts_samples=tuple(rows.style_starts_samples_NK[place].tolist()),
        style_note=style_note(float(rows.style_shared_N[place]), may_be_apart=bool(rows.style_may_be_apart_N[place])),
        context_gain_db=float(rows.context_gain_db_N[place]),
    )


def style_note(shared: float, *, may_be_apart: bool) -> str | None:
    """Why a style window shares that fraction of the target; None where it shares nothing."""
    if shared == 0.0:
        return None
    if may_be_apart:
        return f"the rule lets style and target overlap: up to {shared:.0%} of the target is shared"
    return f"the stem is heard too briefly for two disjoint windows: up to {shared:.0%} of the target is shared"


def tag_text(track: Track, stem: Stem) -> str:
    """What a listener would write about the stem: its tags and its song's, joined by commas."""
    return ", ".join(dict.fromkeys((*stem.tags, *track.tags)))


def split_tracks(tracks: Sequence[Track], split: str) -> tuple[Track, ...]:
    """The tracks of one split, in the catalogue's order."""
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; expected one of {', '.join(SPLITS)}")
    return tuple(track for track in tracks if track.split == split)


def _why_unusable(track: Track, rule: PairRule, *, gives_pairs: bool) -> str:
    if gives_pairs:
        return f"its corpus {track.corpus!r} has no weight among {', '.join(name for name, _ in rule.weights)}"
    if track.frames < rule.window_samples + GRID_SAMPLES:
        return (
            f"{track.frames / RATE_HZ:.2f} s long: too short for two different windows of "
            f"{rule.window_samples / RATE_HZ:.2f} s"
        )
    if not any(stem.usable_as_target for stem in track.stems):
        return "no stem is usable as a target"
    return (
        f"no window in which a target is heard for {rule.min_target_activity:.0%} of the time beside another stem, "
        "with a different window of the same stem for its style"
    )
