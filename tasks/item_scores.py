"""How close each candidate of a row came to what it was asked for: the terms of the row's CLAP score."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from metrics.clap_score import pair_cosines
from models.conditioning import ClapSource
from tasks.embeddings import load_embeddings
from tasks.judged_row import JudgedRow

# Shapes: N candidates.


class ItemScores(NamedTuple):
    """Cosines (N,) of the candidates of these windows with what they were asked for, which `target` says in words."""

    keys: tuple[str, ...]
    cosine_N: NDArray[np.float64]
    target: str

    @property
    def best(self) -> str:
        """The window of the highest cosine."""
        return self.keys[int(self.cosine_N.argmax())]

    @property
    def worst(self) -> str:
        """The window of the lowest cosine."""
        return self.keys[int(self.cosine_N.argmin())]

    def words(self, key: str) -> str:
        """One candidate's cosine, and where it stands among those of its row."""
        own = self.cosine_N[self.keys.index(key)]
        place = int((self.cosine_N > own).sum()) + 1
        return (
            f"CLAP cosine with {self.target} {own:.2f}: number {place} of {len(self.keys)}, "
            f"whose median is {np.median(self.cosine_N):.2f}"
        )


def item_scores(row: JudgedRow) -> ItemScores:
    """CS_TA's terms where the row was given a text, else CS_AA's."""
    made = load_embeddings(row.candidates)
    keys = row.keys(made)
    judged = row.candidate_set(made, keys)
    source = row.conditioning.clap if row.conditioning else None
    by_text = source is ClapSource.TEXT
    target = judged.target_text if by_text else judged.target_audio
    if judged.stems is None or target is None:
        raise ValueError(f"{row.arm} / {row.inputs} was asked for nothing that its candidates could resemble")
    words = {ClapSource.TEXT: "its tags", None: "the stem that it replaces"}.get(source, "the audio that it was given")
    return ItemScores(tuple(keys), pair_cosines(judged.stems, target), words)
