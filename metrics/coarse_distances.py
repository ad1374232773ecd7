"""Squared distances at the cost of float32 with the answers of float64: a bound on the error, and a second look.

Distances come from float32 products with a bound on their error; every comparison that the bound leaves open is made
again from float64 differences. The counts are therefore those of float64. With |a·b − product| ≤ slack (a² + b²) / 2 a
squared distance lies between (1 ∓ slack)(a² + b²) − 2 product. Terms of one row go into its threshold and terms of one
reference into its offset: a block of pairs is read three times.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from metrics.embeddings import Floats

# Shapes: N rows of a set, M rows of another, D width of the space, B rows of a block, P pairs.

BLOCK_PAIRS = 1_000_000  # products held at once: 4 MB
RECHECK_PAIRS = 512  # pairs measured again at once: 2 MB of differences at D = 512, which a core's cache holds
UNIT_ROUNDOFF = 2.0**-24  # of float32
UNDERFLOW = 1e-36  # below this, float32 products of rows scaled to norm <= 1 have lost their digits
FARTHEST = 1e15  # extents


class Coarse(NamedTuple):
    """Rows in float32 about a common origin, with their squared norms."""

    vectors_ND: NDArray[np.float32]
    square_N: NDArray[np.float32]

    def only(self, rows: slice | NDArray[np.intp]) -> Coarse:
        return Coarse(self.vectors_ND[rows], self.square_N[rows])

    @property
    def slack(self) -> np.float32:
        """(D + 16) roundings: D for the product, the rest for norms, inputs, radii and sums."""
        return np.float32((self.vectors_ND.shape[1] + 16) * UNIT_ROUNDOFF)


class Frame(NamedTuple):
    """Where float32 sees best: differences to the mean of the references, taken in float64, over their extent."""

    mean_D: NDArray[np.float64]
    extent: float

    def coarse(self, vectors_ND: Floats) -> Coarse:
        coarse = Coarse(np.empty(vectors_ND.shape, np.float32), np.empty(len(vectors_ND), np.float32))
        for block in blocks(*vectors_ND.shape):
            centred_BD = (vectors_ND[block] - self.mean_D) / self.extent
            square_B = np.einsum("bd,bd->b", centred_BD, centred_BD)
            # Float32 squares near their ceiling beyond it: such rows are clipped, and lie outside anyway.
            shrink_B = np.minimum(1.0, FARTHEST / np.sqrt(np.maximum(square_B, 1e-300)))
            coarse.vectors_ND[block] = centred_BD if shrink_B.min() == 1.0 else centred_BD * shrink_B[:, None]
            coarse.square_N[block] = square_B * shrink_B**2
        return coarse


def frame_of(reference_ND: Floats) -> Frame:
    mean_D = reference_ND.mean(axis=0, dtype=np.float64)
    norms = [np.linalg.norm(reference_ND[block] - mean_D, axis=1).max() for block in blocks(*reference_ND.shape)]
    return Frame(mean_D, float(max(norms)) or 1.0)


def selected_pairs(selected_BN: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Row and column of what is selected, row by row; six times faster than np.nonzero where that is little."""
    row_P, column_P = np.divmod(np.flatnonzero(selected_BN), selected_BN.shape[1])
    return row_P, column_P


def squared_distances(a_MD: Floats, a_P: NDArray[np.intp], b_ND: Floats, b_P: NDArray[np.intp]) -> NDArray[np.float64]:
    """Squared distances of the pairs (a_P, b_P) from float64 differences; the same whichever row comes first."""
    squared_P = np.empty(len(a_P))
    for start in range(0, len(a_P), RECHECK_PAIRS):
        pairs = slice(start, start + RECHECK_PAIRS)
        difference_PD = np.subtract(a_MD[a_P[pairs]], b_ND[b_P[pairs]], dtype=np.float64)
        squared_P[pairs] = np.einsum("pd,pd->p", difference_PD, difference_PD)
    return squared_P


def blocks(count: int, against: int) -> Iterator[slice]:
    """Row ranges whose pairs with `against` rows fit into one block."""
    step = max(1, BLOCK_PAIRS // against)
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))
