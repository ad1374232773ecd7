"""How well an embedding space hears: retrieval, naming of roles, and spread, on windows it was not fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Shapes: N windows, K classes, R reference windows, E embedding width. Every vector is a unit vector.

Floats = NDArray[np.floating[Any]]

_TIE = 1e-6
"""Cosines nearer than this are one: equal texts give equal vectors, and windows of a stem share their text."""


@dataclass(frozen=True, kw_only=True)
class ClapQuality:
    """The figures of one embedder on held-out windows; chance is k/N for recall and 1/K for roles."""

    windows: int
    recall_at_1: float
    recall_at_5: float
    recall_at_10: float
    role_accuracy: float
    own_text_cosine: float
    other_text_cosine: float
    effective_rank: float


def clap_quality(
    *,
    audio_NE: Floats,
    text_NE: Floats,
    roles: Sequence[str],
    reference_audio_RE: Floats,
    reference_roles: Sequence[str],
) -> ClapQuality:
    """Figures of held-out windows; the reference windows, of other songs, only provide the roles' centroids."""
    own, other = matched_cosines(audio_NE, text_NE)
    return ClapQuality(
        windows=len(audio_NE),
        recall_at_1=recall_at_k(audio_NE, text_NE, k=1),
        recall_at_5=recall_at_k(audio_NE, text_NE, k=5),
        recall_at_10=recall_at_k(audio_NE, text_NE, k=10),
        role_accuracy=centroid_accuracy(
            audio_NE, roles, reference_RE=reference_audio_RE, reference_labels=reference_roles
        ),
        own_text_cosine=own,
        other_text_cosine=other,
        effective_rank=effective_rank(audio_NE),
    )


def recall_at_k(query_NE: Floats, candidate_NE: Floats, *, k: int) -> float:
    """Share of queries whose own candidate (the same row) is among the k nearest of all N.

    Ties are broken at random in expectation: with a nearer candidates and t equal ones besides the own, the hit
    counts (k - a) / (t + 1), clipped to [0, 1]. A collapsed space therefore scores k/N, not 1.
    """
    _check_rows(query_NE, candidate_NE)
    if not 1 <= k <= len(query_NE):
        raise ValueError(f"recall at {k} of {len(query_NE)} windows: k must lie between 1 and their number")
    cosine_NN = query_NE.astype(np.float64) @ candidate_NE.T.astype(np.float64)
    own_N1 = np.diagonal(cosine_NN)[:, None]
    nearer_N = (cosine_NN > own_N1 + _TIE).sum(axis=1)
    equal_N = (np.abs(cosine_NN - own_N1) <= _TIE).sum(axis=1)  # the own candidate included
    return float(np.clip((k - nearer_N) / equal_N, 0.0, 1.0).mean())


def centroid_accuracy(
    vectors_NE: Floats,
    labels: Sequence[str],
    *,
    reference_RE: Floats,
    reference_labels: Sequence[str],
) -> float:
    """Share of windows that lie nearest (by cosine) to the mean of the reference windows with their own label."""
    _check_labels(vectors_NE, labels)
    _check_labels(reference_RE, reference_labels)
    classes = sorted(set(reference_labels))
    unknown = sorted(set(labels) - set(classes))
    if unknown:
        raise ValueError(f"no reference window is labelled {unknown}; the reference knows {classes}")
    label_R = np.asarray(reference_labels)
    centroid_KE = np.stack([reference_RE[label_R == name].mean(axis=0) for name in classes])
    centroid_KE /= np.maximum(np.linalg.norm(centroid_KE, axis=1, keepdims=True), _TIE)
    return zero_shot_accuracy(vectors_NE, centroid_KE, [classes.index(label) for label in labels])


def zero_shot_accuracy(vectors_NE: Floats, class_KE: Floats, class_of: Sequence[int]) -> float:
    """Share of windows nearest (by cosine) to their own class vector, for instance the embedding of its name."""
    _check_labels(vectors_NE, class_of)
    return float(((vectors_NE @ class_KE.T).argmax(axis=1) == np.asarray(class_of)).mean())


def matched_cosines(query_NE: Floats, candidate_NE: Floats) -> tuple[float, float]:
    """Mean cosine of the same rows, and mean cosine of different rows."""
    _check_rows(query_NE, candidate_NE)
    cosine_NN = query_NE.astype(np.float64) @ candidate_NE.T.astype(np.float64)
    own = float(np.trace(cosine_NN))
    rows = len(cosine_NN)
    return own / rows, (float(cosine_NN.sum()) - own) / (rows * (rows - 1))


def effective_rank(vectors_NE: Floats) -> float:
    """Exponential of the entropy of the covariance spectrum: how many directions the windows really use.

    Roy & Vetterli 2007 with the eigenvalues of the covariance; 1 for a line, E for a sphere, 0 for one point.
    """
    centred_NE = vectors_NE.astype(np.float64) - vectors_NE.mean(axis=0, dtype=np.float64)
    spectrum_E = np.linalg.svd(centred_NE, compute_uv=False) ** 2
    if spectrum_E.sum() <= _TIE**2 * spectrum_E.size:
        return 0.0
    share_E = spectrum_E / spectrum_E.sum()
    share_E = share_E[share_E > 0]
    return float(np.exp(-(share_E * np.log(share_E)).sum()))


def _check_rows(query_NE: Floats, candidate_NE: Floats) -> None:
    if query_NE.shape != candidate_NE.shape or len(query_NE) < 2:
        raise ValueError(
            f"queries {query_NE.shape} and candidates {candidate_NE.shape}: "
            "expected two rows or more, and one candidate per query"
        )


def _check_labels(vectors_NE: Floats, labels: Sequence[str] | Sequence[int]) -> None:
    if len(vectors_NE) != len(labels) or not len(labels):
        raise ValueError(
            f"{len(vectors_NE)} windows with {len(labels)} labels: expected one label per window, and a window"
        )
