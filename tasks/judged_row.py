"""A row of the table as sets of embeddings: what its scores are computed from, and how sure they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from metrics.embeddings import EmbeddingSet
from metrics.protocol import Protocol
from metrics.score import CandidateSet, ReferenceSet
from models.conditioning import ClapSource, Conditioning
from tasks.artifact import Artifact
from tasks.embedding_sets import mixtures_of, set_of, shared_keys
from tasks.embeddings import Embeddings, load_embeddings
from tasks.reference_state import reference_set


@dataclass(frozen=True, kw_only=True)
class JudgedRow:
    """Whose row it is, and the embeddings it is judged by. The real row and the bounds are only other embeddings.

    `prompts` are the embeddings of the windows that the candidates answer, or None where nothing was asked.
    `quality` is False where the stems are real ones of other tracks, whose quality says nothing. `adherence` says
    whether the candidates were given, or by nature have, the context they are mixed with.

    `reference_state` is what was computed of the references and of the mispaired ones, once for all rows.

    A row may have no candidates at all, where the corpus has not what they are made of: then it has no scores.

    Rows of embeddings are joined by window: where shards of windows were lost, the sets are smaller by as much.
    """

    arm: str
    inputs: str
    conditioning: Conditioning | None
    candidates: Artifact
    prompts: Artifact | None
    references: Artifact
    mispaired: Artifact
    reference_state: Artifact
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
        """The references, their mixtures, and the same stems with other tracks' contexts, with what is known of all."""
        return reference_set(self.references, self.mispaired, kept=self.reference_state)

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
