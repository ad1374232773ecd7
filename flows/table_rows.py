"""The rows of the table, as steps: what an arm plays under a conditioning, and the bounds, through the same scores."""

from __future__ import annotations

from collections.abc import Iterator

from flows.arm_training import Trained, fitted_codec
from flows.preparation import Prepared
from flows.study import Make, Study
from flows.sureness import Against, alike_stems, measure_row, prompts_truth, wrong_stems
from models.arms import Arm
from models.conditioning import Conditioning
from tasks.artifact import Artifact
from tasks.embed import EmbedNoise, EmbedWindows, Mixing
from tasks.fit_codec import codec_name
from tasks.generate import GenerateCandidates
from tasks.judge import EmbedCandidates, ScoreRow
from tasks.judged_row import JudgedRow
from tasks.reference_state import MeasureReferences
from tasks.report import ReportRow
from tasks.roundtrip_stems import RoundtripStems


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
    row = _judged_row(
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
    real = real_stems(study, prepared, make)
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
        _judged_row(study, prepared, real, make, arm="real", inputs="original accompaniment", prompts=real),
        _judged_row(study, prepared, noise, make, arm="lower bound", inputs="white noise", prompts=None),
        _judged_row(
            study,
            prepared,
            wrong,
            make,
            arm="lower bound",
            inputs="random accompaniment",
            prompts=prepared.prompt_embeddings,
            quality=False,
        ),
        _judged_row(
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
        yield _judged_row(
            study,
            prepared,
            judged,
            make,
            arm="real",
            inputs=f"through {codec_name(recipe)}",
            prompts=real,
            batches=study.protocol.batches,
        )


def real_stems(study: Study, prepared: Prepared, make: Make) -> Artifact:
    return make(EmbedWindows(windows=prepared.windows.real, clap=prepared.clap, mixing=Mixing.of(study.protocol)))


def _judged_row(
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
