"""What `stemwright train` does: one arm's steps of the study, alone or by the processes of torchrun."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from flows import preparation
from flows.arm_training import Trained, train_arm
from flows.request import StudyRequest
from flows.session import session
from models.data_parallel import processes
from tasks.artifact import Artifact
from tasks.materialise import build
from tasks.process_group import built_together, first_alone, process_group
from tasks.progress import say_results
from tasks.runtime import Runtime
from tasks.step import Step
from tasks.store import Store
from tasks.telemetry_file import TELEMETRY
from tasks.train import WEIGHTS, Training


def train_lines(
    request: StudyRequest, *, resume: bool, compiled: bool, save_every: int, preview_every: int | None
) -> Iterator[str]:
    """Train the request's one arm, or find it trained; lines that say where its weights and figures are.

    Without `resume`, the saved states of its unfinished trainings are forgotten first.

    Of the processes of torchrun, the first prepares and writes alone, and all train:

        torchrun --nproc-per-node 2 -m flows train DiT --scale gpu
    """
    with process_group(request.runtime().device) as group:
        if group.rank == 0:
            say_results()
        with first_alone():
            ready = session(request)
        threads = max(1, ready.runtime.torch_threads // group.size)
        runtime = replace(
            ready.runtime,
            compiled=compiled,
            save_every=save_every,
            preview_every=preview_every,
            torch_threads=threads,
        )
        make = partial(_made, runtime=runtime, resume=resume)
        prepared = preparation.prepare(ready.study, ready.folder, make)
        trained = train_arm(ready.study, prepared, ready.study.arms[0], make)
        if group.rank == 0:
            yield from _places(trained)


def _made(step: Step, runtime: Runtime, *, resume: bool) -> Artifact:
    make = partial(build, runtime=runtime)
    if isinstance(step, Training):
        if not resume and processes().rank == 0:
            Store(runtime.root / "artifacts").begin_anew(step)
        return built_together(step, make, runtime) or make(step)  # the others find it
    with first_alone():
        return make(step)


def _places(trained: Trained) -> Iterator[str]:
    for artifact in (trained.denoiser, trained.bridge):
        if artifact:
            yield f"{artifact.stage}: {artifact.path / WEIGHTS}, figures of the training: {artifact.path / TELEMETRY}"
