"""The metrics of one row as functions of which of its candidates are in: what intervals and comparisons are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, TypeAlias

import numpy as np

from metrics.clap_score import pair_cosines
from metrics.embeddings import EmbeddingSet
from metrics.frechet import Gaussian
from metrics.intervals import Interval, estimate
from metrics.kad import kad_statistic
from metrics.score import CandidateSet, ReferenceSet
from metrics.set_statistics import (
    Rows,
    SetStatistic,
    adherence_statistic,
    batch_mean,
    coverage_statistic,
    density_statistic,
    frechet_statistic,
    kernel_contrast_statistic,
    kernel_statistic,
    mean_statistic,
    stacked,
)

# Shapes: M candidates, W windows of a mixture, R chosen candidates.

LEVEL = 0.95
ROUNDING = 1e-9  # a standard error below this share of the score is no more than the arithmetic's

Statistics: TypeAlias = Mapping[str, Callable[[], SetStatistic]]
"""What makes the statistic of each metric, by the metric's name. Making it raises ValueError where it is undefined."""


class Measured(NamedTuple):
    """A metric's value with the ends of its interval at `LEVEL`; what is None is unknown, and `note` says why."""

    metric: str
    value: float | None
    low: float | None
    high: float | None
    note: str

    @classmethod
    def of(cls, metric: str, interval: Interval, *, told: str = "") -> Measured:
        """A metric with its interval, cut where no score can lie; without one where all tracks agree to the last digit.

        Then they tell nothing of how tracks differ: a share of none is not known to be none.
        """
        value, low, high, error = interval.clipped(*_range(metric))
        if error <= ROUNDING * abs(value):
            return cls(metric, value, None, None, "; ".join(filter(None, (told, "no track left out changes it"))))
        return cls(metric, value, low, high, told)

    @classmethod
    def blank(cls, metric: str, why: object, *, value: float | None = None) -> Measured:
        """A metric without an interval and, unless its value is given, without a value."""
        return cls(metric, value, None, None, str(why))


def row_statistics(
    reference: ReferenceSet, candidates: CandidateSet, neighbours: Sequence[int], *, quality: bool = True
) -> Statistics:
    """Every metric of the row over all its candidates, and KAD and FAD of mixtures beside them.

    Not `quality`: metrics of the stems alone are left out, as `score_row` leaves them out of such a row.
    """
    stems, mixtures = candidates.stems, candidates.mixtures
    found: dict[str, Callable[[], SetStatistic]] = {}
    if stems is not None and quality:
        found |= _of_stems(reference, stems, neighbours)
    if mixtures is not None:
        found |= _of_mixtures(reference, mixtures, len(stems if stems is not None else mixtures))
    for metric, target in (("cs_aa", candidates.target_audio), ("cs_ta", candidates.target_text)):
        if stems is not None and target is not None:
            found[metric] = partial(_cosine_statistic, stems, target)
    return found


def measured(metric: str, make: Callable[[], SetStatistic], track_ids: Sequence[str], *, batches: int) -> Measured:
    """The mean of a metric over batches of the candidates, a cell of the table, with its interval; or why not."""
    value = None
    try:
        statistic = in_batches(make(), batches)
        value = statistic(np.arange(statistic.pool_size))
        return Measured.of(metric, estimate(statistic, track_ids).interval(LEVEL))
    except ValueError as error:  # undefined on these candidates, or too few tracks: the cell is blank and says so
        return Measured.blank(metric, error, value=value)


