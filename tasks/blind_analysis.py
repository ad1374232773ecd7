"""What a blind listening test found: mean ratings, systems against each other, and who cannot have listened."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from metrics.crossed_intervals import LEAST_LISTENERS, crossed_interval
from metrics.intervals import LEAST_TRACKS, Interval
from tasks.blind_key import ANCHOR, REAL

# Shapes: M judgements.

PASSING = 0.75
"""Share of pieces in which a listener must rate the real stem above the anchor; by chance it is a half (ours).

BS.1534 asks for 90 points of the hidden reference, which no stem can claim where none is named as the reference.
"""


class Listener(NamedTuple):
    """How often a listener rated the real stem above the anchor."""

    name: str
    pieces: int
    told_apart: float

    @property
    def passed(self) -> bool:
        return self.told_apart >= PASSING


class Rated(NamedTuple):
    """A system's mean rating from 0 to 100, and of how many ratings."""

    system: str
    mean: Interval
    ratings: int


class Pair(NamedTuple):
    """Two systems in the same pieces by the same listeners: how often the first won (ties half), and by how much.

    `p` is of equal ratings, two-sided and adjusted for all pairs of the test (Holm 1979).
    """

    first: str
    second: str
    wins: Interval
    difference: Interval
    p: float


class Findings(NamedTuple):
    """All that is told of a test; `rated` and `pairs` are by those listeners who passed, unless all were kept."""

    listeners: tuple[Listener, ...]
    kept: tuple[str, ...]
    pieces: int
    rated: tuple[Rated, ...]
    pairs: tuple[Pair, ...]

    def cautions(self) -> tuple[str, ...]:
        """Sentences that a reader needs beside the tables."""
        failed = [one for one in self.listeners if not one.passed]
        told = [
            f"{one.name} rated the real stem above the anchor in {one.told_apart:.0%} of {one.pieces} pieces, below "
            f"{PASSING:.0%}, and is {'kept all the same' if one.name in self.kept else 'left out'}."
            for one in failed
        ]
        if len(self.kept) < LEAST_LISTENERS:
            told.append(
                f"{len(self.kept)} listeners: intervals are over pieces alone and say nothing of other listeners; "
                f"{LEAST_LISTENERS} are needed for that."
            )
        return tuple(told)


def find(ratings: pl.DataFrame, systems: Sequence[str], *, keep_all: bool = False) -> Findings:
    """The findings of ratings (`blind_answers.RATING_COLUMNS`). Raises ValueError with too few of them."""
    listeners = _listeners(ratings)
    kept = tuple(one.name for one in listeners if one.passed or keep_all)
    if not kept:
        failed = ", ".join(one.name for one in listeners) or "nobody"
        raise ValueError(f"no listener told the real stem from the anchor ({failed} did not); ask others")
    heard = ratings.filter(pl.col("listener").is_in(kept))
    pieces = heard["track"].n_unique()
    if pieces < LEAST_TRACKS:
        raise ValueError(f"ratings of {pieces} tracks; intervals need {LEAST_TRACKS}: have more pieces rated")
    wide = heard.pivot(on="system", index=["listener", "trial", "track"], values="score")
    hidden = (*systems, REAL, ANCHOR)
    rated = [Rated(system, _interval(wide, wide[system].to_numpy()), wide.height) for system in hidden]
    ordered = tuple(sorted(rated, key=lambda one: -one.mean.value))
    pairs = _adjusted([_pair(wide, one.system, other.system) for one, other in combinations(ordered, 2)])
    return Findings(listeners, kept, pieces, ordered, pairs)


def _listeners(ratings: pl.DataFrame) -> tuple[Listener, ...]:
    found = []
    for name in ratings["listener"].unique().sort():
        own = ratings.filter(pl.col("listener") == name).sort("trial")
        real, anchor = (own.filter(pl.col("system") == system)["score"].to_numpy() for system in (REAL, ANCHOR))
        found.append(Listener(name, len(real), float((real > anchor).mean())))
    return tuple(found)


def _pair(wide: pl.DataFrame, first: str, second: str) -> Pair:
    difference_M = wide[first].to_numpy() - wide[second].to_numpy()
    difference = _interval(wide, difference_M)
    pieces, listeners = wide["track"].n_unique(), wide["listener"].n_unique()
    freedom = (min(pieces, listeners) if listeners >= LEAST_LISTENERS else pieces) - 1
    wins = _interval(wide, (np.sign(difference_M) + 1.0) / 2.0).clipped(0.0, 1.0)
    return Pair(first, second, wins, difference, _p_value(difference, freedom))


def _p_value(difference: Interval, freedom: int) -> float:
    if difference.error == 0.0:
        return float(difference.value == 0.0)
    return float(2.0 * stats.t.sf(abs(difference.value) / difference.error, freedom))


def _adjusted(pairs: Sequence[Pair]) -> tuple[Pair, ...]:
    """Holm's step-down: the smallest p times the number of pairs, the next times one less, never falling."""
    order = np.argsort([pair.p for pair in pairs], kind="stable")
    adjusted: dict[int, float] = {}
    highest = 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(pairs) - rank) * pairs[place].p))
        adjusted[int(place)] = highest
    return tuple(pair._replace(p=adjusted[place]) for place, pair in enumerate(pairs))


def _interval(wide: pl.DataFrame, value_M: NDArray[np.float64]) -> Interval:
    return crossed_interval(value_M, wide["listener"].to_list(), wide["track"].to_list())
