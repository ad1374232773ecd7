"""KD, FAD, density and coverage of one candidate set, from one pass over its pairs with the references."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from metrics.density_coverage import Candidates, DensityCoverage, InsideCount
from metrics.embeddings import Vectors
from metrics.frechet import frechet_distance, gaussian
from metrics.kernel import FLOAT32_LIMIT, curved_sum, kernel_distance, kernel_set
from metrics.reference_state import ReferenceState

# Shapes: N references, M candidates, B of them in a block, D width of the space.


class SetDistances(NamedTuple):
    """Every metric of the stems alone."""

    kernel_distance: float
    frechet_distance: float
    densities_and_coverages: dict[int, DensityCoverage]


def set_distances(reference: ReferenceState, candidate: Vectors, ks: Sequence[int]) -> SetDistances:
    """What `kernel_distance`, `frechet_distance` and `densities_and_coverages` give, at the cost of one of them.

    KD and neighbourhoods both ask for the products of all pairs: they are made once. Counts are exact, KD is that of
    float64 to rounding. The state needs neighbourhoods.
    """
    count = InsideCount(reference.around, candidate, ks)
    fitted, ours = gaussian(candidate, "candidate"), kernel_set(candidate, "candidate")
    curved = _CurvedSum(count.candidates) if _keeps_digits(count.candidates) else None
    for block, product_BN in count.products():
        count.add(block, product_BN)
        if curved:
            curved.add(block, product_BN)
    if curved:
        straight = 3.0 * float(reference.gaussian.mean_D @ fitted.mean_D) / fitted.width
        across = straight + curved.total / (len(ours.vectors_ND) * len(reference.kernel.vectors_ND))
        distance = reference.kernel.mean_within + ours.mean_within - 2.0 * across
    else:
        distance = kernel_distance(reference.kernel, ours)
    return SetDistances(distance, frechet_distance(reference.gaussian, fitted), count.found())


def _keeps_digits(candidates: Candidates) -> bool:
    """Whether products in float32 are good enough for the kernel: the largest |x·y| / D must be small."""
    frame, farthest = candidates.around.frame, float(np.sqrt(candidates.coarse.square_N.max()))
    norm = float(np.linalg.norm(frame.mean_D))
    largest = (norm + frame.extent) * (norm + frame.extent * farthest) / len(frame.mean_D)
    return largest <= FLOAT32_LIMIT and not candidates.clipped


class _CurvedSum:
    """The sum of t²(3 + t) over pairs, the part of the kernel that needs them; t = x·y / D.

    From products p = (x − m)·(y − m) / e², of candidates y with references x about their mean m and over their extent
    e: t = (e² p + (x − m)·m + (y − m)·m + m·m) / D.
    """

    def __init__(self, candidates: Candidates) -> None:
        frame, width = candidates.around.frame, len(candidates.around.frame.mean_D)
        along_D = (frame.extent * frame.mean_D / width).astype(np.float32)
        self.total = 0.0
        self._scale = np.float32(frame.extent**2 / width)
        self._reference_N = candidates.around.coarse.vectors_ND @ along_D
        self._candidate_M = candidates.coarse.vectors_ND @ along_D + np.float32(frame.mean_D @ frame.mean_D / width)

    def add(self, block: slice, product_BN: NDArray[np.float32]) -> None:
        """Add the pairs of a block of candidates; the products are overwritten."""
        product_BN *= self._scale
        product_BN += self._reference_N
        product_BN += self._candidate_M[block, None]
        self.total += curved_sum(product_BN)
