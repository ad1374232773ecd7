"""Judging a row of the table: embed its candidates, then score them against the references."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from metrics.embeddings import Space
from metrics.protocol import Protocol
from metrics.score import FAMILIES, CandidateSet, ReferenceSet, score_row
from metrics.table import Score
from models.clap import Clap
from models.clap_quality import ClapQuality, clap_quality
from tasks.artifact import Artifact
from tasks.audio_bytes import decode_flac
from tasks.clap import clap_resident, clap_space, load_clap
from tasks.cluster import fan_out, resident_model
from tasks.columns import CONTEXT_IGNORED
from tasks.embed import Mixing, embed_mixture, embed_one
from tasks.embeddings import Row, load_embeddings, merge_parts, part_path, window_row, write_part
from tasks.judged_row import JudgedRow
from tasks.levels import Level
from tasks.lost_shards import POISON, LostShard, hand_on_lost, lost_shards, record_lost
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
    """Embeddings of candidates: `stem_NE` and, with a mixing, `mixture_NWE` with their prompts' contexts.

    Beside them `peak_N` and `lufs_N`, their levels. Candidates that cannot be read, or whose prompts cannot be any
    more, are left out with their shard.
    """

    stage: ClassVar[str] = "judged"
    version: ClassVar[int] = 3

    candidates: Artifact
    windows: Artifact
    clap: Artifact
    mixing: Mixing | None

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        name = f"clap-{self.key()}"
        pieces = [
            (name, shard, windows, self.mixing, str(part_path(out, number)))
            for number, (shard, windows) in enumerate(answered_shards(self.candidates, self.windows))
        ]
        resident = clap_resident(name, self.clap, runtime)
        outcomes = fan_out(runtime, _embed_candidates, pieces, title="embed candidates", resident=resident)
        lost = [outcome for outcome in outcomes if outcome]
        told = record_lost(out, lost, pieces=len(pieces), sources=(self.candidates,))
        return merge_parts(out, clap_space(self.clap)) | {"lost": told}


def _embed_candidates(piece: tuple[str, str, str, Mixing | None, str]) -> LostShard | None:
    """Embed the candidates of one shard, or say what is wrong with it or with the windows they answer."""
    name, shard, windows, mixing, part = piece
    try:
        arrays, rows = _embedded_candidates(resident_model(name), shard, windows, mixing)
    except POISON as error:
        return LostShard.of(name_of(shard), error, shard, windows)
    write_part(Path(part), arrays, rows)
    return None


def _embedded_candidates(
    clap: Clap, shard: str, windows: str, mixing: Mixing | None
) -> tuple[dict[str, np.ndarray], list[Row]]:
    stems, mixtures, levels, rows = [], [], [], []
    for candidate, window in answers(shard, windows):
        audio_SN = candidate_audio(candidate)
        stems.append(embed_one(clap, audio_SN))
        levels.append(Level.of(audio_SN))
        rows.append(window_row(window))
        if mixing:
            mixtures.append(embed_mixture(clap, decode_flac(window["context.flac"]), audio_SN, mixing))
    arrays = {
        "stem_NE": np.stack(stems),
        "peak_N": np.array([level.peak for level in levels]),
        "lufs_N": np.array([level.lufs for level in levels]),
        **({"mixture_NWE": np.stack(mixtures)} if mixing else {}),
    }
    return arrays, rows


def answered_shards(candidates: Artifact, windows: Artifact) -> list[tuple[str, str]]:
    """The shards of candidates, each with that of the windows they answer, which bears the same name."""
    asked = {name_of(shard): shard for shard in shards_of(windows)}
    return [(shard, asked[name_of(shard)]) for shard in shards_of(candidates)]


def answers(shard: str, windows: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The candidates of a shard, each with the window of its key; both lie in the plan's order."""
    asked = read_shard(windows)
    for candidate in read_shard(shard):
        window = next((window for window in asked if window["__key__"] == candidate["__key__"]), None)
        if window is None:
            raise ValueError(f"{shard}: no window of {windows} is what {candidate['__key__']} answers; make both again")
        yield candidate, window


def candidate_audio(sample: dict[str, Any]) -> np.ndarray:
    """A candidate at its own level (2, N): the gain that kept it from clipping is undone."""
    return decode_flac(sample["candidate.flac"]) / np.float32(json.loads(sample["json"])["gain"])


@dataclass(frozen=True, kw_only=True)
class ScoreRow(Step):
    """The scores of one row of the table.

    Where shards of windows were lost, the batches are smaller by as much, all alike, and so is the reference; every
    score says of how many candidates it is.
    """

    stage: ClassVar[str] = "scores"

    row: JudgedRow

    def describe(self) -> str:
        return f"score {self.row.arm} {self.row.inputs}"

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        row = self.row
        scores = [replace(score, metric=name) for score in self._scored() if (name := told_name(score.metric, row))]
        (out / SCORES).write_text(json.dumps([asdict(score) for score in scores], indent=1), encoding="utf-8")
        hand_on_lost(out, *row.embedded)
        return {f"{score.metric}[{score.batch}]": score.value for score in scores}

    def _scored(self) -> tuple[Score, ...]:
        row, made = self.row, load_embeddings(self.row.candidates)
        keys = row.keys(made)
        if not keys:
            return ()
        reference, candidates = row.reference_set(), row.candidate_set(made, keys)
        return score_row(
            reference,
            candidates,
            self._protocol(reference, candidates),
            arm=row.arm,
            inputs=row.inputs,
            families=FAMILIES if row.quality else ("apa", "cs_aa", "cs_ta"),
        )

    def _protocol(self, reference: ReferenceSet, candidates: CandidateSet) -> Protocol:
        """The protocol as it can be kept: with this row's batches, and with smaller sets where windows were lost."""
        row = self.row
        protocol = replace(in_space(row.protocol, clap_space(row.clap)), batches=row.batches)
        if not lost_shards(*row.embedded):
            return protocol
        left = len(candidates.stems or ()) // row.batches
        return replace(
            protocol,
            reference_size=min(protocol.reference_size, len(reference.stems)),
            batch_size=min(protocol.batch_size, left),
        )


def told_name(metric: str, row: JudgedRow) -> str | None:
    """What a metric of the row is told as; None where it is not told.

    APA has another name where the candidates were never told their context.
    """
    if row.adherence:
        return metric
    return {"apa": CONTEXT_IGNORED, "apa_kd_contrast": None}.get(metric, metric)


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
