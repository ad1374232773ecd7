"""The kernel audio distance (KAD): MMD² with a Gaussian kernel as wide as the references are apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from metrics.embeddings import Checked, Space, Vectors, checked, require_one_space
from metrics.set_statistics import SetStatistic, unbiased_statistic

# Shapes: N references, M candidates, D width of the space, B rows of a block.

MEDIAN_ROWS = 5000  # of more references, as many evenly spaced ones give the bandwidth: 12.5 million distances
BLOCK_ROWS = 256  # rows whose distances to all others are held at once
BLOCK_PAIRS = 4_000_000  # kernel values held at once: 32 MB


def kernel_audio_distance(reference: KadReferenceLike, candidate: Vectors) -> float:
    """Mean k over pairs of different rows within each set, less twice its mean across; unbiased, so it may be negative.

    k(x, y) = exp(−‖x − y‖² / 2σ²), σ the median distance between references: one σ for all arms that meet the same
    references. Source: Chung et al. 2025 (arXiv 2502.15602). Departure: raw; published figures are × 100.
    """
    around = _as_kad_reference(reference)
    rows = checked(candidate, what="candidate of KAD", at_least=2)
    require_one_space(around, rows)
    ours_MD = around.centred(rows)
    across = _kernel_sum(ours_MD, around.vectors_ND, around.bandwidth) / (len(ours_MD) * len(around.vectors_ND))
    return float(around.mean_within + _mean_within(ours_MD, around.bandwidth) - 2.0 * across)


def kad_statistic(reference: KadReferenceLike, pool: Vectors) -> SetStatistic:
    """KAD as a function of the chosen rows of a pool, for intervals and comparisons; M × M values in memory."""
    around = _as_kad_reference(reference)
    rows = checked(pool, what="pool of KAD", at_least=2)
    require_one_space(around, rows)
    pool_MD = around.centred(rows)
    within_MM = np.concatenate(list(_kernel_blocks(pool_MD, pool_MD, around.bandwidth)))
    across = [block.mean(axis=1) for block in _kernel_blocks(pool_MD, around.vectors_ND, around.bandwidth)]
    return unbiased_statistic(within_MM, np.concatenate(across), around.mean_within)


@dataclass(frozen=True, eq=False)
class KadReference:
    """References about their mean, with the bandwidth and the mean kernel that are the same for every candidate."""

    mean_D: NDArray[np.float64]
    vectors_ND: NDArray[np.float64]
    bandwidth: float
    mean_within: float
    space: Space | None

    @property
    def width(self) -> int:
        return int(self.vectors_ND.shape[1])

    def centred(self, rows: Checked) -> NDArray[np.float64]:
        """Rows about the mean of the references: distances from products keep their digits far from the origin."""
        return rows.vectors_ND - self.mean_D


KadReferenceLike: TypeAlias = Vectors | KadReference
"""A reference set, or what KAD needs of it computed once and used again."""


def kad_reference(reference: Vectors) -> KadReference:
    """The references with their own bandwidth and kernel sum; an error where over half of all distances are zero."""
    rows = checked(reference, what="reference of KAD", at_least=2)
    mean_D = rows.vectors_ND.mean(axis=0, dtype=np.float64)
    centred_ND = rows.vectors_ND - mean_D
    bandwidth = median_distance(centred_ND)
    if bandwidth == 0:
        raise ValueError(f"the median distance of {len(centred_ND)} references is 0: take duplicates out")
    return KadReference(mean_D, centred_ND, bandwidth, _mean_within(centred_ND, bandwidth), rows.space)


def median_distance(vectors_ND: NDArray[np.float64]) -> float:
    """The median Euclidean distance between different rows; of evenly spaced rows where there are very many."""
    count = min(len(vectors_ND), MEDIAN_ROWS)
    spaced_ND = vectors_ND[np.linspace(0, len(vectors_ND) - 1, count).round().astype(np.intp)]
    row_N = np.arange(count)
    squared: list[NDArray[np.float64]] = []
    for start in range(0, count, BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        squared_BN = _squared_distances(spaced_ND[block], spaced_ND)
        squared.append(squared_BN[row_N > row_N[block, None]])  # each pair once
    return float(np.sqrt(np.median(np.concatenate(squared))))


def _mean_within(vectors_ND: NDArray[np.float64], bandwidth: float) -> float:
    """The mean kernel over pairs of different rows; that of a row with itself is 1."""
    count = len(vectors_ND)
    return (_kernel_sum(vectors_ND, vectors_ND, bandwidth) - count) / (count * (count - 1))


def _kernel_sum(a_MD: NDArray[np.float64], b_ND: NDArray[np.float64], bandwidth: float) -> float:
    return float(sum(block.sum() for block in _kernel_blocks(a_MD, b_ND, bandwidth)))


def _kernel_blocks(
    a_MD: NDArray[np.float64], b_ND: NDArray[np.float64], bandwidth: float
) -> Iterator[NDArray[np.float64]]:
    """Kernel values (B, N) of blocks of rows of `a` with all of `b`."""
    step = max(1, BLOCK_PAIRS // len(b_ND))
    for start in range(0, len(a_MD), step):
        yield np.exp(_squared_distances(a_MD[start : start + step], b_ND) / (-2.0 * bandwidth**2))


def _squared_distances(a_BD: NDArray[np.float64], b_ND: NDArray[np.float64]) -> NDArray[np.float64]:
    squared_BN = a_BD @ b_ND.T
    squared_BN *= -2.0
    squared_BN += np.einsum("bd,bd->b", a_BD, a_BD)[:, None] + np.einsum("nd,nd->n", b_ND, b_ND)
    return np.maximum(squared_BN, 0.0, out=squared_BN)


def _as_kad_reference(reference: KadReferenceLike) -> KadReference:
    return reference if isinstance(reference, KadReference) else kad_reference(reference)
