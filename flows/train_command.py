"""The command `stemwright train`: one arm, and what it will cost before it is begun."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from flows.options import (
    Checkpoint,
    Clap,
    Corpus,
    Device,
    Fused,
    Layout,
    MonoCodec,
    Noncommercial,
    Scale,
    Scheduler,
    Seed,
    ShardRoot,
    Soundfont,
    StereoCodec,
    Tokenizer,
    Tracking,
    Weight,
    Workers,
    Workspace,
    run,
)

if TYPE_CHECKING:
    from flows.request import StudyRequest

STOPPED = 130  # the exit code of an interrupted command


def train(
    arm: Annotated[str, typer.Argument(help="An arm by the paper's name: Diff-A-Riff, M2L2, DiT, CLAP_beta, C-DiT.")],
    scale: Scale = "laptop",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the recipe, its size and its cost, and train nothing.")
    ] = False,
    resume: Annotated[
        bool,
        typer.Option("--resume/--anew", help="Go on from the last saved state, or forget it and begin at step 0."),
    ] = True,
    compiled: Annotated[bool, typer.Option("--compile", help="Run the network through torch.compile.")] = False,
    save_every: Annotated[int, typer.Option(min=1, help="Steps between saves: what a kill can lose.")] = 200,
    preview_every: Annotated[
        int | None, typer.Option(min=1, help="Steps between previews: held-out prompts as audio and a picture.")
    ] = None,
    corpus: Corpus = None,
    layout: Layout = None,
    weight: Weight = None,
    soundfont: Soundfont = None,
    workspace: Workspace = "workspace",
    seed: Seed = 0,
    shard_root: ShardRoot = None,
    fused: Fused = False,
    device: Device = "auto",
    workers: Workers = 0,
    dask_scheduler: Scheduler = None,
    mlflow_uri: Tracking = None,
    clap: Clap = "auto",
    laion_checkpoint: Checkpoint = None,
    laion_tokenizer: Tokenizer = None,
    mono_codec: MonoCodec = None,
    stereo_codec: StereoCodec = None,
    accept_noncommercial: Noncommercial = False,
) -> None:
    """Train one arm, with all it needs; the same command goes on where it was stopped, and `reproduce` finds it."""

    def start(request: StudyRequest) -> int:
        if dry_run:
            return _estimate(request)
        return _train(request, resume=resume, compiled=compiled, save_every=save_every, preview_every=preview_every)

    run(
        start,
        scale=scale,
        arms=[arm],
        corpus=corpus,
        layout=layout,
        weight=weight,
        soundfont=soundfont,
        workspace=workspace,
        seed=seed,
        shard_root=shard_root,
        fused=fused,
        device=device,
        workers=workers,
        dask_scheduler=dask_scheduler,
        mlflow_uri=mlflow_uri,
        clap=clap,
        laion_checkpoint=laion_checkpoint,
        laion_tokenizer=laion_tokenizer,
        mono_codec=mono_codec,
        stereo_codec=stereo_codec,
        accept_noncommercial=accept_noncommercial,
    )


def _estimate(request: StudyRequest) -> int:
    from flows.training_estimate import estimate_lines

    for line in estimate_lines(request):
        print(line)
    return 0


def _train(request: StudyRequest, *, resume: bool, compiled: bool, save_every: int, preview_every: int | None) -> int:
    from flows.train_work import train_lines
    from models.training import TrainingStopped

    try:
        lines = train_lines(
            request, resume=resume, compiled=compiled, save_every=save_every, preview_every=preview_every
        )
        for line in lines:
            print(line)
    except TrainingStopped as stopped:
        print(f"{stopped}; the same command goes on from there", file=sys.stderr)
        return STOPPED
    return 0
