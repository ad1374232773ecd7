"""How well an embedding space hears: retrieval, naming of roles, spread and gap, on windows it was not fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# Shapes: N windows, K classes, R reference windows, E embedding width. Every vector is a unit vector.

Floats = NDArray[np.floating[Any]]

_TIE = 1e-6
"""Cosines nearer than this are one: equal texts give equal vectors, and windows of a stem share their text."""


@dataclass(frozen=True, kw_only=True)
class ClapQuality:
    """The figures of one embedder on held-out windows; chance is k/N for recall and 1/K for roles.

    `role_accuracy` goes by the centroids of other songs' windows and is None where they play none of the roles;
    `zero_shot_role_accuracy` by the roles' names as prompts.
    """

    windows: int
    recall_at_1: float
    recall_at_5: float
    role_accuracy: float | None
    zero_shot_role_accuracy: float
    own_text_cosine: float
    other_text_cosine: float
    modality_gap: float
    modality_gap_share: float
    effective_rank: float


def clap_quality(
    *,
    audio_NE: Floats,
    text_NE: Floats,
    roles: Sequence[str],
    reference_audio_RE: Floats,
    reference_roles: Sequence[str],
    prompt_KE: Floats,
    prompted_roles: Sequence[str],
) -> ClapQuality:
    """Figures of held-out windows. The reference windows, of other songs, only provide the roles' centroids.

    `prompt_KE` are the embeddings of the names `prompted_roles`, every role that is there to be chosen. Windows of a
    role that no reference window plays are left out of `role_accuracy`: there is no centroid to know them by.
    """
    own, other = matched_cosines(audio_NE, text_NE)
    gap = modality_gap(audio_NE, text_NE)
    return ClapQuality(
        windows=len(audio_NE),
        recall_at_1=recall_at_k(audio_NE, text_NE, k=1),
        recall_at_5=recall_at_k(audio_NE, text_NE, k=min(5, len(audio_NE))),
        role_accuracy=_known_role_accuracy(audio_NE, roles, reference_audio_RE, reference_roles),
        zero_shot_role_accuracy=zero_shot_accuracy(audio_NE, prompt_KE, [prompted_roles.index(role) for role in roles]),
        own_text_cosine=own,
        other_text_cosine=other,
        modality_gap=gap.distance,
        modality_gap_share=gap.share,
        effective_rank=effective_rank(audio_NE),
    )


def _known_role_accuracy(
    audio_NE: Floats, roles: Sequence[str], reference_RE: Floats, reference_roles: Sequence[str]
) -> float | None:
    judged = [row for row, role in enumerate(roles) if role in set(reference_roles)]
    if not judged:
        return None
    own_roles = [roles[row] for row in judged]
    return centroid_accuracy(audio_NE[judged], own_roles, reference_RE=reference_RE, reference_labels=reference_roles)


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


class ModalityGap(NamedTuple):
    """How far audio as a whole lies from text as a whole.

    `distance` is the norm of the difference of the two means, 0 to 2. `share` is how much of what the cosines of own
    texts lack of 1 is owed to it: for unit vectors 1 - cos = |a - t|^2 / 2, and distance^2 / 2 of its mean would go
    if both clouds were moved onto each other.
    """

    distance: float
    share: float


def modality_gap(audio_NE: Floats, text_NE: Floats) -> ModalityGap:
    """The gap between rows of audio and their own texts (Liang et al. 2022: the distance of the means)."""
    _check_rows(audio_NE, text_NE)
    difference_NE = audio_NE.astype(np.float64) - text_NE.astype(np.float64)
    squared = float((difference_NE.mean(axis=0) ** 2).sum())
    lacking = float((difference_NE**2).sum(axis=1).mean())
    return ModalityGap(distance=squared**0.5, share=squared / lacking if lacking > 0 else 0.0)


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
