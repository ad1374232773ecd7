"""Accompaniment prompt adherence: do candidates fit their contexts as true pairs do, or only as chance does?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from metrics.frechet import Gaussian, GaussianLike, frechet_distance, gaussian

# All embeddings here are of mixtures of a context and a stem: R true pairs, R' the same mispaired, C candidates.

SWAPS_PER_ROW = 20  # then 0.8 of 5,000 rows keep their first partner; chance alone would keep 1


def audio_prompt_adherence(reference: GaussianLike, mispaired: GaussianLike, candidate: GaussianLike) -> float:
    """1/2 + [FAD(C, R') − FAD(C, R)] / (2 FAD(R, R')), clipped to [0, 1]: 1 like true pairs, 0 like random ones.

    Source: Grachten & Nistal 2025 (arXiv 2503.06346); metrics.md A5.
    Departure: where R and R' have the same mean and covariance the ratio is undefined, and we raise; audio-metrics
    returns 0.
    """
    true, wrong = _fitted(reference, "reference"), _fitted(mispaired, "mispaired")
    ours = _fitted(candidate, "candidate")
    separation = frechet_distance(true, wrong)
    return adherence(
        to_reference=frechet_distance(ours, true), to_mispaired=frechet_distance(ours, wrong), separation=separation
    )


def adherence(*, to_reference: float, to_mispaired: float, separation: float) -> float:
    """The adherence that three Fréchet distances give; `separation` is that of true from mispaired references."""
    if separation <= 0:
        raise ValueError(
            f"true and mispaired references are {separation} apart, so adherence is undefined;"
            " mispair with other tracks' stems, or use more references"
        )
    return float(np.clip(0.5 + (to_mispaired - to_reference) / (2.0 * separation), 0.0, 1.0))


def derangement(track_ids: Sequence[str], *, seed: int) -> NDArray[np.intp]:
    """A seeded permutation that pairs every row with a row of another track; one exists if no track has over half.

    Departure: audio-metrics' pairings keep same-track pairs (a cyclic shift) or true pairs (a streaming shuffle).
    """
    tracks_N = np.unique(np.asarray(track_ids, dtype=str), return_inverse=True)[1]
    count = len(tracks_N)
    most = int(np.bincount(tracks_N).max(initial=0))
    if count < 2 or 2 * most > count:
        raise ValueError(
            f"{most} of {count} rows are of one track, so they cannot all be paired with other tracks;"
            " at most half may be: add rows of other tracks"
        )
    rng = np.random.default_rng(seed)
    # Grouped by track, a shift by the largest group never lands in the same group.
    label_order = rng.permutation(int(tracks_N.max()) + 1)
    grouped_N = np.lexsort((rng.random(count), label_order[tracks_N]))
    partner_N = np.empty(count, dtype=np.intp)
    partner_N[grouped_N] = np.roll(grouped_N, -most)
    return _mixed_by_swaps(partner_N, tracks_N, rng)


def _mixed_by_swaps(
    partner_N: NDArray[np.intp], tracks_N: NDArray[np.intp], rng: np.random.Generator
) -> NDArray[np.intp]:
    """The pairing after many random transpositions, each made only if no row then meets its own track."""
    partner, tracks = partner_N.tolist(), tracks_N.tolist()
    for a, b in rng.integers(len(partner), size=(SWAPS_PER_ROW * len(partner), 2)).tolist():
        if tracks[a] != tracks[partner[b]] and tracks[b] != tracks[partner[a]]:
            partner[a], partner[b] = partner[b], partner[a]
    return np.asarray(partner, dtype=np.intp)


def _fitted(vectors: GaussianLike, what: str) -> Gaussian:
    return vectors if isinstance(vectors, Gaussian) else gaussian(vectors, f"{what} mixtures")
