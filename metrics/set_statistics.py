"""Each metric as a function of which rows are in the set: what leaving tracks out or swapping arms asks for.

A statistic is built once from references and a pool of rows, and then asked for many choices of rows. What every choice
shares (kernel products, hits of neighbourhoods, cosines) is computed when it is built.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metrics.density_coverage import inside_pairs
from metrics.embeddings import EmbeddingSet, Vectors, checked, require_one_space
from metrics.frechet import GaussianLike, as_gaussian, frechet_distance, gaussian
from metrics.kernel import KernelLike, KernelSet, kernel_set
from metrics.neighbourhoods import Neighbourhoods, NeighbourhoodsLike, neighbourhoods

# Shapes: N references, M rows of the pool, D width of the space, R chosen rows, B batches.

BLOCK_ROWS = 1024  # references whose products with the pool are held at once

Rows: TypeAlias = NDArray[np.intp]
"""Rows of a pool, each at most once: a row given twice is a duplicate to KD, FAD and coverage, which it biases."""


@dataclass(frozen=True, eq=False)
class SetStatistic:
    """The value of a metric on chosen rows of a pool, and how many rows the pool has."""

    of: Callable[[Rows], float]
    pool_size: int

    def __call__(self, chosen_R: Rows) -> float:
        return self.of(chosen_R)


def frechet_statistic(reference: GaussianLike, pool: Vectors) -> SetStatistic:
    """FAD of the chosen rows."""
    fitted = as_gaussian(reference, "reference")
    rows = checked(pool, what="pool of the Fréchet distance", at_least=2)
    require_one_space(fitted, rows)
    return SetStatistic(lambda chosen_R: frechet_distance(fitted, rows.vectors_ND[chosen_R]), len(pool))


def adherence_statistic(reference: GaussianLike, mispaired: GaussianLike, pool: Vectors) -> SetStatistic:
    """APA of the chosen rows before it is clipped: clip the value and the ends of its interval, not what lies under it.

    A clipped value that saturates does not move when tracks are left out, and its interval would be empty.
    """
    true, wrong = as_gaussian(reference, "reference mixtures"), as_gaussian(mispaired, "mispaired references")
    separation = frechet_distance(true, wrong)
    if separation <= 0:
        raise ValueError(f"true and mispaired references are {separation} apart; mispair with other tracks' stems")
    rows = checked(pool, what="pool of mixtures", at_least=2)
    require_one_space(true, rows)

    def unclipped(chosen_R: Rows) -> float:
        ours = gaussian(rows.vectors_ND[chosen_R], "the chosen mixtures")
        return 0.5 + (frechet_distance(wrong, ours) - frechet_distance(true, ours)) / (2.0 * separation)

    return SetStatistic(unclipped, len(pool))


def kernel_statistic(reference: KernelLike, pool: Vectors) -> SetStatistic:
    """KD of the chosen rows, from products of the pool (M × M in float64) that are made once."""
    kept = reference if isinstance(reference, KernelSet) else kernel_set(reference, "reference")
    rows = checked(pool, what="pool of the kernel distance", at_least=2)
    require_one_space(kept, rows)
    pool_MD = rows.vectors_ND.astype(np.float64)
    across_M = np.zeros(len(pool_MD))
    for start in range(0, len(kept.vectors_ND), BLOCK_ROWS):
        block_BD = kept.vectors_ND[start : start + BLOCK_ROWS].astype(np.float64)
        across_M += _kernel_less_one(pool_MD @ block_BD.T / rows.width).sum(axis=1)
    within_MM = _kernel_less_one(pool_MD @ pool_MD.T / rows.width)
    return unbiased_statistic(within_MM, across_M / len(kept.vectors_ND), kept.mean_within)


def kernel_contrast_statistic(reference: KernelLike, mispaired: KernelLike, pool: Vectors) -> SetStatistic:
    """KD(C, R') − KD(C, R) of the chosen rows: above zero if they are nearer to true pairs than to mispaired ones.

    Not clamped: a clamped ratio of kernel distances only ever shows 0, 1/2 or 1 (laptop_scale.md, pitfall 6).
    """
    to_true, to_mispaired = kernel_statistic(reference, pool), kernel_statistic(mispaired, pool)
    return SetStatistic(lambda chosen_R: to_mispaired(chosen_R) - to_true(chosen_R), len(pool))


def density_statistic(reference: NeighbourhoodsLike, pool: Vectors, k: int) -> SetStatistic:
    """Density of the chosen rows at neighbourhood size `k`: a mean over them."""
    candidate_P, _ = inside_pairs(reference, pool, k)
    return mean_statistic(np.bincount(candidate_P, minlength=len(pool)) / k)


def coverage_statistic(reference: NeighbourhoodsLike, pool: Vectors, k: int) -> SetStatistic:
    """Coverage by the chosen rows at neighbourhood size `k`."""
    around = reference if isinstance(reference, Neighbourhoods) else neighbourhoods(reference, k)
    candidate_P, reference_P = inside_pairs(around, pool, k)
    references, count = len(around.rows.vectors_ND), len(pool)

    def coverage(chosen_R: Rows) -> float:
        is_chosen_M = np.zeros(count, bool)
        is_chosen_M[chosen_R] = True
        reached_N = np.zeros(references, bool)
        reached_N[reference_P[is_chosen_M[candidate_P]]] = True
        return float(reached_N.mean())

    return SetStatistic(coverage, count)


def mean_statistic(values: ArrayLike) -> SetStatistic:
    """The mean over the chosen rows of a value per row: CLAP scores (`clap_score.pair_cosines`), agreements."""
    values_M = np.asarray(values, dtype=np.float64)
    if values_M.ndim != 1 or not np.isfinite(values_M).all():
        raise ValueError(f"one finite value per row is needed, not an array of shape {values_M.shape} with NaN or more")
    return SetStatistic(lambda chosen_R: float(values_M[chosen_R].mean()), len(values_M))


def batch_mean(statistic: SetStatistic, batch_of_row: Sequence[int] | NDArray[np.intp]) -> SetStatistic:
    """The mean of a statistic over batches of the chosen rows: a cell of the table, which is a mean of five."""
    batch_M = np.asarray(batch_of_row)
    if len(batch_M) != statistic.pool_size:
        raise ValueError(f"batches of {len(batch_M)} rows for a pool of {statistic.pool_size}; give each row's batch")
    batches = np.unique(batch_M)

    def mean(chosen_R: Rows) -> float:
        return float(np.mean([statistic(chosen_R[batch_M[chosen_R] == batch]) for batch in batches]))

    return SetStatistic(mean, statistic.pool_size)


def stacked(*sets: Vectors) -> Vectors:
    """The rows of several sets below one another, as one pool; an error if their spaces or contents differ."""
    rows = [checked(one, what=f"set {place} of the pool") for place, one in enumerate(sets)]
    for other in rows[1:]:
        require_one_space(rows[0], other)
    pool_MD = np.concatenate([one.vectors_ND for one in rows])
    known = [one for one in sets if isinstance(one, EmbeddingSet)]
    if len(known) < len(sets):
        return pool_MD
    if len({one.content for one in known}) > 1:
        raise ValueError(f"one pool cannot hold {', '.join(sorted({one.content for one in known}))} embeddings")
    names = tuple(f"{place}/{item}" for place, one in enumerate(known) for item in one.ids)
    return EmbeddingSet(vectors_ND=pool_MD, ids=names, space=known[0].space, content=known[0].content)


def unbiased_statistic(
    within_MM: NDArray[np.float64], across_M: NDArray[np.float64], reference_within: float
) -> SetStatistic:
    """MMD² of the chosen rows, given kernel values within the pool and the mean of each row's with the references."""
    diagonal_M = np.diagonal(within_MM)

    def distance(chosen_R: Rows) -> float:
        count = len(chosen_R)
        if count < 2:
            raise ValueError(f"{count} row(s) chosen where a kernel distance needs at least 2")
        times_M = np.bincount(chosen_R, minlength=len(within_MM)).astype(np.float64)
        others = times_M @ (within_MM @ times_M) - diagonal_M @ times_M
        return float(reference_within + others / (count * (count - 1)) - 2.0 * across_M[chosen_R].mean())

    return SetStatistic(distance, len(within_MM))


def _kernel_less_one(t: NDArray[np.float64]) -> NDArray[np.float64]:
    return t * (3.0 + t * (3.0 + t))  # (t + 1)³ − 1, as in metrics.kernel
