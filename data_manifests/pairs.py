"""The pair plan: which target, context and style windows row i holds, computed from i alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import pairwise
from math import gcd
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_manifests.schema import RATE_HZ, SPLITS, Quarantined, Stem, Track

# Shapes: W window starts on the grid, K stems of a track.

GRID_SAMPLES = 512
"""Windows start at multiples of this: 94 starts per second, ample, and exact at every common sample rate."""

GOLDEN = 0.6180339887498949


@dataclass(frozen=True, kw_only=True)
class PairRule:
    """What a pair is. Activities are fractions of a window's time in which the stem is heard.

    `min_style_activity` is lower than that of the target: a quieter but disjoint style window is worth more than
    a full one that overlaps the target, which would leak it.
    """

    window_samples: int
    style_segments: int = 1
    min_target_activity: float = 0.5
    min_context_activity: float = 0.1
    min_style_activity: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        if self.window_samples < 1 or self.style_segments < 1:
            raise ValueError(f"window of {self.window_samples} samples, {self.style_segments} segments; expected >= 1")
        for name in ("min_target_activity", "min_context_activity", "min_style_activity"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected a fraction above 0, up to 1")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One row. `style_note` says why a style window overlaps the target, and is None when none does."""

    index: int
    track_id: str
    target: str
    contexts: tuple[str, ...]
    start_samples: int
    style_starts_samples: tuple[int, ...]
    style_note: str | None


@dataclass(frozen=True, kw_only=True)
class PairRange:
    """Rows `first` to `stop - 1` of a split's plan: an address, not a list."""

    split: str
    first: int
    stop: int

    def __post_init__(self) -> None:
        if self.split not in SPLITS or not 0 <= self.first < self.stop:
            raise ValueError(f"{self}: expected a split of {', '.join(SPLITS)} and 0 <= first < stop")


class _Starts(NamedTuple):
    """Where a target's window may start, where its style windows may, and whether the two can be disjoint."""

    target_W: NDArray[np.int64]
    style_W: NDArray[np.int64]
    disjoint: bool


