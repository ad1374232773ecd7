"""Where a score lies between its bounds: 0 as random accompaniments score, 1 as true ones do, on the same items."""

from __future__ import annotations

from typing import NamedTuple

from metrics.intervals import Estimate, Interval, combined


class NormalisedFit(NamedTuple):
    """(x − random) / (true − random) with its interval; `beyond` is "true" or "random" past that bound, else "".

    A fit beyond a bound is not better or worse than another beyond it: adherence metrics saturate, and generated
    stems pass true ones (anchors.md B). Say so instead of ranking there.
    """

    interval: Interval
    beyond: str


def normalised_fit(candidate: Estimate, *, true: Estimate, random: Estimate, level: float = 0.95) -> NormalisedFit:
    """The fit between two bounds; an error where these lie no further apart than their noise.

    `random` is the metric of chance pairings, or of hard negatives: stems of other tracks that are alike. All estimates
    are of one metric on the same items, so that what tracks share cancels.
    """
    gap = combined(lambda best, worst: best - worst, true, random).interval(level)
    if gap.low <= 0 <= gap.high:
        raise ValueError(
            f"true ({true.value:g}) and random ({random.value:g}) scores are {gap.value:g} apart, within"
            f" [{gap.low:g}, {gap.high:g}]: this metric does not tell them apart on these items; add items"
        )
    fit = combined(lambda x, best, worst: (x - worst) / (best - worst), candidate, true, random).interval(level)
    return NormalisedFit(fit, "true" if fit.value > 1 else "random" if fit.value < 0 else "")