def in_batches(statistic: SetStatistic, batches: int, *, arms: int = 1) -> SetStatistic:
    """The mean over batches of equal size, one after the other; the pool holds the candidates of each arm in turn."""
    items = statistic.pool_size // arms
    if items % batches:
        raise ValueError(f"{items} candidates do not make {batches} batches of one size; leave the last ones out")
    batch_M = np.tile(np.repeat(np.arange(batches), items // batches), arms)
    mean = batch_mean(statistic, batch_M)

    def of(chosen_R: Rows) -> float:
        if not np.bincount(batch_M[chosen_R], minlength=batches).all():
            raise ValueError("a batch holds candidates of one track alone: take larger batches, or more tracks")
        return mean(chosen_R)

    return SetStatistic(of, statistic.pool_size)


def adherence_by_candidate(
    reference: Gaussian, mispaired: Gaussian, mixtures: EmbeddingSet, *, candidates: int
) -> SetStatistic:
    """APA, not yet clipped, of the chosen candidates, whose mixtures may have several windows each."""
    return _by_candidate(adherence_statistic(reference, mispaired, mixtures), len(mixtures) // candidates)


def both_arms(first: CandidateSet, second: CandidateSet) -> CandidateSet:
    """The candidates of two arms below one another, of what both have."""
    return CandidateSet(
        stems=_both(first.stems, second.stems),
        mixtures=_both(first.mixtures, second.mixtures),
        target_audio=_both(first.target_audio, second.target_audio),
        target_text=_both(first.target_text, second.target_text),
    )


def _of_stems(
    reference: ReferenceSet, stems: EmbeddingSet, neighbours: Sequence[int]
) -> dict[str, Callable[[], SetStatistic]]:
    state, around = reference.stem_state, reference.stem_state.around
    return {
        "kd": lambda: kernel_statistic(state.kernel, stems),
        "fad": lambda: frechet_statistic(state.gaussian, stems),
        "kad": lambda: kad_statistic(reference.stems, stems),
        **{f"density_k{k}": partial(density_statistic, around, stems, k) for k in neighbours},
        **{f"coverage_k{k}": partial(coverage_statistic, around, stems, k) for k in neighbours},
    }


def _of_mixtures(
    reference: ReferenceSet, mixtures: EmbeddingSet, candidates: int
) -> dict[str, Callable[[], SetStatistic]]:
    true, wrong = reference.mixture_state, reference.mispaired_state
    windows = len(mixtures) // candidates
    return {
        "apa": lambda: adherence_by_candidate(true.gaussian, wrong.gaussian, mixtures, candidates=candidates),
        "apa_kd_contrast": lambda: _by_candidate(
            kernel_contrast_statistic(true.kernel, wrong.kernel, mixtures), windows
        ),
        "mixture_fad": lambda: _by_candidate(frechet_statistic(true.gaussian, mixtures), windows),
    }


def _by_candidate(statistic: SetStatistic, windows: int) -> SetStatistic:
    """A statistic of windows, one after the other, as one of the candidates that they belong to."""
    if windows == 1:
        return statistic

    def of(chosen_R: Rows) -> float:
        return statistic((chosen_R[:, None] * windows + np.arange(windows)).ravel())

    return SetStatistic(of, statistic.pool_size // windows)


def _cosine_statistic(stems: EmbeddingSet, target: EmbeddingSet) -> SetStatistic:
    return mean_statistic(pair_cosines(stems, target))


def _both(first: EmbeddingSet | None, second: EmbeddingSet | None) -> EmbeddingSet | None:
    if first is None or second is None:
        return None
    pool = stacked(first, second)
    assert isinstance(pool, EmbeddingSet)  # `stacked` keeps what it is given
    return pool


def _range(metric: str) -> tuple[float, float]:
    """Where the metric's scores can lie: an interval reaches no further."""
    if metric.startswith("density"):
        return 0.0, np.inf
    if metric.startswith("coverage"):
        return 0.0, 1.0
    return _RANGES.get(metric, (-np.inf, np.inf))


_RANGES = {
    "fad": (0.0, np.inf),
    "mixture_fad": (0.0, np.inf),
    "apa": (0.0, 1.0),
    "cs_aa": (-1.0, 1.0),
    "cs_ta": (-1.0, 1.0),
    "memorised": (0.0, 1.0),
}