@dataclass(frozen=True)
class PairPlan:
    """The endless list of pairs over the tracks of one split; row i is a pure function of (rule, tracks, i).

    Each round of rows visits every usable track once, in an order of its own; within a track the visits go round
    its roles, within a role round its stems, and within a stem over the possible starts in golden-ratio steps, so
    that no (track, target, start) returns before all of that stem's starts are used up.
    """

    tracks: tuple[Track, ...]
    rule: PairRule

    def __post_init__(self) -> None:
        splits = sorted({track.split for track in self.tracks})
        if len(splits) > 1:
            raise ValueError(f"a plan is over the tracks of one split, but these are of {' and '.join(splits)}")
        if not self._usable:
            reasons = "; ".join(f"{item.path}: {item.reason}" for item in self.left_out[:5]) or "no tracks"
            raise ValueError(
                f"no pair can be drawn from {len(self.tracks)} track(s) ({reasons}). Expected a track of more than "
                f"{self.rule.window_samples / RATE_HZ:.2f} s with an active non-vocal target and another active stem."
            )

    def pair(self, index: int) -> Pair:
        """Row `index`, counted from 0."""
        if index < 0:
            raise ValueError(f"row {index}: rows are counted from 0")
        round_, place = divmod(index, len(self._usable))
        track, targets = self._usable[self._shuffled(place, len(self._usable), round_)]
        target, visit = self._target(track, targets, round_)
        starts = self._starts(track)[target.id]
        size = len(starts.target_W)
        start = int(starts.target_W[(self._draw(size, "start", track.id, target.id) + visit * _step(size)) % size])
        style, note = self._style(starts, start, index)
        return Pair(
            index=index,
            track_id=track.id,
            target=target.id,
            contexts=self._contexts(track, target, start, index),
            start_samples=start,
            style_starts_samples=style,
            style_note=note,
        )

    def track(self, track_id: str) -> Track:
        """The plan's track of that id."""
        return self._by_id[track_id]

    @cached_property
    def _by_id(self) -> dict[str, Track]:
        return {track.id: track for track in self.tracks}

    @cached_property
    def left_out(self) -> tuple[Quarantined, ...]:
        """The tracks that give no pair, with the reason."""
        usable = {track.id for track, _ in self._usable}
        return tuple(
            Quarantined(path=track.id, reason=_why_unusable(track, self.rule))
            for track in self.tracks
            if track.id not in usable
        )

    @cached_property
    def _usable(self) -> tuple[tuple[Track, dict[str, list[Stem]]], ...]:
        """The tracks that give pairs, each with its targets by role."""
        usable = []
        for track in self.tracks:
            starts = self._starts(track)
            by_role: defaultdict[str, list[Stem]] = defaultdict(list)
            for stem in track.stems:
                if stem.id in starts:
                    by_role[stem.role].append(stem)
            if by_role:
                usable.append((track, dict(by_role)))
        return tuple(usable)

    def _target(self, track: Track, targets: dict[str, list[Stem]], round_: int) -> tuple[Stem, int]:
        """The target of the track's visit number `round_`, and how often it was the target before."""
        roles = sorted(targets)
        role_visit, turn = divmod(round_, len(roles))
        role = roles[(turn + self._draw(len(roles), "role", track.id)) % len(roles)]
        stems = targets[role]
        visit, turn = divmod(role_visit, len(stems))
        return stems[(turn + self._draw(len(stems), "stem", track.id, role)) % len(stems)], visit

    def _starts(self, track: Track) -> dict[str, _Starts]:
        """Possible starts of each stem of the track that can be a target at all."""
        window = self.rule.window_samples
        grid_W = np.arange(0, track.frames - window + 1, GRID_SAMPLES)
        if len(grid_W) < 2:
            return {}
        stems = [stem for stem in track.stems if stem.usable_as_target or stem.usable_in_context]
        active_KW = np.array([_activity(stem, grid_W, window) for stem in stems]).reshape(len(stems), len(grid_W))
        audible_KW = active_KW >= self.rule.min_context_activity
        audible_KW &= np.array([stem.usable_in_context for stem in stems], dtype=bool)[:, None]
        audible_count_W = audible_KW.sum(axis=0)
        starts = {}
        for row, stem in enumerate(stems):
            if stem.usable_as_target and not stem.is_vocal:
                accompanied_W = audible_count_W - audible_KW[row] > 0
                target_W = grid_W[accompanied_W & (active_KW[row] >= self.rule.min_target_activity)]
                style_W = grid_W[active_KW[row] >= self.rule.min_style_activity]
                found = _with_style(target_W, style_W, window)
                if found is not None:
                    starts[stem.id] = found
        return starts

    def _style(self, starts: _Starts, start: int, index: int) -> tuple[tuple[int, ...], str | None]:
        """Starts of the style segments: disjoint from the target where possible, else as far from it as possible."""
        window, count = self.rule.window_samples, self.rule.style_segments
        distance_W = np.abs(starts.style_W - start)
        if starts.disjoint:
            far_W = starts.style_W[distance_W >= window]
            # One draw from each of `count` equal parts, so that several segments rarely overlap one another.
            edges = [part * len(far_W) // count for part in range(count + 1)]
            picks = [
                min(low + self._draw(max(high - low, 1), "style", str(index), str(part)), len(far_W) - 1)
                for part, (low, high) in enumerate(pairwise(edges))
            ]
            return tuple(int(far_W[pick]) for pick in picks), None
        farthest_W = starts.style_W[np.argsort(-distance_W, kind="stable")[:count]]
        farthest_W = np.resize(farthest_W[farthest_W != start], count)
        overlap = 1 - np.abs(farthest_W - start).min() / window
        note = f"the stem is heard too briefly for two disjoint windows: up to {overlap:.0%} of the target is shared"
        return tuple(int(value) for value in farthest_W), note

    def _contexts(self, track: Track, target: Stem, start: int, index: int) -> tuple[str, ...]:
        """A random subset, its size uniform from 1 to all, of the other stems that are heard in the window."""
        at_W = np.array([start])
        heard = [
            stem.id
            for stem in track.stems
            if stem.usable_in_context
            and stem.id != target.id
            and _activity(stem, at_W, self.rule.window_samples)[0] >= self.rule.min_context_activity
        ]
        size = 1 + self._draw(len(heard), "context size", str(index))
        shuffled = sorted(heard, key=lambda stem_id: self._hash("context", str(index), stem_id))
        return tuple(sorted(shuffled[:size]))

    def _shuffled(self, place: int, size: int, round_: int) -> int:
        """The round's own permutation of 0..size-1 at `place`: an affine map, so that no row costs O(size)."""
        step = 1 + self._draw(size, "step", str(round_))
        while gcd(step, size) > 1:
            step += 1
        return (place * step + self._draw(size, "offset", str(round_))) % size

    def _draw(self, size: int, *identity: str) -> int:
        """A number in 0..size-1 that depends on nothing but the seed and the identity: the same on every machine."""
        return self._hash(*identity) % size

    def _hash(self, *identity: str) -> int:
        return int.from_bytes(sha256("\n".join((str(self.rule.seed), *identity)).encode()).digest()[:16], "big")


def tag_text(track: Track, stem: Stem) -> str:
    """What a listener would write about the stem: its tags and its song's, joined by commas."""
    return ", ".join(dict.fromkeys((*stem.tags, *track.tags)))


def split_tracks(tracks: Sequence[Track], split: str) -> tuple[Track, ...]:
    """The tracks of one split, in the catalogue's order."""
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; expected one of {', '.join(SPLITS)}")
    return tuple(track for track in tracks if track.split == split)


def _with_style(target_W: NDArray[np.int64], style_W: NDArray[np.int64], window: int) -> _Starts | None:
    """Target starts that leave a disjoint style window; failing any, those that leave a different one; or None."""
    if not len(target_W) or not len(style_W):
        return None
    apart_W = (style_W[0] <= target_W - window) | (style_W[-1] >= target_W + window)
    if apart_W.any():
        return _Starts(target_W[apart_W], style_W, True)
    other_W = (style_W[0] != target_W) | (style_W[-1] != target_W)
    return _Starts(target_W[other_W], style_W, False) if other_W.any() else None


def _activity(stem: Stem, start_W: NDArray[np.int64], window: int) -> NDArray[np.float64]:
    """Fraction of each window's time in which the stem is heard, from its activity per second."""
    heard_s = np.concatenate(([0.0], np.cumsum(stem.activity, dtype=np.float64)))
    at_s = np.arange(len(heard_s), dtype=np.float64)
    window_s = window / RATE_HZ
    start_s = start_W / RATE_HZ
    return (np.interp(start_s + window_s, at_s, heard_s) - np.interp(start_s, at_s, heard_s)) / window_s


def _step(size: int) -> int:
    """The step nearest to the golden section of `size` that visits every place before one comes again."""
    step = max(round(GOLDEN * size), 1)
    while gcd(step, size) > 1:
        step += 1
    return step


def _why_unusable(track: Track, rule: PairRule) -> str:
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
