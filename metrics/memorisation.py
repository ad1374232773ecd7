"""Does a model give its training stems back? Nearest training items of candidates, beside nearest held-out ones."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from metrics.embeddings import EmbeddingSet, Floats, checked, require_one_space

# Shapes: M candidates, N items of a set, D width of the space, B candidates of a block.

BLOCK_PAIRS = 4_000_000  # products held at once: 32 MB
RECHECK = 4  # nearest items by product that are measured again from differences, where copies lose no digits


class Suspect(NamedTuple):
    """A candidate, the training item that it is nearest to, and how much nearer that is than any held-out one."""

    candidate: str
    training: str
    distance: float
    ratio: float


class Memorisation(NamedTuple):
    """Share of candidates nearer to training than to held-out items, what chance gives, and the worst pairs first.

    `ratio_M` is each candidate's distance to the nearest training item over that to the nearest held-out one (0 for a
    copy, infinite on a held-out item); `nearer_M` tells who is nearer to training, for `set_statistics.mean_statistic`
    and an interval clustered by track.
    """

    share: float
    chance: float
    worst: tuple[Suspect, ...]
    ratio_M: NDArray[np.float64]
    nearer_M: NDArray[np.bool_]


def memorisation(
    candidates: EmbeddingSet, *, training: EmbeddingSet, held_out: EmbeddingSet, worst: int = 10
) -> Memorisation:
    """Whether candidates lie nearer to what was trained on than to items of the same kind that were not.

    If training and held-out items came from one distribution and none was memorised, the nearest of all N₁ + N₂ would
    be a training item with chance N₁ / (N₁ + N₂). Give sets of equal size, the more tracks the better: then chance is
    one half and the ratios centre on 1. A candidate as near to both counts as half. Items of the candidates' own
    contexts' tracks do not belong in the held-out set: they are nearer than chance.
    """
    ours = checked(candidates, what="candidates")
    require_one_space(ours, checked(training, what="training items"))
    require_one_space(ours, checked(held_out, what="held-out items"))
    shared = set(training.ids) & set(held_out.ids)
    if shared:
        raise ValueError(f"{sorted(shared)[:3]} are in training and held out: hold out items that were not trained on")
    trained_M, item_M = nearest(candidates.vectors_ND, training.vectors_ND)
    unseen_M, _ = nearest(candidates.vectors_ND, held_out.vectors_ND)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio_M = np.where(trained_M == unseen_M, 1.0, trained_M / unseen_M)
    order = np.lexsort((trained_M, ratio_M))[:worst]
    return Memorisation(
        share=float(np.mean((trained_M < unseen_M) + 0.5 * (trained_M == unseen_M))),
        chance=len(training) / (len(training) + len(held_out)),
        worst=tuple(
            Suspect(candidates.ids[row], training.ids[item_M[row]], float(trained_M[row]), float(ratio_M[row]))
            for row in order
        ),
        ratio_M=ratio_M,
        nearer_M=trained_M < unseen_M,
    )


def nearest(candidate_MD: Floats, item_ND: Floats) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Distance and row of the item nearest to each candidate, blocked so that memory does not grow with M × N."""
    mean_D = item_ND.mean(axis=0, dtype=np.float64)
    centred_ND = item_ND - mean_D
    half_square_N = 0.5 * np.einsum("nd,nd->n", centred_ND, centred_ND)
    few = min(RECHECK, len(item_ND))
    distance_M, row_M = np.empty(len(candidate_MD)), np.empty(len(candidate_MD), np.intp)
    step = max(1, BLOCK_PAIRS // max(len(item_ND), few * item_ND.shape[1]))
    for start in range(0, len(candidate_MD), step):
        block_BD = candidate_MD[start : start + step] - mean_D
        far_BN = half_square_N - block_BD @ centred_ND.T
        few_BK = np.argpartition(far_BN, few - 1, axis=1)[:, :few]
        apart_BK = np.linalg.norm(block_BD[:, None] - centred_ND[few_BK], axis=2)
        best_B = apart_BK.argmin(axis=1)
        here = slice(start, start + len(block_BD))
        distance_M[here] = np.take_along_axis(apart_BK, best_B[:, None], axis=1)[:, 0]
        row_M[here] = np.take_along_axis(few_BK, best_B[:, None], axis=1)[:, 0]
    return distance_M, row_M
