"""A study at one scale: everything that a run is made of, before anything is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from data_manifests.composer import EmbeddedCorpus
from data_manifests.pairs import PairRule
from metrics.protocol import Protocol
from models.arms import Arm
from models.clap import LaionClapRecipe
from models.codecs import CodecRecipe
from models.small_clap import SmallClapRecipe
from tasks.artifact import Artifact
from tasks.clap import ShippedClapRecipe
from tasks.step import Step

Make = Callable[[Step], Artifact]
ClapRecipe = SmallClapRecipe | ShippedClapRecipe | LaionClapRecipe


@dataclass(frozen=True, kw_only=True)
class Study:
    """Everything a run of the study is made of, at one scale. `embedded` is None where the user brings a folder.

    The protocol's embedding space is filled in by whoever scores: only the fitted CLAP has an identity. `layouts`
    names the layout of each corpus of the user's (None: recognised). A `fused` study keeps no training windows: they
    are cut again by every stage that hears them. `brought` codecs are not fitted: their weights have these digests.
    """

    scale: str
    embedded: EmbeddedCorpus | None
    heldout_fraction: float
    rule: PairRule
    train_windows: int
    codec_windows: int | None
    shard_rows: int
    clap: ClapRecipe
    arms: tuple[Arm, ...]
    protocol: Protocol
    seed: int
    layouts: tuple[tuple[str, str | None], ...] = (("", None),)
    soundfont_sha256: str | None = None
    fused: bool = False
    brought: tuple[tuple[CodecRecipe, str], ...] = ()

    @property
    def candidates(self) -> int:
        """Candidates of one row."""
        return self.protocol.batches * self.protocol.batch_size

    @property
    def bound_candidates(self) -> int:
        """Candidates of the real row and of each bound; as many prompts are cut, and arms answer the first of them."""
        return max(self.candidates, self.protocol.bound_batches * self.protocol.batch_size)
