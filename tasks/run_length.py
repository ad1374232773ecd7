"""A stem's activity as runs: how many seconds it is silent, then heard, then silent, and so on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby


def to_runs(activity: Sequence[bool]) -> list[int]:
    """Lengths of the runs in turn, beginning with a silent one, which may be of 0 seconds."""
    runs = [sum(1 for _ in run) for _, run in groupby(activity)]
    return [0, *runs] if activity and activity[0] else runs


def from_runs(runs: Iterable[int]) -> tuple[bool, ...]:
    """One truth value per second of `to_runs`."""
    activity: list[bool] = []
    for number, length in enumerate(runs):
        activity += (number % 2 == 1,) * length
    return tuple(activity)
