"""Many sets of whole numbers, each a few intervals, asked for all rows at once: the n-th member, and how many below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Shapes: E sets, I intervals of all sets together, N questions.


class Intervals(NamedTuple):
    """`low` to `high - 1` belong to the set numbered `owner`; sorted by owner, then low; none empty or overlapping."""

    owner_I: NDArray[np.int64]
    low_I: NDArray[np.int64]
    high_I: NDArray[np.int64]


class StartSets(NamedTuple):
    """Sets of possible starts. `before_I` counts the members of all earlier intervals, of whatever set.

    `address_I` orders the intervals of all sets on one line, on which a set has `span` places.
    """

    first_E: NDArray[np.int64]
    low_I: NDArray[np.int64]
    before_I: NDArray[np.int64]
    address_I: NDArray[np.int64]
    span: int

    def size(self, set_N: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many members each set has."""
        return self.before_I[self.first_E[set_N + 1]] - self.before_I[self.first_E[set_N]]

    def member(self, set_N: NDArray[np.int64], place_N: NDArray[np.int64]) -> NDArray[np.int64]:
        """The member at that place, counted from 0 in rising order; the place must exist."""
        wanted_N = self.before_I[self.first_E[set_N]] + place_N
        interval_N = np.searchsorted(self.before_I, wanted_N, side="right") - 1
        return self.low_I[interval_N] + wanted_N - self.before_I[interval_N]

    def below(self, set_N: NDArray[np.int64], bound_N: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many members are smaller than the bound."""
        if not len(self.low_I):
            return np.zeros_like(set_N)
        within_N = np.clip(bound_N, 0, self.span - 1)
        interval_N = np.searchsorted(self.address_I, set_N * self.span + within_N, side="left") - 1
        found_N = np.maximum(interval_N, 0)
        length_N = self.before_I[found_N + 1] - self.before_I[found_N]
        earlier_N = self.before_I[found_N] - self.before_I[self.first_E[set_N]]
        counted_N = earlier_N + np.minimum(within_N - self.low_I[found_N], length_N)
        return np.where(interval_N < self.first_E[set_N], 0, counted_N)  # none of the set's own begins before


def start_sets(intervals: Intervals, sets: int) -> StartSets:
    """The intervals as sets numbered 0 to `sets - 1`, some of which may be empty."""
    lengths_I = intervals.high_I - intervals.low_I
    span = int(intervals.high_I.max(initial=0)) + 2
    return StartSets(
        first_E=np.searchsorted(intervals.owner_I, np.arange(sets + 1)),
        low_I=intervals.low_I,
        before_I=np.concatenate(([0], np.cumsum(lengths_I))),
        address_I=intervals.owner_I * span + intervals.low_I,
        span=span,
    )


def joined(intervals: Intervals) -> Intervals:
    """The same sets with touching intervals made one."""
    if not len(intervals.owner_I):
        return intervals
    begins_I = np.ones(len(intervals.owner_I), dtype=bool)
    begins_I[1:] = (intervals.low_I[1:] != intervals.high_I[:-1]) | (intervals.owner_I[1:] != intervals.owner_I[:-1])
    ends_I = np.append(begins_I[1:], True)
    return Intervals(intervals.owner_I[begins_I], intervals.low_I[begins_I], intervals.high_I[ends_I])


def without(intervals: Intervals, low_E: NDArray[np.int64], high_E: NDArray[np.int64]) -> Intervals:
    """Each set without the members `low_E` to `high_E - 1`, which may be none."""
    low_I, high_I = low_E[intervals.owner_I], np.maximum(high_E, low_E)[intervals.owner_I]
    low_I2 = np.stack([intervals.low_I, np.maximum(intervals.low_I, high_I)], axis=1)
    high_I2 = np.stack([np.minimum(intervals.high_I, low_I), intervals.high_I], axis=1)
    owner_I2 = np.repeat(intervals.owner_I[:, None], 2, axis=1)
    some_I2 = low_I2 < high_I2
    return Intervals(owner_I2[some_I2], low_I2[some_I2], high_I2[some_I2])


def concatenated(pieces: Sequence[Intervals]) -> Intervals:
    """All pieces in one, in their order."""
    if not pieces:
        return Intervals(*(np.empty(0, dtype=np.int64) for _ in Intervals._fields))
    return Intervals(*(np.concatenate(column) for column in zip(*pieces, strict=True)))
