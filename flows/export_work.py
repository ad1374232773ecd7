"""What `stemwright export` does: finds what a training left, and never trains."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flows import preparation
from flows.arm_training import train_arm
from flows.request import StudyRequest
from flows.session import Session, session
from tasks.artifact import Artifact
from tasks.export_model import TrainedArm, export_model
from tasks.report import SCORES
from tasks.runtime import code_version
from tasks.step import Step
from tasks.store import Store


def export_lines(request: StudyRequest, out: Path) -> Iterator[str]:
    """Write the request's one arm into `out`; lines that say what is there. ValueError where it is not trained."""
    ready = session(request)
    arm = ready.study.arms[0]
    store = Store(ready.runtime.root / "artifacts")

    def find(step: Step) -> Artifact:
        found = store.find(step)
        if found is None:
            raise ValueError(
                f"{arm.name} is not trained in {request.workspace}: {step.describe()} is missing; make it with "
                f"stemwright train {arm.name.lstrip('+')} --scale {request.scale} and the same options"
            )
        return found

    prepared = preparation.prepare(ready.study, ready.folder, find)
    trained = train_arm(ready.study, prepared, arm, find)
    scores = ready.runtime.root / "reports" / request.name() / SCORES
    export_model(
        TrainedArm(
            arm=arm,
            denoiser=trained.denoiser,
            bridge=trained.bridge,
            codec=trained.coded.codec,
            clap=prepared.clap,
            window_samples=ready.study.rule.window_samples,
            about=_about(ready, prepared.corpus),
        ),
        out,
        scores=scores if scores.is_file() else None,
    )
    yield f"{arm.name} is in {out}; its card: {out / 'README.md'}"
    yield f'play: stemwright play SONG.wav --model {out} --prompt "…" --out parts'


def _about(ready: Session, corpus: Artifact) -> dict[str, Any]:
    """What the card says of data and code; no path of this machine."""
    embedded = corpus.stage == "corpus"
    return {
        "scale": ready.study.scale,
        "seed": ready.study.seed,
        "corpus": "the embedded corpus" if embedded else "a folder of recordings",
        "corpus_digest": corpus.digest,
        "train_windows": ready.study.train_windows,
        "licence": "apache-2.0" if embedded else "other",
        "version": version("stemwright"),
        "commit": code_version()["commit"],
    }
