"""Density and coverage: how many candidates fall among the references, and how many references they reach."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from metrics.coarse_distances import FARTHEST, UNDERFLOW, Coarse, blocks, selected_pairs, squared_distances
from metrics.embeddings import Floats, Vectors, checked, require_one_space
from metrics.neighbourhoods import Neighbourhoods, NeighbourhoodsLike, neighbourhoods

# Shapes: N references, M candidates, D width of the space, B candidates of a block, P pairs.


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
    near_ones = [candidates.near(*products) for products in candidates.products()]
    inside = [candidates.inside(near, k) for near in near_ones]
    candidate_P = np.concatenate([near.candidate_P[kept] for near, kept in zip(near_ones, inside, strict=True)])
    reference_P = np.concatenate([near.reference_P[kept] for near, kept in zip(near_ones, inside, strict=True)])
    return candidate_P, reference_P


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
    coarse: Coarse
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
        for block in blocks(len(self.vectors_MD), len(references_ND)):
            yield block, self.coarse.vectors_ND[block] @ references_ND.T

    def near(self, block: slice, product_BN: NDArray[np.float32]) -> _Near:
        """Every pair of the block whose candidate may be inside its reference at the largest k."""
        references, own = self.around.coarse, self.coarse.only(block)
        needed_B = (1 - references.slack) / 2 * own.square_N - np.float32(UNDERFLOW)
        row_P, reference_P = selected_pairs(product_BN - self.offset_N >= needed_B[:, None])
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
        squared_P = squared_distances(self.vectors_MD, candidate_P, self.around.rows.vectors_ND, reference_P)
        inside_P[open_P] = squared_P < radius_P[open_P]
        return inside_P
