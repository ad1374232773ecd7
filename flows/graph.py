"""The study as a graph of steps, written once: what runs it, plans it or looks it up is handed in.

`make` turns a step into its result. The flows hand in one that builds, `stemwright plan` one that only looks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from flows.preparation import Prepared, prepare
from flows.study import Make, Study
from flows.sureness import Against, alike_stems, compare_arms, measure_row, prompts_truth, wrong_stems
from models.arms import Arm, DenoiserRecipe
from models.clap import LaionClapRecipe
from models.codecs import CodecRecipe
from models.conditioning import Conditioning
from tasks.artifact import Artifact
from tasks.bridge_quality import MeasureBridge
from tasks.context_sensitivity import MeasureContext
from tasks.embed import EmbedNoise, EmbedWindows, Mixing
from tasks.encode import EncodeWindows
from tasks.fit_codec import FitCodec, codec_name
from tasks.generate import GenerateCandidates
from tasks.import_codec import ImportCodec
from tasks.judge import CrossCheckFad, EmbedCandidates, MeasureClap, ScoreRow
from tasks.judged_row import JudgedRow
from tasks.pack import PackLatents
from tasks.reference_state import MeasureReferences
from tasks.report import MakeReport, ReportRow
from tasks.roundtrip_stems import RoundtripStems
from tasks.train import TrainBridge, TrainDenoiser


class Inspected(NamedTuple):
    """What is measured of an arm beside its rows."""

    listening: Artifact
    bridge: Artifact | None


LISTENERS = 16
"""Prompts on which it is measured whether a denoiser listens: three candidates each."""


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
    rows, trainings, inspected = bounds(study, prepared, make), [], []
    for arm in study.arms:
        trained = train_arm(study, prepared, arm, make)
        trainings.append((arm, trained))
        rows += evaluate_arm(study, prepared, arm, trained, rows_of(arm), make)
        inspected.append(inspect_arm(study, prepared, arm, trained, make))
    return _report(study, prepared, rows, trainings, inspected, make, command=command)


def code(study: Study, prepared: Prepared, recipe: CodecRecipe, make: Make) -> Coded:
    """A codec, fitted where none was brought, and the latents of the training windows and the prompts."""
    codec = fitted_codec(study, prepared, recipe, make)
    train = make(EncodeWindows(windows=prepared.windows.train, codec=codec))
    prompts = make(EncodeWindows(windows=prepared.windows.prompts, codec=codec))
    return Coded(
        codec=codec,
        train=make(PackLatents(latents=train, embeddings=prepared.train_embeddings)),
        prompts=make(PackLatents(latents=prompts, embeddings=prepared.prompt_embeddings)),
    )


def fitted_codec(study: Study, prepared: Prepared, recipe: CodecRecipe, make: Make) -> Artifact:
    """A codec that was brought, or one fitted on the training windows."""
    if weights := dict(study.brought).get(recipe):
        return make(ImportCodec(recipe=recipe, sha256=weights))
    windows, first = prepared.windows.train, study.codec_windows
    return make(FitCodec(recipe=recipe, windows=windows, first_windows=first, seed=study.seed))


def train_arm(study: Study, prepared: Prepared, arm: Arm, make: Make) -> Trained:
    """An arm's codec, denoiser and bridge. Arms that share a recipe share the result."""
    coded = code(study, prepared, arm.denoiser.codec, make)
    denoiser = _denoiser(arm.denoiser, coded, make)
    bridge = make(TrainBridge(data=coded.train, recipe=arm.bridge)) if arm.bridge else None
    return Trained(coded=coded, denoiser=denoiser, bridge=bridge)


def _denoiser(recipe: DenoiserRecipe, coded: Coded, make: Make) -> Artifact:
    start = _denoiser(recipe.start, coded, make) if recipe.start else None
    return make(TrainDenoiser.of(recipe, data=coded.train, start=start, heldout=coded.prompts, codec=coded.codec))


def evaluate_arm(
    study: Study, prepared: Prepared, arm: Arm, trained: Trained, conditionings: tuple[Conditioning, ...], make: Make
) -> list[ReportRow]:
    """The rows of one arm: generate, embed, score."""
    against = prompts_truth(study, prepared, make)
    return [_evaluate(study, prepared, arm, trained, conditioning, against, make) for conditioning in conditionings]


