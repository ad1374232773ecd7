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
# With |a·b − product| ≤ slack (a² + b²) / 2 a squared distance lies between (1 ∓ slack)(a² + b²) − 2 product. Terms of
# one row go into its threshold and terms of one reference into its offset: a block of pairs is read three times.

BLOCK_PAIRS = 1_000_000  # products held at once: 4 MB
RECHECK_PAIRS = 512  # pairs measured again at once: 2 MB of differences at D = 512, which a core's cache holds
WITNESS_GROUPS = 64  # groups of references, the nearest of each of which bounds how far a row's neighbours reach
UNIT_ROUNDOFF = 2.0**-24  # of float32
UNDERFLOW = 1e-36  # below this, float32 products of rows scaled to norm <= 1 have lost their digits
FARTHEST = 1e15  # extents
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
    count = InsideCount(reference, candidate, ks)
    for block, product_BN in count.products():
        count.add(block, product_BN)
    return count.found()


class InsideCount:
    """Density and coverage in the making. Its products of pairs are public: the kernel distance is made of the same."""

    def __init__(self, reference: NeighbourhoodsLike, candidate: Vectors, ks: Sequence[int]) -> None:
        if not ks or min(ks) < 1:
            raise ValueError(f"neighbourhood sizes {tuple(ks)}: at least one k, each at least 1, is needed")
        around = reference if isinstance(reference, Neighbourhoods) else neighbourhoods(reference, max(ks))
        self.candidates = Candidates.of(around, candidate, max(ks))
        self._insides = dict.fromkeys(ks, 0)
        self._reached_N = {k: np.zeros(len(around.rows.vectors_ND), bool) for k in ks}

    def products(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Block by block, inner products (B, N) of candidates with all references, both in the references' frame."""
        return self.candidates.products()

    def add(self, block: slice, product_BN: NDArray[np.float32]) -> None:
        """Count the pairs of a block of candidates; the products are left as they are."""
        near = self.candidates.near(block, product_BN)
        for k in self._insides:
            reference_P = near.reference_P[self.candidates.inside(near, k)]
            self._insides[k] += len(reference_P)
            self._reached_N[k][reference_P] = True

    def found(self) -> dict[int, DensityCoverage]:
        """The metrics by k, once every block was added."""
        count = len(self.candidates.vectors_MD)
        return {
            k: DensityCoverage(insides / (k * count), float(self._reached_N[k].mean()))
            for k, insides in self._insides.items()
        }


def inside_pairs(
    reference: NeighbourhoodsLike, candidate: Vectors, k: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Candidate and reference (P,) of every pair whose candidate is inside at `k`: what both metrics count."""
    if k < 1:
        raise ValueError(f"neighbourhood size {k}: it must be at least 1")
    around = reference if isinstance(reference, Neighbourhoods) else neighbourhoods(reference, k)
    candidates = Candidates.of(around, candidate, k)
    blocks = [candidates.near(*products) for products in candidates.products()]
    inside = [candidates.inside(near, k) for near in blocks]
    candidate_P = np.concatenate([near.candidate_P[kept] for near, kept in zip(blocks, inside, strict=True)])
    reference_P = np.concatenate([near.reference_P[kept] for near, kept in zip(blocks, inside, strict=True)])
    return candidate_P, reference_P


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
    return merged_neighbourhoods(reference, [squared_radii(reference, slice(None), largest_k)])


def squared_radii(reference: Vectors, shard: slice, largest_k: int = LARGEST_K) -> NDArray[np.float64]:
    """Squared distances (rows of the shard, K) of its rows to their nearest other references, nearest first."""
    rows = checked(reference, what="reference of density and coverage")
    count = len(rows.vectors_ND)
    if largest_k >= count:
        raise ValueError(f"k = {largest_k} with {count} references: k must be less; lower k or add references")
    # No more than k + 1 copies of a row can matter: they fill each other's and everyone's k nearest.
    first_N, copy_N = _copies(rows.vectors_ND)
    kept = np.flatnonzero(copy_N <= largest_k)
    kept_ND = rows.vectors_ND[kept]
    coarse = _frame_of(kept_ND).coarse(kept_ND)
    distinct, of_row = np.unique(first_N[shard], return_inverse=True)
    own: NDArray[np.intp] = np.searchsorted(kept, np.asarray(distinct))
    radii = [_radii(kept_ND, coarse, own[block], largest_k) for block in _blocks(len(own), len(kept))]
    return np.concatenate(radii)[of_row]


def merged_neighbourhoods(reference: Vectors, radii: Sequence[NDArray[np.float64]]) -> Neighbourhoods:
    """The references with the `squared_radii` of shards in the order of their rows: bit for bit those of one pass."""
    rows = checked(reference, what="reference of density and coverage")
    squared_radii_NK = np.concatenate(radii)
    if len(squared_radii_NK) != len(rows.vectors_ND):
        raise ValueError(
            f"radii of {len(squared_radii_NK)} rows for {len(rows.vectors_ND)} references; give every shard"
        )
    frame = _frame_of(rows.vectors_ND)
    return Neighbourhoods(rows, frame, frame.coarse(rows.vectors_ND), squared_radii_NK)


class _Coarse(NamedTuple):
    """Rows in float32 about a common origin, with their squared norms."""

    vectors_ND: NDArray[np.float32]
    square_N: NDArray[np.float32]

    def only(self, rows: slice | NDArray[np.intp]) -> _Coarse:
        return _Coarse(self.vectors_ND[rows], self.square_N[rows])

    @property
    def slack(self) -> np.float32:
        """(D + 16) roundings: D for the product, the rest for norms, inputs, radii and sums."""
        return np.float32((self.vectors_ND.shape[1] + 16) * UNIT_ROUNDOFF)


class _Frame(NamedTuple):
    """Where float32 sees best: differences to the mean of the references, taken in float64, over their extent."""

    mean_D: NDArray[np.float64]
    extent: float

    def coarse(self, vectors_ND: Floats) -> _Coarse:
        coarse = _Coarse(np.empty(vectors_ND.shape, np.float32), np.empty(len(vectors_ND), np.float32))
        for block in _blocks(*vectors_ND.shape):
            centred_BD = (vectors_ND[block] - self.mean_D) / self.extent
            square_B = np.einsum("bd,bd->b", centred_BD, centred_BD)
            # Float32 squares near their ceiling beyond it: such rows are clipped, and lie outside anyway.
            shrink_B = np.minimum(1.0, FARTHEST / np.sqrt(np.maximum(square_B, 1e-300)))
            coarse.vectors_ND[block] = centred_BD if shrink_B.min() == 1.0 else centred_BD * shrink_B[:, None]
            coarse.square_N[block] = square_B * shrink_B**2
        return coarse


def _frame_of(reference_ND: Floats) -> _Frame:
    mean_D = reference_ND.mean(axis=0, dtype=np.float64)
    norms = [np.linalg.norm(reference_ND[block] - mean_D, axis=1).max() for block in _blocks(*reference_ND.shape)]
    return _Frame(mean_D, float(max(norms)) or 1.0)


def _copies(vectors_ND: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Per row, the first row that it equals (often itself), and how many equal rows stand before it."""
    rows = np.ascontiguousarray(vectors_ND + 0.0)  # −0 and 0 are one number but not the same bytes
    bytes_N = rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1]))).ravel()
    _, first_G, group_N = np.unique(bytes_N, return_index=True, return_inverse=True)
    order_N = np.argsort(group_N, kind="stable")
    start_G = np.searchsorted(group_N[order_N], np.arange(len(first_G)))
    copy_N = np.empty(len(rows), np.intp)
    copy_N[order_N] = np.arange(len(rows)) - start_G[group_N[order_N]]
    return first_G[group_N], copy_N


