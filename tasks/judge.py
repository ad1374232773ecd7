"""Judging a row of the table: embed its candidates, then score them against the references."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from metrics.embeddings import EmbeddingSet, Space
from metrics.protocol import Protocol
from metrics.score import FAMILIES, CandidateSet, ReferenceSet, score_row
from metrics.table import Score
from models.clap import Clap
from models.clap_quality import ClapQuality, clap_quality
from models.conditioning import ClapSource, Conditioning
from tasks.artifact import Artifact
from tasks.audio import decode_flac
from tasks.clap import clap_resident, clap_space, load_clap
from tasks.cluster import fan_out, resident_model
from tasks.columns import CONTEXT_IGNORED
from tasks.embed import (
    Mixing,
    embed_mixture,
    embed_one,
    load_embeddings,
    merge_parts,
    part_path,
    window_row,
    write_part,
)
from tasks.plots import space_plot
from tasks.runtime import Runtime
from tasks.secondary_fad import cross_checked_fad
from tasks.shard_folder import shards_of
from tasks.shards import read_shard
from tasks.step import Step
from tasks.storage import name_of

SCORES = "scores.json"
QUALITY, SPACE_PICTURE = "quality.json", "space.png"


@dataclass(frozen=True, kw_only=True)
class EmbedCandidates(Step):
    """Embeddings of candidates: `stem_NE` and, with a mixing, `mixture_NWE` with their prompts' contexts."""

    stage: ClassVar[str] = "judged"
    version: ClassVar[int] = 2

    candidates: Artifact
    windows: Artifact
    clap: Artifact
    mixing: Mixing | None

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        name = f"clap-{self.key()}"
        contexts = {name_of(shard): shard for shard in shards_of(self.windows)}
        pieces = [
            (name, shard, contexts[name_of(shard)], self.mixing, str(part_path(out, number)))
            for number, shard in enumerate(shards_of(self.candidates))
        ]
        fan_out(
            runtime,
            _embed_candidates,
            pieces,
            title="embed candidates",
            resident=clap_resident(name, self.clap, runtime),
        )
        return merge_parts(out, len(pieces), clap_space(self.clap))


def _embed_candidates(piece: tuple[str, str, str, Mixing | None, str]) -> None:
    name, shard, windows, mixing, part = piece
    clap: Clap = resident_model(name)
    stems, mixtures, rows = [], [], []
    for candidate, window in zip(read_shard(shard), read_shard(windows), strict=False):
        assert candidate["__key__"] == window["__key__"], "candidates lie in shards of the same number as their prompts"
        audio_SN = candidate_audio(candidate)
        stems.append(embed_one(clap, audio_SN))
        rows.append(window_row(window))
        if mixing:
            mixtures.append(embed_mixture(clap, decode_flac(window["context.flac"]), audio_SN, mixing))
    arrays = {"stem_NE": np.stack(stems), **({"mixture_NWE": np.stack(mixtures)} if mixing else {})}
    write_part(Path(part), arrays, rows)


def candidate_audio(sample: dict[str, Any]) -> np.ndarray:
    """A candidate at its own level (2, N): the gain that kept it from clipping is undone."""
    return decode_flac(sample["candidate.flac"]) / np.float32(json.loads(sample["json"])["gain"])


