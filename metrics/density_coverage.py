"""Density and coverage: how many candidates fall among the references, and how many references they reach."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from metrics.embeddings import Checked, Floats, Space, Vectors, checked, require_one_space

# Shapes: N references, M candidates, D width of the space, K neighbours, P pairs measured again.
# Distances come from float32 products with a bound on their error; every comparison that the bound leaves open is
# made again from float64 differences. The counts are therefore those of float64 at the cost of float32.

BLOCK_PAIRS = 1_000_000  # distances held at once: two float32 bounds of 4 MB each
RECHECK_PAIRS = 16_384  # pairs measured again at once: 64 MB of differences at D = 512
UNIT_ROUNDOFF = 2.0**-24  # of float32
UNDERFLOW = 1e-36  # below this, float32 products of rows scaled to norm <= 1 have lost their digits
LARGEST_K = 10  # audio-metrics' largest neighbourhood; radii up to it cost one pass


class DensityCoverage(NamedTuple):
    """Density (about 1 for equal distributions, may exceed 1) and coverage (0 to 1); raw, not in percent."""

    density: float
    coverage: float


def density_coverage(reference: NeighbourhoodsLike, candidate: Vectors, k: int) -> DensityCoverage:
    """Density and coverage at one neighbourhood size `k`. Source: Naeem et al. 2020; metrics.md A4."""
    return densities_and_coverages(reference, candidate, (k,))[k]


def densities_and_coverages(
    reference: NeighbourhoodsLike, candidate: Vectors, ks: Sequence[int]
) -> dict[int, DensityCoverage]:
    """Density and coverage at each of `ks`, from one pass over the pairs.

    A candidate is inside reference i if it is strictly nearer than i's k-th nearest other reference. Density is the
    number of insides over k·M; coverage is the share of references with a candidate inside.
    """
    if not ks or min(ks) < 1:
        raise ValueError(f"neighbourhood sizes {tuple(ks)}: at least one k, each at least 1, is needed")
    around = reference if isinstance(reference, Neighbourhoods) else neighbourhoods(reference, max(ks))
    around.require(max(ks))
    rows = checked(candidate, what="candidate of density and coverage")
    require_one_space(around, rows)
    inside_count = dict.fromkeys(ks, 0)
    reached_N = {k: np.zeros(len(around.rows.vectors_ND), bool) for k in ks}
    for inside_of in _insides(around, rows.vectors_ND, ks):
        for k, inside_MN in inside_of.items():
            inside_count[k] += int(inside_MN.sum())
            reached_N[k] |= inside_MN.any(axis=0)
    candidates = len(rows.vectors_ND)
    return {k: DensityCoverage(inside_count[k] / (k * candidates), float(reached_N[k].mean())) for k in ks}


@dataclass(frozen=True, eq=False)
class Neighbourhoods:
    """References with the squared distances to their nearest other references, nearest first, exact in float64."""

    rows: Checked
    frame: _Frame
    coarse: _Coarse
    squared_radii_NK: NDArray[np.float64]

    @property
    def width(self) -> int:
        return self.rows.width

    @property
    def space(self) -> Space | None:
        return self.rows.space

    def require(self, k: int) -> None:
        """Nothing if radii are known for neighbourhoods of `k`; an error otherwise."""
        if k > self.squared_radii_NK.shape[1]:
            known = self.squared_radii_NK.shape[1]
            raise ValueError(f"k = {k}, but the radii of the references go to k = {known}; compute them for {k}")


NeighbourhoodsLike: TypeAlias = Vectors | Neighbourhoods
"""A reference set, or its radii computed once and used again."""


def neighbourhoods(reference: Vectors, largest_k: int = LARGEST_K) -> Neighbourhoods:
    """The radii of every reference for k = 1 … `largest_k`, the reference itself excluded."""
    rows = checked(reference, what="reference of density and coverage")
    count = len(rows.vectors_ND)
    if largest_k >= count:
        raise ValueError(f"k = {largest_k} with {count} references: k must be less; lower k or add references")
    frame = _frame_of(rows.vectors_ND)
    coarse = frame.coarse(rows.vectors_ND)
    radii = [_radii(rows.vectors_ND, coarse, block, largest_k) for block in _blocks(count, count)]
    return Neighbourhoods(rows, frame, coarse, np.concatenate(radii))


class _Coarse(NamedTuple):
    """Rows in float32 about a common origin, with their squared norms."""

    vectors_ND: NDArray[np.float32]
    square_N: NDArray[np.float32]


class _Frame(NamedTuple):
    """Where float32 sees best: differences to a row (exact for a large offset), then to the mean, over the extent."""

    row_D: NDArray[np.float64]
    mean_D: NDArray[np.float64]
    extent: float

    def coarse(self, vectors_ND: Floats) -> _Coarse:
        centred_ND = ((vectors_ND - self.row_D) - self.mean_D) / self.extent
        square_N = np.einsum("nd,nd->n", centred_ND, centred_ND)
        # Beyond 1e15 extents float32 squares near their ceiling: such rows are clipped, and lie outside all the same.
        shrink_N = np.minimum(1.0, 1e15 / np.sqrt(np.maximum(square_N, 1e-300)))
        kept_ND = (centred_ND * shrink_N[:, None]).astype(np.float32)
        return _Coarse(kept_ND, (square_N * shrink_N**2).astype(np.float32))


def _frame_of(reference_ND: Floats) -> _Frame:
    row_D = reference_ND[0].astype(np.float64)
    shifted_ND = reference_ND - row_D
    mean_D = shifted_ND.mean(axis=0)
    extent = float(np.linalg.norm(shifted_ND - mean_D, axis=1).max())
    return _Frame(row_D, mean_D, extent if extent > 0 else 1.0)


class _Bounds(NamedTuple):
    """Bounds below and above each squared distance between two sets of coarse rows, in units of the extent."""

    below_MN: NDArray[np.float32]
    above_MN: NDArray[np.float32]


def _bounds(a: _Coarse, b: _Coarse) -> _Bounds:
    """a² + b² − 2a·b within (D + 16) roundings of a² + b²: D for the product, the rest for norms, inputs, radii."""
    product_MN = a.vectors_ND @ b.vectors_ND.T
    product_MN *= -2.0
    slack = np.float32((a.vectors_ND.shape[1] + 16) * UNIT_ROUNDOFF)
    below_MN = product_MN + ((1 - slack) * a.square_N - np.float32(UNDERFLOW))[:, None]
    below_MN += (1 - slack) * b.square_N
    product_MN += ((1 + slack) * a.square_N + np.float32(UNDERFLOW))[:, None]
    product_MN += (1 + slack) * b.square_N
    return _Bounds(below_MN, product_MN)


def _radii(vectors_ND: Floats, coarse: _Coarse, block: slice, largest_k: int) -> NDArray[np.float64]:
    """Squared distances (rows of the block, K) to the nearest other rows, nearest first."""
    own = _Coarse(coarse.vectors_ND[block], coarse.square_N[block])
    bounds = _bounds(own, coarse)
    in_block = np.arange(block.stop - block.start)
    bounds.above_MN[in_block, in_block + block.start] = np.inf
    bounds.below_MN[in_block, in_block + block.start] = np.inf
    # At least k rows lie within the k-th smallest upper bound, so nothing further below it can be among the nearest.
    reach_B = np.partition(bounds.above_MN, largest_k - 1, axis=1)[:, largest_k - 1]
    row_P, other_P = np.nonzero(bounds.below_MN <= reach_B[:, None])
    squared_P = _squared_distances(vectors_ND[block], row_P, vectors_ND, other_P)
    order_P = np.lexsort((squared_P, row_P))
    first_B = np.searchsorted(row_P, in_block)  # np.nonzero lists the rows in order
    return squared_P[order_P][first_B[:, None] + np.arange(largest_k)]


def _insides(around: Neighbourhoods, candidate_MD: Floats, ks: Sequence[int]) -> Iterator[dict[int, NDArray[np.bool_]]]:
    """Per block of candidates, whether each candidate (M) is inside each reference (N), for every k."""
    reference_ND = around.rows.vectors_ND
    coarse = around.frame.coarse(candidate_MD)
    for block in _blocks(len(candidate_MD), len(reference_ND)):
        bounds = _bounds(_Coarse(coarse.vectors_ND[block], coarse.square_N[block]), around.coarse)
        yield {k: _inside(around, candidate_MD[block], bounds, k) for k in ks}


def _inside(around: Neighbourhoods, candidate_MD: Floats, bounds: _Bounds, k: int) -> NDArray[np.bool_]:
    radius_N = around.squared_radii_NK[:, k - 1]
    coarse_radius_N = (radius_N / around.frame.extent**2).astype(np.float32)
    inside_MN = bounds.above_MN < coarse_radius_N
    # Nothing is strictly inside a radius of zero, however many duplicates a reference has.
    open_MN = (bounds.below_MN <= coarse_radius_N) & ~inside_MN & (radius_N > 0)
    row_P, reference_P = np.nonzero(open_MN)
    squared_P = _squared_distances(candidate_MD, row_P, around.rows.vectors_ND, reference_P)
    inside_MN[row_P, reference_P] = squared_P < radius_N[reference_P]
    return inside_MN


def _squared_distances(a_MD: Floats, a_P: NDArray[np.intp], b_ND: Floats, b_P: NDArray[np.intp]) -> NDArray[np.float64]:
    """Squared distances of the pairs (a_P, b_P) from float64 differences; the same whichever row comes first."""
    squared_P = np.empty(len(a_P))
    for start in range(0, len(a_P), RECHECK_PAIRS):
        pairs = slice(start, start + RECHECK_PAIRS)
        difference_PD = a_MD[a_P[pairs]].astype(np.float64) - b_ND[b_P[pairs]]
        squared_P[pairs] = np.square(difference_PD).sum(axis=1)
    return squared_P


def _blocks(count: int, against: int) -> Iterator[slice]:
    """Row ranges whose pairs with `against` rows fit into one block."""
    step = max(1, BLOCK_PAIRS // against)
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))