def _radii(vectors_ND: Floats, coarse: _Coarse, own_B: NDArray[np.intp], largest_k: int) -> NDArray[np.float64]:
    """Squared distances (B, K) of the rows `own_B` to the nearest other rows, nearest first."""
    own = coarse.only(own_B)
    nearness_BN = own.vectors_ND @ coarse.vectors_ND.T
    nearness_BN -= (1 - coarse.slack) / 2 * coarse.square_N
    in_block = np.arange(len(nearness_BN))
    nearness_BN[in_block, own_B] = -np.inf
    reach_B = _reach(nearness_BN, coarse, largest_k) - coarse.slack * own.square_N - np.float32(UNDERFLOW)
    row_P, other_P = _pairs(nearness_BN >= reach_B[:, None])
    squared_P = _squared_distances(vectors_ND, own_B[row_P], vectors_ND, other_P)
    order_P = np.lexsort((squared_P, row_P))
    first_B = np.searchsorted(row_P, in_block)
    return squared_P[order_P][first_B[:, None] + np.arange(largest_k)]


def _reach(nearness_BN: NDArray[np.float32], coarse: _Coarse, k: int) -> NDArray[np.float32]:
    """Per row, a nearness that at least k others surely have: the k-th best among the best of each group."""
    rows, count = nearness_BN.shape
    groups = min(count, max(WITNESS_GROUPS, k + 1))  # a row itself may be all of one group
    size = count // groups
    best_BG = nearness_BN[:, : groups * size].reshape(rows, groups, size).argmax(axis=2) + np.arange(groups) * size
    sure_BG = np.take_along_axis(nearness_BN, best_BG, axis=1) - coarse.slack * coarse.square_N[best_BG]
    return np.partition(sure_BG, groups - k, axis=1)[:, groups - k]


