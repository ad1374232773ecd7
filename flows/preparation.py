"""What every arm shares, as steps: recordings to windows, the CLAP, and the embeddings of the windows."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from data_manifests.composer import EmbeddedCorpus
from data_manifests.pairs import PairRange
from flows.study import Make, Study
from models.clap import LaionClapRecipe
from models.small_clap import SmallClapRecipe
from tasks.artifact import Artifact
from tasks.clap import FitClap, ImportLaionClap, ImportShippedClap, ShippedClapRecipe
from tasks.corpus import RenderCorpus
from tasks.cut import CatalogueCorpus, CutWindows, PlanPairs
from tasks.embed import EmbedWindows, Mixing
from tasks.embed_mispaired import EmbedMispaired
from tasks.scores import RenderMidi, RenderScores
from tasks.window_source import WindowSource


class Windows(NamedTuple):
    """The four ranges of windows that a study cuts."""

    train: WindowSource
    prompts: Artifact
    references: Artifact
    real: Artifact


class Prepared(NamedTuple):
    """What every arm shares: windows, the CLAP, and the embeddings of the windows in its space."""

    corpus: Artifact
    catalogue: Artifact
    windows: Windows
    clap: Artifact
    train_embeddings: Artifact
    prompt_embeddings: Artifact
    reference_embeddings: Artifact
    mispaired: Artifact


def prepare(study: Study, folder: Artifact | None, make: Make) -> Prepared:
    """Corpus to catalogue to windows, the CLAP fitted on them, and their embeddings."""
    recordings = corpus(study, folder, make)
    listed = catalogue(study, recordings, make)
    windows = _cut(study, recordings, listed, make)
    clap = _clap(study, windows.train, make)
    mixing, mispairing = Mixing.of(study.protocol), study.protocol.pairing_seed
    return Prepared(
        corpus=recordings,
        catalogue=listed,
        windows=windows,
        clap=clap,
        train_embeddings=make(EmbedWindows(windows=windows.train, clap=clap, mixing=None)),
        prompt_embeddings=make(EmbedWindows(windows=windows.prompts, clap=clap, mixing=None)),
        reference_embeddings=make(EmbedWindows(windows=windows.references, clap=clap, mixing=mixing)),
        mispaired=make(EmbedMispaired(windows=windows.references, clap=clap, mixing=mixing, seed=mispairing)),
    )


def corpus(study: Study, folder: Artifact | None, make: Make) -> Artifact:
    """The recordings: the user's, or the embedded songs; scores of either are played where a soundfont is given."""
    soundfont = study.soundfont_sha256
    if folder:
        return make(RenderMidi(folder=folder, soundfont_sha256=soundfont)) if soundfont else folder
    if soundfont:
        return make(RenderScores(corpus=_embedded(study), soundfont_sha256=soundfont))
    return make(RenderCorpus(corpus=_embedded(study)))


def catalogue(study: Study, recordings: Artifact, make: Make) -> Artifact:
    """What the recordings hold. Those that were rendered here are plain folders; the user's have their layouts."""
    layouts = study.layouts if recordings.stage == "folder" else (("", "plain"),)
    return make(
        CatalogueCorpus(corpus=recordings, layouts=layouts, heldout_fraction=study.heldout_fraction, seed=study.seed)
    )


def _embedded(study: Study) -> EmbeddedCorpus:
    if study.embedded is None:
        raise ValueError(f"the scale {study.scale} has no embedded corpus; give one with --corpus DIR")
    return study.embedded


def _cut(study: Study, corpus: Artifact, catalogue: Artifact, make: Make) -> Windows:
    """Training rows come from the training tracks; prompts, references and the real row from the held-out ones.

    Weights shape what a model hears; it is judged on all held-out tracks in turn.
    """
    count, references = study.bound_candidates, study.protocol.reference_size
    ranges = (
        PairRange(split="train", first=0, stop=study.train_windows),
        PairRange(split="heldout", first=0, stop=count),
        PairRange(split="heldout", first=count, stop=count + references),
        PairRange(split="heldout", first=count + references, stop=2 * count + references),
    )
    judged = replace(study.rule, weights=())

    def cut(rows: PairRange) -> CutWindows:
        rule = study.rule if rows.split == "train" else judged
        plan = make(PlanPairs(catalogue=catalogue, rule=rule, rows=rows))
        return CutWindows(corpus=corpus, catalogue=catalogue, plan=plan, rows=rows, shard_rows=study.shard_rows)

    train, *rest = map(cut, ranges)
    prompts, reference, real = map(make, rest)
    kept = train.planned if study.fused else make(train)
    return Windows(train=kept, prompts=prompts, references=reference, real=real)


def _clap(study: Study, windows: WindowSource, make: Make) -> Artifact:
    match study.clap:
        case LaionClapRecipe():
            return make(ImportLaionClap(recipe=study.clap))
        case ShippedClapRecipe():
            return make(ImportShippedClap(recipe=study.clap))
        case SmallClapRecipe():
            return make(FitClap(recipe=study.clap, windows=windows))
