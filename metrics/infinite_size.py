"""FAD extrapolated to infinitely many candidates: what is left when its bias, about linear in 1/N, is taken away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from metrics.embeddings import Floats, Vectors, checked, require_one_space
from metrics.frechet import Gaussian, GaussianLike, frechet_distance, gaussian
from metrics.intervals import Interval, estimate
from metrics.set_statistics import Rows, SetStatistic

# Shapes: N candidates, P sizes, R chosen rows.

PIECES = (1, 2, 3, 4)  # the set whole, in halves, in thirds, in quarters
LEAST_ROWS_PER_DIRECTION = 2.0  # of the smallest piece; below it the bias is not linear in 1/N


class ExtrapolatedDistance(NamedTuple):
    """FAD at infinite size with its interval, the plain FAD of all rows, and the r² of the line through the sizes."""

    interval: Interval
    plain: float
    r_squared: float


def extrapolated_frechet_distance(
    reference: GaussianLike, candidate: Vectors, track_ids: Sequence[str], *, seed: int, level: float = 0.95
) -> ExtrapolatedDistance:
    """The intercept at 1/N = 0 of a line through the mean FAD of the set whole, in halves, in thirds and in quarters.

    The bias left is that of the finite reference set, the same for every arm. Trust the intercept where r² is near 1.
    Source: Chong & Forsyth 2020 (arXiv 1911.07023).
    Departure: their subsets of each size are drawn anew and overlap; ours are disjoint, of whole tracks in a seeded
    order, so that each size uses every row once and a half has half of the tracks: rows of a track are alike, and what
    makes the bias is how many tracks there are. The interval leaves tracks out of the whole procedure.
    """
    fitted = reference if isinstance(reference, Gaussian) else gaussian(reference, "reference")
    rows = checked(candidate, what="candidate of the extrapolated Fréchet distance", at_least=2)
    require_one_space(fitted, rows)
    place_N = _seeded_places(track_ids, seed)
    if len(place_N) != len(rows.vectors_ND):
        raise ValueError(f"{len(place_N)} track ids for {len(rows.vectors_ND)} candidates; give one per candidate")
    _require_linear(rows.vectors_ND, place_N)

    def distances(chosen_R: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        inverse_size, distance = [], []
        for pieces in PIECES:
            parts = [chosen_R[place_N[chosen_R] % pieces == part] for part in range(pieces)]
            inverse_size.append(np.mean([1.0 / len(part) for part in parts]))
            distance.append(np.mean([frechet_distance(fitted, rows.vectors_ND[part]) for part in parts]))
        return np.asarray(inverse_size), np.asarray(distance)

    inverse_P, distance_P = distances(np.arange(len(place_N)))
    intercept = SetStatistic(lambda chosen_R: _intercept(*distances(chosen_R)), len(place_N))
    found = estimate(intercept, track_ids)
    r_squared = float(np.corrcoef(inverse_P, distance_P)[0, 1] ** 2)
    return ExtrapolatedDistance(found.interval(level), float(distance_P[0]), r_squared)


def _intercept(inverse_P: NDArray[np.float64], distance_P: NDArray[np.float64]) -> float:
    return float(np.polyfit(inverse_P, distance_P, 1)[1])


def _seeded_places(track_ids: Sequence[str], seed: int) -> NDArray[np.intp]:
    """The place of each row's track in a seeded order of the tracks."""
    names, track_N = np.unique(np.asarray(track_ids, dtype=str), return_inverse=True)
    return np.random.default_rng(seed).permutation(len(names))[track_N]


def _require_linear(vectors_ND: Floats, place_N: NDArray[np.intp]) -> None:
    """Nothing if the smallest piece has rows enough for the directions that carry the variance: (tr S)² / tr S²."""
    smallest = int(min(np.bincount(place_N % PIECES[-1], minlength=PIECES[-1])))
    centred_ND = vectors_ND - vectors_ND.mean(axis=0, dtype=np.float64)
    products = centred_ND @ centred_ND.T if len(centred_ND) < centred_ND.shape[1] else centred_ND.T @ centred_ND
    directions = float(np.trace(products) ** 2 / max(np.square(products).sum(), np.finfo(np.float64).tiny))
    if smallest < max(2.0, LEAST_ROWS_PER_DIRECTION * directions):
        raise ValueError(
            f"{len(vectors_ND)} candidates leave {smallest} in the smallest of {PIECES[-1]} pieces, but their variance"
            f" lies in about {directions:.0f} directions and {LEAST_ROWS_PER_DIRECTION:g} rows for each are needed:"
            " add candidates"
        )
