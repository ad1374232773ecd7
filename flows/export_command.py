"""The command `stemwright export`: a trained arm as a folder to play with, or to give away."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.options import (
    Checkpoint,
    Clap,
    Corpus,
    Fused,
    Layout,
    MonoCodec,
    Noncommercial,
    Scale,
    Seed,
    ShardRoot,
    Soundfont,
    StereoCodec,
    Tokenizer,
    Weight,
    Workspace,
    run,
)

if TYPE_CHECKING:
    from flows.request import StudyRequest


def export(
    arm: Annotated[str, typer.Argument(help="An arm by the paper's name: Diff-A-Riff, M2L2, DiT, CLAP_beta, C-DiT.")],
    out: Annotated[str, typer.Option(help="The folder to write, which must not be there yet.")],
    scale: Scale = "laptop",
    corpus: Corpus = None,
    layout: Layout = None,
    weight: Weight = None,
    soundfont: Soundfont = None,
    workspace: Workspace = "workspace",
    seed: Seed = 0,
    shard_root: ShardRoot = None,
    fused: Fused = False,
    clap: Clap = "auto",
    laion_checkpoint: Checkpoint = None,
    laion_tokenizer: Tokenizer = None,
    mono_codec: MonoCodec = None,
    stereo_codec: StereoCodec = None,
    accept_noncommercial: Noncommercial = False,
) -> None:
    """Write a trained arm as one folder: averaged weights, config.json and a model card; for `stemwright play`.

    The options are those that it was trained with. Nothing is trained here.
    """
    run(
        lambda request: _export(request, Path(out)),
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
        clap=clap,
        laion_checkpoint=laion_checkpoint,
        laion_tokenizer=laion_tokenizer,
        mono_codec=mono_codec,
        stereo_codec=stereo_codec,
        accept_noncommercial=accept_noncommercial,
        device="cpu",
    )


def _export(request: StudyRequest, out: Path) -> int:
    from flows.export_work import export_lines

    for line in export_lines(request, out):
        print(line)
    return 0
