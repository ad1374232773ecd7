"""CLAP scores: how similar each candidate is to the audio or the text that it was asked for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metrics.embeddings import Floats, Vectors, checked, require_one_space

# Shapes: N pairs.


def clap_score(a: Vectors, b: Vectors) -> float:
    """Mean cosine of row i of `a` with row i of `b`, in [-1, 1]; not clamped at 0, not scaled by 100.

    CS_AA pairs candidate audio with reference audio, CS_TA with its caption. Source: Huang et al. 2023; metrics.md A6.
    """
    return float(pair_cosines(a, b).mean())


def pair_cosines(a: Vectors, b: Vectors) -> NDArray[np.float64]:
    """The cosine (N,) of each row of `a` with the same row of `b`."""
    first, second = checked(a, what="first set of the CLAP score"), checked(b, what="second set of the CLAP score")
    require_one_space(first, second)
    if len(first.vectors_ND) != len(second.vectors_ND):
        raise ValueError(
            f"{len(first.vectors_ND)} rows do not pair with {len(second.vectors_ND)};"
            " row i of both sets must belong to the same candidate"
        )
    unit_a_ND, unit_b_ND = _unit_rows(first.vectors_ND, "first"), _unit_rows(second.vectors_ND, "second")
    return np.einsum("nd,nd->n", unit_a_ND, unit_b_ND)


def _unit_rows(vectors_ND: Floats, what: str) -> NDArray[np.float64]:
    norm_N = np.linalg.norm(vectors_ND.astype(np.float64), axis=1)
    if not norm_N.all():
        zero = np.flatnonzero(norm_N == 0)[:8].tolist()
        raise ValueError(f"rows {zero} of the {what} set of the CLAP score are zero: they have no direction")
    return vectors_ND / norm_N[:, None]
