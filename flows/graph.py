"""The study as a graph of steps, written once: what runs it, plans it or looks it up is handed in.

`make` turns a step into its result. The flows hand in one that builds, `stemwright plan` one that only looks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from flows.arm_training import Trained, train_arm
from flows.preparation import Prepared, prepare
from flows.study import Make, Study
from flows.sureness import compare_arms
from flows.table_rows import bounds, evaluate_arm, real_stems
from models.arms import Arm
from models.clap import LaionClapRecipe
from models.conditioning import Conditioning
from tasks.artifact import Artifact
from tasks.bridge_quality import MeasureBridge
from tasks.context_sensitivity import MeasureContext
from tasks.embed import Mixing
from tasks.fit_codec import codec_name
from tasks.judge import CrossCheckFad, MeasureClap
from tasks.report import MakeReport, ReportRow


class Inspected(NamedTuple):
    """What is measured of an arm beside its rows."""

    listening: Artifact
    bridge: Artifact | None


LISTENERS = 16
"""Prompts on which it is measured whether a denoiser listens: three candidates each."""


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
            CrossCheckFad(candidates=real_stems(study, prepared, make), references=prepared.reference_embeddings)
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
