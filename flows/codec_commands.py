"""The commands about codecs: `stemwright codec fit`, `codec roundtrip`, `codec verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.options import Corpus, Device, Layout, Seed, Workspace, guard, run

if TYPE_CHECKING:
    from flows.codec_work import Trial, Wish
    from flows.request import StudyRequest

codec_app = typer.Typer(no_args_is_help=True, help="Codecs: training, round trips, checks.")


@codec_app.command("fit")
def codec_fit(
    codec: Annotated[
        str, typer.Option(help="spectral-stereo, spectral-mono, music2latent or music2latent2.")
    ] = "music2latent2",
    size: Annotated[
        str | None, typer.Option(help="tiny, small or base; small unless given. The spectral codecs have one size.")
    ] = None,
    audio: Annotated[str | None, typer.Option(help="Any folder of audio to learn from, whatever is in it.")] = None,
    corpus: Corpus = None,
    layout: Layout = None,
    steps: Annotated[int | None, typer.Option(help="Training steps. Default: those of the size.")] = None,
    batch: Annotated[int | None, typer.Option(help="Crops per step. Default: that of the size.")] = None,
    save_every: Annotated[int, typer.Option(help="Steps between saves: what a kill can lose.")] = 200,
    seed: Seed = 0,
    out: Annotated[str, typer.Option(help="Folder for the weights and the recipe.")] = "codec",
    workspace: Workspace = "workspace",
    device: Device = "auto",
) -> None:
    """Train a codec and write its weights; the same command again goes on where a stopped one was.

    On several GPUs: torchrun --nproc-per-node 8 -m flows codec fit; --batch is then shared among the processes.
    """

    def fit(request: StudyRequest) -> int:
        from flows.codec_work import Wish

        wish = Wish(codec=codec, size=size, steps=steps, batch=batch, audio=audio)
        return _fit(request, wish, Path(out), save_every)

    run(fit, corpus=corpus, layout=layout, seed=seed, workspace=workspace, device=device)


def _fit(request: StudyRequest, wish: Wish, out: Path, save_every: int) -> int:
    from flows.codec_work import fit_lines

    for line in fit_lines(request, wish, out, save_every=save_every):
        print(line)
    return 0


@codec_app.command("roundtrip")
def codec_roundtrip(
    codecs: Annotated[
        list[str], typer.Argument(help="Folders of codecs; spectral-stereo and spectral-mono are fitted on the spot.")
    ],
    audio: Annotated[
        list[str] | None,
        typer.Option(help="A file or folder to try them on; repeat for several. Default: held-out stems."),
    ] = None,
    corpus: Corpus = None,
    layout: Layout = None,
    clips: Annotated[int, typer.Option(min=2, help="Clips to try every codec on.")] = 32,
    seconds: Annotated[float, typer.Option(min=1.0, help="Length of a clip.")] = 10.0,
    examples: Annotated[int, typer.Option(min=0, help="Clips to keep as audio and pictures.")] = 4,
    seed: Seed = 0,
    out: Annotated[str, typer.Option(help="Folder for audio, pictures and the table.")] = "roundtrip",
    workspace: Workspace = "workspace",
    device: Device = "auto",
) -> None:
    """Encode and decode the same clips with every codec: audio, spectrograms, and one table of distances and speed."""

    def roundtrip(request: StudyRequest) -> int:
        from flows.codec_work import Trial

        trial = Trial(audio=tuple(audio or ()), clips=clips, seconds=seconds, examples=examples)
        return _roundtrip(request, tuple(codecs), trial, Path(out))

    run(roundtrip, corpus=corpus, layout=layout, seed=seed, workspace=workspace, device=device)


def _roundtrip(request: StudyRequest, codecs: tuple[str, ...], trial: Trial, out: Path) -> int:
    from flows.codec_work import roundtrip_lines

    for line in roundtrip_lines(request, codecs, trial, out):
        print(line)
    return 0


@codec_app.command("verify")
def codec_verify(
    folder: Annotated[str, typer.Argument(help="A folder that holds codec.safetensors and codec.json.")],
) -> None:
    """Check a codec: digest, exact lengths, batches, seeds, silence, and latents that carry content; exit 1 if not."""
    guard(lambda: _verify(Path(folder)))


def _verify(folder: Path) -> int:
    from tasks.codec_checks import codec_checks

    passed = True
    for check in codec_checks(folder):
        print(check.line())
        passed = passed and check.passed
    return 0 if passed else 1
