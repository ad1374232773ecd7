"""Confidence intervals of set metrics: how far a score may lie from what other tracks would have given.

Candidates of one track are alike, so tracks are what chance draws. Each is left out in turn (a jackknife), and the
spread of the values without it gives the standard error.

Departure: the usual bootstrap draws tracks with replacement. Drawn twice, a row is its own neighbour to KD, narrows the
covariance in FAD and covers nothing new: the resampled values lie beside the score they should surround, and intervals
made of them miss it (`benchmarks/interval_coverage.py`). Leaving tracks out repeats no row.

An interval is for the metric's mean over other draws of as many candidates from as many tracks against the *same*
references. It leaves out what other references would have changed, and the metric's own dependence on set size (FAD,
coverage): compare scores of equal sizes only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray

from metrics.set_statistics import SetStatistic

# Shapes: M rows of a set, G groups of tracks.

MOST_GROUPS = 50  # more would cost more evaluations of FAD and narrow the t quantile by under 3 %
LEAST_TRACKS = 4  # the fewest simulated: intervals still cover, but t is 3.2 and they tell little


class Interval(NamedTuple):
    """A score, the ends of its interval and its standard error."""

    value: float
    low: float
    high: float
    error: float

    def clipped(self, lowest: float, highest: float) -> Interval:
        """The interval of the score clipped to a range, as APA is to [0, 1]."""
        value, low, high = np.clip([self.value, self.low, self.high], lowest, highest).tolist()
        return Interval(value, low, high, self.error)


class TrackGroups(NamedTuple):
    """The group of each row, and how many tracks each group holds; one each where there are few enough tracks."""

    group_M: NDArray[np.intp]
    tracks_G: NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Estimate:
    """A score with its values when each group of tracks is left out: all that an interval of it, or of any function of
    it and others, needs."""

    value: float
    without_G: NDArray[np.float64]
    groups: TrackGroups

    def interval(self, level: float = 0.95) -> Interval:
        """value ± t · error, with one degree of freedom less than there are groups."""
        return _interval(self.value, self.error, len(self.without_G) - 1, level)

    @property
    def error(self) -> float:
        """The standard error. Source: Busing, Meijer & van der Leeden 1999, for groups of unequal size."""
        parts_G = self.groups.tracks_G.sum() / self.groups.tracks_G
        pseudo_G = parts_G * self.value - (parts_G - 1.0) * self.without_G
        centre = len(parts_G) * self.value - ((1.0 - 1.0 / parts_G) * self.without_G).sum()
        return float(np.sqrt(np.mean(np.square(pseudo_G - centre) / (parts_G - 1.0))))


def estimate(statistic: SetStatistic, track_ids: Sequence[str]) -> Estimate:
    """The score of all rows, with the tracks they come from; `track_ids` names the track of each row of the pool."""
    groups = track_groups(track_ids)
    if len(groups.group_M) != statistic.pool_size:
        raise ValueError(f"{len(groups.group_M)} track ids for {statistic.pool_size} rows; name each row's track")
    everyone = np.arange(len(groups.group_M))
    without = [statistic(everyone[groups.group_M != group]) for group in range(len(groups.tracks_G))]
    return Estimate(statistic(everyone), np.asarray(without), groups)


def combined(function: Callable[..., float], *estimates: Estimate) -> Estimate:
    """A function of several scores of the same items, such as their difference; what they share cancels."""
    groups = estimates[0].groups
    for other in estimates[1:]:
        if not np.array_equal(other.groups.group_M, groups.group_M):
            raise ValueError("scores of different items do not combine; estimate all of them with the same track_ids")
    without = [function(*left) for left in zip(*(each.without_G for each in estimates), strict=True)]
    return Estimate(float(function(*(each.value for each in estimates))), np.asarray(without, dtype=float), groups)


def track_groups(track_ids: Sequence[str]) -> TrackGroups:
    """Tracks dealt in the order of their names into at most `MOST_GROUPS` groups; the order of rows changes nothing."""
    names, track_M = np.unique(np.asarray(track_ids, dtype=str), return_inverse=True)
    if len(names) < LEAST_TRACKS:
        raise ValueError(
            f"{len(names)} tracks; an interval needs at least {LEAST_TRACKS} to know how tracks differ: add tracks"
        )
    groups = min(MOST_GROUPS, len(names))
    return TrackGroups(track_M % groups, np.bincount(np.arange(len(names)) % groups))


def _interval(value: float, error: float, freedom: float, level: float) -> Interval:
    if not 0 < level < 1:
        raise ValueError(f"level {level}: it must lie between 0 and 1, such as 0.95")
    reach = float(scipy.stats.t.ppf((1 + level) / 2, freedom)) * error
    return Interval(value, value - reach, value + reach, error)