@dataclass(frozen=True, kw_only=True)
class ScoreRow(Step):
    """The scores of one row of the table. The real row and the bounds are only other embeddings through it.

    `prompts` are the embeddings of the windows that the candidates answer, or None where nothing was asked.
    `quality` is False where the stems are real ones of other tracks, whose quality says nothing. `adherence` says
    whether the candidates were given, or by nature have, the context they are mixed with.
    """

    stage: ClassVar[str] = "scores"

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

    def describe(self) -> str:
        return f"score {self.arm} {self.inputs}"

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        space = clap_space(self.clap)
        reference, candidates = self._reference(), self._candidates()
        scored = score_row(
            reference,
            candidates,
            replace(in_space(self.protocol, space), batches=self.batches),
            arm=self.arm,
            inputs=self.inputs,
            families=self._families(),
        )
        scores = [self._named(score) for score in scored if self._wanted(score.metric)]
        (out / SCORES).write_text(json.dumps([asdict(score) for score in scores], indent=1), encoding="utf-8")
        return {f"{score.metric}[{score.batch}]": score.value for score in scores}

    def _families(self) -> tuple[str, ...]:
        return FAMILIES if self.quality else ("apa", "cs_aa", "cs_ta")

    def _wanted(self, metric: str) -> bool:
        return self.adherence or metric != "apa_kd_contrast"

    def _named(self, score: Score) -> Score:
        """APA under another name where the candidates were never told their context."""
        ignored = score.metric == "apa" and not self.adherence
        return replace(score, metric=CONTEXT_IGNORED) if ignored else score

    def _reference(self) -> ReferenceSet:
        true, wrong = load_embeddings(self.references), load_embeddings(self.mispaired)
        keys = [row.key for row in true.rows]
        return ReferenceSet(
            stems=_set(true.arrays["stem_NE"], keys, true.space, "stem"),
            mixtures=_mixtures(true.arrays["mixture_NWE"], keys, true.space),
            mispaired=_mixtures(wrong.arrays["mixture_NWE"], keys, wrong.space),
        )

    def _candidates(self) -> CandidateSet:
        made = load_embeddings(self.candidates)
        wanted = self.batches * self.protocol.batch_size
        keys = [row.key for row in made.rows][:wanted]
        mixtures = made.arrays.get("mixture_NWE")
        audio, text = self._targets(keys)
        return CandidateSet(
            stems=_set(made.arrays["stem_NE"][:wanted], keys, made.space, "stem"),
            mixtures=_mixtures(mixtures[:wanted], keys, made.space) if mixtures is not None else None,
            target_audio=audio,
            target_text=text,
        )

    def _targets(self, keys: Sequence[str]) -> tuple[EmbeddingSet | None, EmbeddingSet | None]:
        """What CS_AA and CS_TA compare with: the reference audio of CLAP_A, else the removed stem; its caption."""
        if self.prompts is None:
            return None, None
        prompts = load_embeddings(self.prompts)
        text = _set(prompts.arrays["text_NE"][: len(keys)], keys, prompts.space, "text")
        if self.conditioning is None:
            return None, text
        from_style = self.conditioning.clap in {ClapSource.AUDIO, ClapSource.BRIDGE}
        audio_NE = prompts.arrays["style_NKE"][:, 0] if from_style else prompts.arrays["stem_NE"]
        return _set(audio_NE[: len(keys)], keys, prompts.space, "stem"), text


def _set(vectors_ND: np.ndarray, keys: Sequence[str], space: Space, content: str) -> EmbeddingSet:
    return EmbeddingSet(vectors_ND=vectors_ND, ids=tuple(keys), space=space, content=content)


def _mixtures(vectors_NWE: np.ndarray, keys: Sequence[str], space: Space) -> EmbeddingSet:
    """Every window of every mixture as a row of its own."""
    windows = vectors_NWE.shape[1]
    ids = [f"{key}/{window}" for key in keys for window in range(windows)]
    return _set(vectors_NWE.reshape(-1, vectors_NWE.shape[2]), ids, space, "mixture")


def in_space(protocol: Protocol, space: Space) -> Protocol:
    """The protocol with the embedder that was really used.

    Departure: one CLAP embeds stems and mixtures; the authors' code of the time took another of its layers for the
    mixtures (reference notes, inferred).
    """
    return replace(protocol, space=space, mixture_space=space)


def load_scores(artifact: Artifact) -> tuple[Score, ...]:
    """The scores of a finished row."""
    return tuple(Score(**told) for told in json.loads((artifact.path / SCORES).read_text(encoding="utf-8")))


@dataclass(frozen=True, kw_only=True)
class MeasureClap(Step):
    """How well a CLAP knows stems of tracks that it was not fitted on: its figures, and a picture of its space."""

    stage: ClassVar[str] = "clap-quality"

    clap: Artifact
    train: Artifact
    heldout: Artifact

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        clap = load_clap(self.clap.location, runtime.local_files, runtime.device)
        train, heldout = load_embeddings(self.train), load_embeddings(self.heldout)
        audio_NE, text_NE = heldout.arrays["stem_NE"], heldout.arrays["text_NE"]
        train_roles, roles = ([row.role for row in windows.rows] for windows in (train, heldout))
        names = sorted({*train_roles, *roles})
        quality = clap_quality(
            audio_NE=audio_NE,
            text_NE=text_NE,
            roles=roles,
            reference_audio_RE=train.arrays["stem_NE"],
            reference_roles=train_roles,
            prompt_KE=clap.embed_text(names).cpu().numpy(),
            prompted_roles=names,
        )
        (out / QUALITY).write_text(json.dumps(asdict(quality), indent=1), encoding="utf-8")
        (out / SPACE_PICTURE).write_bytes(space_plot(audio_NE, text_NE, roles, gap=quality.modality_gap))
        return asdict(quality)


def load_quality(artifact: Artifact) -> ClapQuality:
    """The figures of a finished measurement."""
    return ClapQuality(**json.loads((artifact.path / QUALITY).read_text(encoding="utf-8")))


@dataclass(frozen=True, kw_only=True)
class CrossCheckFad(Step):
    """Our FAD of one set beside that of the frechet-audio-distance package, an independent witness."""

    stage: ClassVar[str] = "cross-check"

    candidates: Artifact
    references: Artifact

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        sets = (load_embeddings(artifact).arrays["stem_NE"] for artifact in (self.references, self.candidates))
        found = cross_checked_fad(*sets)
        (out / "fad.json").write_text(json.dumps(found._asdict()), encoding="utf-8")
        return found._asdict()