class _Near(NamedTuple):
    """Pairs that may be nearer than the largest radius, with what float32 knows of their squared distance."""

    candidate_P: NDArray[np.intp]
    reference_P: NDArray[np.intp]
    squared_P: NDArray[np.float64]  # in units of the data
    error_P: NDArray[np.float64]


class Candidates(NamedTuple):
    """Candidates before the neighbourhoods of references: which pairs may be inside, and which are."""

    around: Neighbourhoods
    vectors_MD: Floats
    coarse: _Coarse
    offset_N: NDArray[np.float32]  # half of what a reference asks for: its own square less the largest squared radius

    @classmethod
    def of(cls, around: Neighbourhoods, candidate: Vectors, largest_k: int) -> Candidates:
        around.require(largest_k)
        rows = checked(candidate, what="candidate of density and coverage")
        require_one_space(around, rows)
        references, radius_N = around.coarse, around.squared_radii_NK[:, largest_k - 1]
        # Nothing is strictly inside a radius of zero, however many duplicates a reference has.
        scaled_radius_N = np.where(radius_N > 0, radius_N / around.frame.extent**2, -np.inf).astype(np.float32)
        offset_N = ((1 - references.slack) * references.square_N - scaled_radius_N) / 2
        return cls(around, rows.vectors_ND, around.frame.coarse(rows.vectors_ND), offset_N)

    @property
    def clipped(self) -> bool:
        """Whether some candidates are too far for float32, so that their products are not what they stand for."""
        return bool(self.coarse.square_N.max() >= 0.99 * FARTHEST**2)

    def products(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        references_ND = self.around.coarse.vectors_ND
        for block in _blocks(len(self.vectors_MD), len(references_ND)):
            yield block, self.coarse.vectors_ND[block] @ references_ND.T

    def near(self, block: slice, product_BN: NDArray[np.float32]) -> _Near:
        """Every pair of the block whose candidate may be inside its reference at the largest k."""
        references, own = self.around.coarse, self.coarse.only(block)
        needed_B = (1 - references.slack) / 2 * own.square_N - np.float32(UNDERFLOW)
        row_P, reference_P = _pairs(product_BN - self.offset_N >= needed_B[:, None])
        sum_P = own.square_N[row_P].astype(np.float64) + references.square_N[reference_P]
        extent_squared = self.around.frame.extent**2
        squared_P = (sum_P - 2.0 * product_BN[row_P, reference_P]) * extent_squared
        error_P = (float(references.slack) * sum_P + UNDERFLOW) * extent_squared
        return _Near(row_P + block.start, reference_P, squared_P, error_P)

    def inside(self, near: _Near, k: int) -> NDArray[np.bool_]:
        """Which of the pairs are inside at k."""
        radius_P = self.around.squared_radii_NK[near.reference_P, k - 1]
        inside_P = near.squared_P + near.error_P < radius_P
        open_P = np.flatnonzero(~inside_P & (near.squared_P - near.error_P <= radius_P))
        candidate_P, reference_P = near.candidate_P[open_P], near.reference_P[open_P]
        squared_P = _squared_distances(self.vectors_MD, candidate_P, self.around.rows.vectors_ND, reference_P)
        inside_P[open_P] = squared_P < radius_P[open_P]
        return inside_P


def _pairs(selected_BN: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Row and column of what is selected, row by row; six times faster than np.nonzero where that is little."""
    row_P, column_P = np.divmod(np.flatnonzero(selected_BN), selected_BN.shape[1])
    return row_P, column_P


def _squared_distances(a_MD: Floats, a_P: NDArray[np.intp], b_ND: Floats, b_P: NDArray[np.intp]) -> NDArray[np.float64]:
    """Squared distances of the pairs (a_P, b_P) from float64 differences; the same whichever row comes first."""
    squared_P = np.empty(len(a_P))
    for start in range(0, len(a_P), RECHECK_PAIRS):
        pairs = slice(start, start + RECHECK_PAIRS)
        difference_PD = np.subtract(a_MD[a_P[pairs]], b_ND[b_P[pairs]], dtype=np.float64)
        squared_P[pairs] = np.einsum("pd,pd->p", difference_PD, difference_PD)
    return squared_P


def _blocks(count: int, against: int) -> Iterator[slice]:
    """Row ranges whose pairs with `against` rows fit into one block."""
    step = max(1, BLOCK_PAIRS // against)
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))
