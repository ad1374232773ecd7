"""How much of the paper's ranking ours has: arm against arm, metric by metric, at equal conditioning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple, TypeAlias

from metrics.intervals import Interval

Row: TypeAlias = tuple[str, str]
"""(arm, inputs), as Table 1 names them."""


class Ordering(NamedTuple):
    """Two arms under one metric and conditioning: ours of what the paper puts second, less ours of what it puts first.

    The paper puts `lower` below `higher`. `beyond` says that ours has them the other way round and that the
    intervals of the two scores do not touch: chance is then no excuse.
    """

    metric: str
    inputs: str
    lower: str
    higher: str
    our_gap: float
    beyond: bool

    @property
    def reproduced(self) -> bool:
        """Whether ours has the arms in the paper's order; a tie of ours is not the paper's order."""
        return self.our_gap > 0


class ReproductionScore(NamedTuple):
    """The share of the paper's orderings that ours has, and every ordering; `missing` have no score of ours."""

    share: float
    orderings: tuple[Ordering, ...]
    ties: int
    missing: int

    @property
    def different(self) -> tuple[Ordering, ...]:
        """The orderings that ours does not have."""
        return tuple(one for one in self.orderings if not one.reproduced)

    @property
    def beyond_intervals(self) -> tuple[Ordering, ...]:
        """Those of them that chance does not explain."""
        return tuple(one for one in self.orderings if one.beyond)

    def by_metric(self) -> dict[str, float]:
        """The share for each metric alone."""
        kept: dict[str, list[bool]] = {}
        for one in self.orderings:
            kept.setdefault(one.metric, []).append(one.reproduced)
        return {metric: sum(found) / len(found) for metric, found in kept.items()}


def reproduction_score(
    paper: Mapping[Row, Mapping[str, float]], ours: Mapping[Row, Mapping[str, Interval]], arms: Sequence[str]
) -> ReproductionScore:
    """The share of arm-against-arm orderings, over all metrics and conditionings that the paper has for both `arms`.

    Two arms that the paper prints equal have no order: such ties are counted apart and neither help nor hurt. Where the
    paper has an order and ours a tie, ours does not have it. Whether low or high is better plays no part. An error
    where nothing can be compared.
    """
    orderings: list[Ordering] = []
    ties = missing = 0
    for metric, inputs, first, second, gap in _gaps(paper, arms):
        lower, higher = (first, second) if gap > 0 else (second, first)
        low, high = ours.get((lower, inputs), {}).get(metric), ours.get((higher, inputs), {}).get(metric)
        if gap == 0:
            ties += 1
        elif low is None or high is None:
            missing += 1
        else:
            beyond = high.high < low.low
            orderings.append(Ordering(metric, inputs, lower, higher, high.value - low.value, beyond=beyond))
    if not orderings:
        raise ValueError(
            f"nothing to compare: of the paper's pairs of {', '.join(arms)}, {ties} are ties and {missing} have no"
            " score of ours; score at least two arms under one conditioning"
        )
    share = sum(one.reproduced for one in orderings) / len(orderings)
    return ReproductionScore(share, tuple(orderings), ties, missing)


def _gaps(paper: Mapping[Row, Mapping[str, float]], arms: Sequence[str]) -> Iterator[tuple[str, str, str, str, float]]:
    """Metric, inputs, two arms, and the second's figure less the first's, wherever the paper has both."""
    for first, second in combinations(arms, 2):
        for inputs in dict.fromkeys(inputs for arm, inputs in paper if arm == first):
            other = paper.get((second, inputs), {})
            for metric, value in paper[first, inputs].items():
                if metric in other:
                    yield metric, inputs, first, second, other[metric] - value
