"""The study as a graph of steps, written once: what runs it, plans it or looks it up is handed in.

`make` turns a step into its result. The flows hand in one that builds, `stemwright plan` one that only looks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from data_manifests.composer import EmbeddedCorpus
from data_manifests.pairs import PairRange, PairRule
from metrics.protocol import Protocol
from models.arms import Arm, DenoiserRecipe
from models.codecs import CodecRecipe
from models.conditioning import Conditioning
from models.small_clap import SmallClapRecipe
from tasks.artifact import Artifact
from tasks.clap import FitClap, ImportLaionClap, ImportShippedClap, LaionClapRecipe, ShippedClapRecipe
from tasks.corpus import RenderCorpus
from tasks.cut import CatalogueCorpus, CutWindows
from tasks.embed import EmbedMispaired, EmbedNoise, EmbedWindows, Mixing
from tasks.encode import EncodeWindows
from tasks.fit_codec import FitCodec, codec_name
from tasks.generate import GenerateCandidates
from tasks.judge import CrossCheckFad, EmbedCandidates, MeasureClap, ScoreRow
from tasks.pack import PackLatents
from tasks.report import MakeReport, ReportRow
from tasks.scores import RenderMidi, RenderScores
from tasks.step import Step
from tasks.train import TrainBridge, TrainDenoiser
from tasks.window_source import WindowSource

Make = Callable[[Step], Artifact]
ClapRecipe = SmallClapRecipe | ShippedClapRecipe | LaionClapRecipe


@dataclass(frozen=True, kw_only=True)
class Study:
    """Everything a run of the study is made of, at one scale. `embedded` is None where the user brings a folder.

    The protocol's embedding space is filled in by whoever scores: only the fitted CLAP has an identity. `layouts`
    names the layout of each corpus of the user's (None: recognised). A `fused` study keeps no training windows: they
    are cut again by every stage that hears them.
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

    @property
    def candidates(self) -> int:
        """Candidates of one row."""
        return self.protocol.batches * self.protocol.batch_size

    @property
    def bound_candidates(self) -> int:
        """Candidates of the real row and of each bound; as many prompts are cut, and arms answer the first of them."""
        return max(self.candidates, self.protocol.bound_batches * self.protocol.batch_size)


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


class Coded(NamedTuple):
    """A fitted codec and what it made of the training windows and the prompts."""

    codec: Artifact
    train: Artifact
    prompts: Artifact


class Trained(NamedTuple):
    """An arm ready to play."""

    coded: Coded
    denoiser: Artifact
    bridge: Artifact | None


def whole(
    study: Study,
    folder: Artifact | None,
    rows_of: Callable[[Arm], tuple[Conditioning, ...]],
    make: Make,
    *,
    command: str,
) -> MakeReport:
    """The report, still to be made: every arm under the rows that `rows_of` names, and the bounds."""
    prepared = prepare(study, folder, make)
    rows, trainings = bounds(study, prepared, make), []
    for arm in study.arms:
        trained = train_arm(study, prepared, arm, make)
        trainings.append((arm, trained))
        rows += evaluate_arm(study, prepared, arm, trained, rows_of(arm), make)
    return _report(study, prepared, rows, trainings, make, command=command)


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
    train, *rest = (
        CutWindows(
            corpus=corpus,
            catalogue=catalogue,
            rule=study.rule if rows.split == "train" else judged,
            rows=rows,
            shard_rows=study.shard_rows,
        )
        for rows in ranges
    )
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


def code(study: Study, prepared: Prepared, recipe: CodecRecipe, make: Make) -> Coded:
    """A codec, fitted where it is ours to fit, and the latents of the training windows and the prompts."""
    codec = make(
        FitCodec(recipe=recipe, windows=prepared.windows.train, first_windows=study.codec_windows, seed=study.seed)
    )
    train = make(EncodeWindows(windows=prepared.windows.train, codec=codec))
    prompts = make(EncodeWindows(windows=prepared.windows.prompts, codec=codec))
    return Coded(
        codec=codec,
        train=make(PackLatents(latents=train, embeddings=prepared.train_embeddings)),
        prompts=make(PackLatents(latents=prompts, embeddings=prepared.prompt_embeddings)),
    )


def train_arm(study: Study, prepared: Prepared, arm: Arm, make: Make) -> Trained:
    """An arm's codec, denoiser and bridge. Arms that share a recipe share the result."""
    coded = code(study, prepared, arm.denoiser.codec, make)
    denoiser = _denoiser(arm.denoiser, coded, make)
    bridge = make(TrainBridge(data=coded.train, recipe=arm.bridge)) if arm.bridge else None
    return Trained(coded=coded, denoiser=denoiser, bridge=bridge)


def _denoiser(recipe: DenoiserRecipe, coded: Coded, make: Make) -> Artifact:
    start = _denoiser(recipe.start, coded, make) if recipe.start else None
    return make(TrainDenoiser.of(recipe, data=coded.train, start=start))


def evaluate_arm(
    study: Study, prepared: Prepared, arm: Arm, trained: Trained, conditionings: tuple[Conditioning, ...], make: Make
) -> list[ReportRow]:
    """The rows of one arm: generate, embed, score."""
    return [_evaluate(study, prepared, arm, trained, conditioning, make) for conditioning in conditionings]