def _evaluate(
    study: Study,
    prepared: Prepared,
    arm: Arm,
    trained: Trained,
    conditioning: Conditioning,
    against: Against,
    make: Make,
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
    row = _row(
        study,
        prepared,
        judged,
        make,
        arm=arm.name,
        inputs=conditioning.label,
        conditioning=conditioning,
        prompts=prepared.prompt_embeddings,
        adherence=conditioning.context,
    )
    scores, statistics = make(ScoreRow(row=row)), measure_row(study, prepared, row, against, make)
    return ReportRow(row=row, candidates=candidates, scores=scores, statistics=statistics)


def bounds(study: Study, prepared: Prepared, make: Make) -> list[ReportRow]:
    """The real row, what the codecs make of it, and the lower bounds: other embeddings through the same scores."""
    protocol, clap = study.protocol, prepared.clap
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
    wrong = wrong_stems(study, prepared, make)
    rows = (
        _row(study, prepared, real, make, arm="real", inputs="original accompaniment", prompts=real),
        _row(study, prepared, noise, make, arm="lower bound", inputs="white noise", prompts=None),
        _row(
            study,
            prepared,
            wrong,
            make,
            arm="lower bound",
            inputs="random accompaniment",
            prompts=prepared.prompt_embeddings,
            quality=False,
        ),
        _row(
            study,
            prepared,
            alike_stems(study, prepared, make),
            make,
            arm="lower bound",
            inputs="alike accompaniment",
            prompts=prepared.prompt_embeddings,
            quality=False,
        ),
        *_through_codecs(study, prepared, real, make),
    )
    return [
        ReportRow(
            row=row,
            candidates=None,
            scores=make(ScoreRow(row=row)),
            statistics=measure_row(study, prepared, row, None, make),
        )
        for row in rows
    ]


def _through_codecs(study: Study, prepared: Prepared, real: Artifact, make: Make) -> Iterator[JudgedRow]:
    """The real stems through each codec of the study: what of an arm's distance its codec alone would cost."""
    for recipe in dict.fromkeys(arm.denoiser.codec for arm in study.arms):
        heard = make(
            RoundtripStems(
                codec=fitted_codec(study, prepared, recipe, make),
                windows=prepared.windows.real,
                count=study.candidates,
                seed=study.seed,
            )
        )
        judged = make(
            EmbedCandidates(
                candidates=heard,
                windows=prepared.windows.real,
                clap=prepared.clap,
                mixing=Mixing.of(study.protocol),
            )
        )
        yield _row(
            study,
            prepared,
            judged,
            make,
            arm="real",
            inputs=f"through {codec_name(recipe)}",
            prompts=real,
            batches=study.protocol.batches,
        )


def _real(study: Study, prepared: Prepared, make: Make) -> Artifact:
    return make(EmbedWindows(windows=prepared.windows.real, clap=prepared.clap, mixing=Mixing.of(study.protocol)))


def _row(
    study: Study,
    prepared: Prepared,
    candidates: Artifact,
    make: Make,
    *,
    arm: str,
    inputs: str,
    prompts: Artifact | None,
    conditioning: Conditioning | None = None,
    quality: bool = True,
    adherence: bool = True,
    batches: int | None = None,
) -> JudgedRow:
    references, mispaired = prepared.reference_embeddings, prepared.mispaired
    return JudgedRow(
        arm=arm,
        inputs=inputs,
        conditioning=conditioning,
        candidates=candidates,
        prompts=prompts,
        references=references,
        mispaired=mispaired,
        reference_state=make(MeasureReferences(references=references, mispaired=mispaired)),
        clap=prepared.clap,
        protocol=study.protocol,
        batches=batches or (study.protocol.batches if conditioning else study.protocol.bound_batches),
        quality=quality,
        adherence=adherence,
    )


def clap_quality(study: Study, prepared: Prepared, make: Make) -> Artifact | None:
    """How well the small CLAP knows held-out stems; None for LAION's."""
    if isinstance(study.clap, LaionClapRecipe):
        return None
    return make(MeasureClap(clap=prepared.clap, train=prepared.train_embeddings, heldout=prepared.reference_embeddings))


def inspect_arm(study: Study, prepared: Prepared, arm: Arm, trained: Trained, make: Make) -> Inspected:
    """What the context changes to an arm's denoiser, and what its bridge is worth."""
    heard = MeasureContext(
        denoiser=trained.denoiser,
        codec=trained.coded.codec,
        prompts=trained.coded.prompts,
        windows=prepared.windows.prompts,
        references=prepared.reference_embeddings,
        mispaired=prepared.mispaired,
        clap=prepared.clap,
        sampler=arm.sampler,
        guidance=arm.guidance,
        mixing=Mixing.of(study.protocol),
        samples=study.rule.window_samples,
        count=min(LISTENERS, study.candidates),
        seed=study.seed,
    )
    return Inspected(listening=make(heard), bridge=_bridge_quality(study, prepared, trained, make))


def _bridge_quality(study: Study, prepared: Prepared, trained: Trained, make: Make) -> Artifact | None:
    if trained.bridge is None:
        return None
    heldout = prepared.reference_embeddings
    return make(MeasureBridge(bridge=trained.bridge, train=trained.coded.train, heldout=heldout, seed=study.seed))


def _report(
    study: Study,
    prepared: Prepared,
    rows: list[ReportRow],
    trainings: list[tuple[Arm, Trained]],
    inspected: list[Inspected],
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
        bridge_quality=next((found.bridge for found in inspected if found.bridge), None),
        listening=tuple(
            _once((arm.name, found.listening) for (arm, _), found in zip(trainings, inspected, strict=True))
        ),
        cross_check=make(
            CrossCheckFad(candidates=_real(study, prepared, make), references=prepared.reference_embeddings)
        ),
        windows=prepared.windows.prompts,
        rows=tuple(rows),
        comparisons=tuple(compare_arms(study, [row.row for row in rows], make)),
        trainings=tuple(_curves(trainings)),
        model_rows=tuple((row.arm, row.inputs) for row in rows if row.candidates),
        command=command,
    )


def _corpus_name(study: Study, recordings: Artifact) -> str:
    name = "the embedded corpus" if recordings.stage == "corpus" else "a folder of recordings"
    return f"{name}, played by a soundfont" if study.soundfont_sha256 else name


def _curves(trainings: list[tuple[Arm, Trained]]) -> Iterator[tuple[str, Artifact]]:
    """Each training once, under the name of the first arm that has it."""
    named = (((arm.name, trained.denoiser), (f"{arm.name} bridge", trained.bridge)) for arm, trained in trainings)
    return _once((name, artifact) for pair in named for name, artifact in pair if artifact)


def _once(named: Iterable[tuple[str, Artifact]]) -> Iterator[tuple[str, Artifact]]:
    """Each artifact under the first of its names."""
    seen: set[Artifact] = set()
    for name, artifact in named:
        if artifact not in seen:
            seen.add(artifact)
            yield name, artifact
