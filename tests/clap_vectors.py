"""Vectors with the geometry of CLAP's, for tests of metrics."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def clap_like(rng: np.random.Generator, count: int, width: int = 512) -> NDArray[np.float32]:
    """Unit vectors (count, width) about a common direction, with few directions that matter."""
    rows_ND = rng.standard_normal((count, width)) * np.arange(1, width + 1) ** -0.6 + 0.05
    return (rows_ND / np.linalg.norm(rows_ND, axis=1, keepdims=True)).astype(np.float32)
