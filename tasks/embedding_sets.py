"""Embedding artifacts as the sets that metrics take: rows by window, what several artifacts share, mixtures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metrics.embeddings import EmbeddingSet, Space
from tasks.embeddings import Embeddings


def shared_keys(first: Embeddings, *others: Embeddings) -> list[str]:
    """The windows that all hold, in the order of the first."""
    held = [{row.key for row in other.rows} for other in others]
    return [row.key for row in first.rows if all(row.key in keys for keys in held)]


def tracks_of(made: Embeddings, keys: Sequence[str]) -> list[str]:
    """The track of each of these windows."""
    track = {row.key: row.track for row in made.rows}
    return [track[key] for key in keys]


def set_of(vectors_ND: np.ndarray, keys: Sequence[str], space: Space, content: str) -> EmbeddingSet:
    """Embeddings of these windows, one each."""
    return EmbeddingSet(vectors_ND=vectors_ND, ids=tuple(keys), space=space, content=content)


def mixtures_of(made: Embeddings, keys: Sequence[str]) -> EmbeddingSet:
    """The mixtures of these windows, every window of every mixture as a row of its own."""
    vectors_NWE = made.of("mixture_NWE", keys)
    windows = vectors_NWE.shape[1]
    ids = [f"{key}/{window}" for key in keys for window in range(windows)]
    return set_of(vectors_NWE.reshape(-1, vectors_NWE.shape[2]), ids, made.space, "mixture")