def _evaluate(
    study: Study, prepared: Prepared, arm: Arm, trained: Trained, conditioning: Conditioning, make: Make
) -> ReportRow:
    candidates = make(
        GenerateCandidates(
            denoiser=trained.denoiser,
            bridge=trained.bridge if conditioning.clap else None,
            codec=trained.coded.codec,
            prompts=trained.coded.prompts,
            windows=prepared.windows.prompts,
            conditioning=conditioning,
            sampler=arm.sampler,
            guidance=arm.guidance,
            pseudo_stereo=arm.pseudo_stereo,
            samples=study.rule.window_samples,
            count=study.candidates,
            seed=study.seed,
        )
    )
    # Unconditional candidates are mixed too: what APA gives without adherence is a diagnostic of the table.
    mixed = conditioning.context or conditioning.clap is None
    judged = make(
        EmbedCandidates(
            candidates=candidates,
            windows=prepared.windows.prompts,
            clap=prepared.clap,
            mixing=Mixing.of(study.protocol) if mixed else None,
        )
    )
    row = make(
        _row(
            study,
            prepared,
            judged,
            arm=arm.name,
            inputs=conditioning.label,
            conditioning=conditioning,
            prompts=prepared.prompt_embeddings,
            adherence=conditioning.context,
        )
    )
    return ReportRow(arm=arm.name, inputs=conditioning.label, candidates=candidates, scores=row)


def bounds(study: Study, prepared: Prepared, make: Make) -> list[ReportRow]:
    """The real row and the two lower bounds: other embeddings through the same scores."""
    protocol, clap, mixing = study.protocol, prepared.clap, Mixing.of(study.protocol)
    real = _real(study, prepared, make)
    noise = make(
        EmbedNoise(
            clap=clap,
            clips=study.bound_candidates,
            samples=study.rule.window_samples,
            lufs=protocol.noise_lufs,
            seed=study.seed,
        )
    )
    wrong = make(EmbedMispaired(windows=prepared.windows.prompts, clap=clap, mixing=mixing, seed=protocol.pairing_seed))
    rows = (
        _row(study, prepared, real, arm="real", inputs="original accompaniment", prompts=real),
        _row(study, prepared, noise, arm="lower bound", inputs="white noise", prompts=None),
        _row(
            study,
            prepared,
            wrong,
            arm="lower bound",
            inputs="random accompaniment",
            prompts=prepared.prompt_embeddings,
            quality=False,
        ),
    )
    return [ReportRow(arm=row.arm, inputs=row.inputs, candidates=None, scores=make(row)) for row in rows]


def _real(study: Study, prepared: Prepared, make: Make) -> Artifact:
    return make(EmbedWindows(windows=prepared.windows.real, clap=prepared.clap, mixing=Mixing.of(study.protocol)))


def _row(
    study: Study,
    prepared: Prepared,
    candidates: Artifact,
    *,
    arm: str,
    inputs: str,
    prompts: Artifact | None,
    conditioning: Conditioning | None = None,
    quality: bool = True,
    adherence: bool = True,
) -> ScoreRow:
    return ScoreRow(
        arm=arm,
        inputs=inputs,
        conditioning=conditioning,
        candidates=candidates,
        prompts=prompts,
        references=prepared.reference_embeddings,
        mispaired=prepared.mispaired,
        clap=prepared.clap,
        protocol=study.protocol,
        batches=study.protocol.batches if conditioning else study.protocol.bound_batches,
        quality=quality,
        adherence=adherence,
    )


def clap_quality(study: Study, prepared: Prepared, make: Make) -> Artifact | None:
    """How well the small CLAP knows held-out stems; None for LAION's."""
    if isinstance(study.clap, LaionClapRecipe):
        return None
    return make(MeasureClap(train=prepared.train_embeddings, heldout=prepared.reference_embeddings))


def _report(
    study: Study,
    prepared: Prepared,
    rows: list[ReportRow],
    trainings: list[tuple[Arm, Trained]],
    make: Make,
    *,
    command: str,
) -> MakeReport:
    return MakeReport(
        scale=study.scale,
        corpus_name=_corpus_name(study, prepared.corpus),
        codecs=tuple((arm.name, codec_name(arm.denoiser.codec)) for arm, _ in trainings),
        seed=study.seed,
        protocol=study.protocol,
        corpus=prepared.corpus,
        catalogue=prepared.catalogue,
        clap=prepared.clap,
        clap_quality=clap_quality(study, prepared, make),
        cross_check=make(
            CrossCheckFad(candidates=_real(study, prepared, make), references=prepared.reference_embeddings)
        ),
        windows=prepared.windows.prompts,
        rows=tuple(rows),
        trainings=tuple(_curves(trainings)),
        model_rows=tuple((row.arm, row.inputs) for row in rows if row.candidates),
        command=command,
    )


def _corpus_name(study: Study, recordings: Artifact) -> str:
    name = "the embedded corpus" if recordings.stage == "corpus" else "a folder of recordings"
    return f"{name}, played by a soundfont" if study.soundfont_sha256 else name


def _curves(trainings: list[tuple[Arm, Trained]]) -> Iterator[tuple[str, Artifact]]:
    """Each training once, under the name of the first arm that has it."""
    seen: set[Artifact] = set()
    for arm, trained in trainings:
        for name, artifact in ((arm.name, trained.denoiser), (f"{arm.name} bridge", trained.bridge)):
            if artifact and artifact not in seen:
                seen.add(artifact)
                yield name, artifact
