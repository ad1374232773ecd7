"""A row of the table as sets of embeddings: what its scores are computed from, and how sure they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metrics.embeddings import EmbeddingSet, Space
from metrics.protocol import Protocol
from metrics.score import CandidateSet, ReferenceSet
from models.conditioning import ClapSource, Conditioning
from tasks.artifact import Artifact
from tasks.embed import Embeddings, load_embeddings


@dataclass(frozen=True, kw_only=True)
class JudgedRow:
    """Whose row it is, and the embeddings it is judged by. The real row and the bounds are only other embeddings.

    `prompts` are the embeddings of the windows that the candidates answer, or None where nothing was asked.
    `quality` is False where the stems are real ones of other tracks, whose quality says nothing. `adherence` says
    whether the candidates were given, or by nature have, the context they are mixed with.

    Rows of embeddings are joined by window: where shards of windows were lost, the sets are smaller by as much.
    """

    arm: str
    inputs: str
    conditioning: Conditioning | None
    candidates: Artifact
    prompts: Artifact | None
    references: Artifact
    mispaired: Artifact
    clap: Artifact
    protocol: Protocol
    batches: int
    quality: bool
    adherence: bool

    @property
    def embedded(self) -> tuple[Artifact | None, ...]:
        """All the embeddings that the row is judged by."""
        return self.candidates, self.prompts, self.references, self.mispaired

    def reference_set(self) -> ReferenceSet:
        """The references, their mixtures, and the same stems with other tracks' contexts."""
        true, wrong = load_embeddings(self.references), load_embeddings(self.mispaired)
        keys = shared_keys(true, wrong)
        return ReferenceSet(
            stems=set_of(true.of("stem_NE", keys), keys, true.space, "stem"),
            mixtures=mixtures_of(true, keys),
            mispaired=mixtures_of(wrong, keys),
        )

    def keys(self, made: Embeddings, *others: Embeddings) -> list[str]:
        """The windows whose candidates are judged: those that all hold, the prompts too, up to the last batch."""
        held = [made, *others, *([load_embeddings(self.prompts)] if self.prompts else [])]
        return shared_keys(*held)[: self.batches * self.protocol.batch_size]

    def candidate_set(self, made: Embeddings, keys: Sequence[str]) -> CandidateSet:
        """The candidates for these windows, and what they are compared with."""
        audio, text = self._targets(load_embeddings(self.prompts), keys) if self.prompts else (None, None)
        return CandidateSet(
            stems=set_of(made.of("stem_NE", keys), keys, made.space, "stem"),
            mixtures=mixtures_of(made, keys) if "mixture_NWE" in made.arrays else None,
            target_audio=audio,
            target_text=text,
        )

    def _targets(self, prompts: Embeddings, keys: Sequence[str]) -> tuple[EmbeddingSet | None, EmbeddingSet]:
        """What CS_AA and CS_TA compare with: the reference audio of CLAP_A, else the removed stem; its caption."""
        text = set_of(prompts.of("text_NE", keys), keys, prompts.space, "text")
        if self.conditioning is None:
            return None, text
        from_style = self.conditioning.clap in {ClapSource.AUDIO, ClapSource.BRIDGE}
        audio_NE = prompts.of("style_NKE", keys)[:, 0] if from_style else prompts.of("stem_NE", keys)
        return set_of(audio_NE, keys, prompts.space, "stem"), text


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
