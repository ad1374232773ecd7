"""Intervals of means over judgements in which both the listeners and the pieces are chance draws.

Ratings of one listener are alike, and so are ratings of one piece: counted as independent, thirty ratings by three
people would seem thirty opinions. The variance of a mean is what listeners make, plus what pieces make, less what both
hold (Cameron, Gelbach & Miller 2011), each from a jackknife.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy
from numpy.typing import NDArray

from metrics.intervals import LEAST_TRACKS, Estimate, Interval, estimate
from metrics.set_statistics import SetStatistic

# Shapes: M judgements.

LEAST_LISTENERS = LEAST_TRACKS
"""With fewer, an interval says what other pieces would have changed, and nothing of other listeners."""


def crossed_interval(
    value_M: NDArray[np.float64], listeners: Sequence[str], pieces: Sequence[str], *, level: float = 0.95
) -> Interval:
    """The mean of values with its interval, t with one degree of freedom less than there are listeners or pieces.

    Raises ValueError with fewer than four pieces. Departure: never narrower than either alone makes it, where the
    difference of the three would be.
    """
    by_piece = _estimate(value_M, pieces)
    if len(set(listeners)) < LEAST_LISTENERS:
        return by_piece.interval(level)
    by_listener = _estimate(value_M, listeners)
    by_both = _estimate(value_M, [f"{listener}\0{piece}" for listener, piece in zip(listeners, pieces, strict=True)])
    squares = by_piece.error**2 + by_listener.error**2 - by_both.error**2
    error = float(np.sqrt(max(squares, by_piece.error**2, by_listener.error**2)))
    freedom = min(len(by_piece.without_G), len(by_listener.without_G)) - 1
    reach = float(scipy.stats.t.ppf((1 + level) / 2, freedom)) * error
    return Interval(by_piece.value, by_piece.value - reach, by_piece.value + reach, error)


def _estimate(value_M: NDArray[np.float64], names: Sequence[str]) -> Estimate:
    return estimate(SetStatistic(lambda chosen_R: float(value_M[chosen_R].mean()), len(value_M)), names)
