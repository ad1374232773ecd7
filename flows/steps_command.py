"""The command `stemwright steps`: what an arm's candidates score against the steps they are sampled in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from flows.options import (
    Checkpoint,
    Clap,
    Corpus,
    Device,
    Layout,
    MonoCodec,
    Noncommercial,
    Scale,
    Seed,
    Soundfont,
    StereoCodec,
    Tokenizer,
    Workers,
    Workspace,
    run,
)

if TYPE_CHECKING:
    from flows.request import StudyRequest


def steps(
    arm: Annotated[str, typer.Argument(help="An arm by the paper's name: Diff-A-Riff, M2L2, DiT, CLAP_beta, C-DiT.")],
    counts: Annotated[str, typer.Option("--steps", help="Numbers of steps, with commas.")] = "2,4,8,16,32",
    inputs: Annotated[str, typer.Option(help="The row to sample, such as 'CLAP_A,ctx'.")] = "CLAP_T,ctx",
    scale: Scale = "laptop",
    corpus: Corpus = None,
    layout: Layout = None,
    soundfont: Soundfont = None,
    workspace: Workspace = "workspace",
    seed: Seed = 0,
    device: Device = "auto",
    workers: Workers = 0,
    clap: Clap = "auto",
    laion_checkpoint: Checkpoint = None,
    laion_tokenizer: Tokenizer = None,
    mono_codec: MonoCodec = None,
    stereo_codec: StereoCodec = None,
    accept_noncommercial: Noncommercial = False,
) -> None:
    """FAD and the other scores of one arm against sampling steps, by its own solver and the other ones."""

    def start(request: StudyRequest) -> int:
        from flows.steps_work import sampled_lines

        for line in sampled_lines(request, counts=_numbers(counts), inputs=inputs):
            print(line)
        return 0

    run(
        start,
        scale=scale,
        arms=[arm],
        corpus=corpus,
        layout=layout,
        soundfont=soundfont,
        workspace=workspace,
        seed=seed,
        device=device,
        workers=workers,
        clap=clap,
        laion_checkpoint=laion_checkpoint,
        laion_tokenizer=laion_tokenizer,
        mono_codec=mono_codec,
        stereo_codec=stereo_codec,
        accept_noncommercial=accept_noncommercial,
    )


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError as error:
        raise ValueError(f"--steps {text!r}: expected whole numbers with commas between them, such as 2,4,8") from error
