"""The commands about codecs: `stemwright codec fit`, `codec roundtrip`, `codec verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.options import WHOLE, Options, asking, guard

if TYPE_CHECKING:
    from flows.request import StudyRequest

ON_AUDIO: Options = {name: WHOLE[name] for name in ("corpus", "layout", "seed", "workspace", "device")}
codec_app = typer.Typer(no_args_is_help=True, help="Codecs: training, round trips, checks.")


@codec_app.command("fit")
@asking(ON_AUDIO)
def codec_fit(
    request: StudyRequest,
    codec: Annotated[
        str, typer.Option(help="spectral-stereo, spectral-mono, music2latent or music2latent2.")
    ] = "music2latent2",
    size: Annotated[
        str | None, typer.Option(help="tiny, small or base; small unless given. The spectral codecs have one size.")
    ] = None,
    audio: Annotated[str | None, typer.Option(help="Any folder of audio to learn from, whatever is in it.")] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps. Default: those of the size.")] = None,
    batch: Annotated[int | None, typer.Option(help="Crops per step. Default: that of the size.")] = None,
    save_every: Annotated[int, typer.Option(help="Steps between saves: what a kill can lose.")] = 200,
    out: Annotated[str, typer.Option(help="Folder for the weights and the recipe.")] = "codec",
) -> int:
    """Train a codec and write its weights; the same command again goes on where a stopped one was.

    On several GPUs: torchrun --nproc-per-node 8 -m flows codec fit; --batch is then shared among the processes.
    """

    from flows.codec_work import Wish, fit_lines

    wish = Wish(codec=codec, size=size, steps=steps, batch=batch, audio=audio)
    for line in fit_lines(request, wish, Path(out), save_every=save_every):
        print(line)
    return 0


@codec_app.command("roundtrip")
@asking(ON_AUDIO)
def codec_roundtrip(
    request: StudyRequest,
    codecs: Annotated[
        list[str], typer.Argument(help="Folders of codecs; spectral-stereo and spectral-mono are fitted on the spot.")
    ],
    audio: Annotated[
        list[str] | None,
        typer.Option(help="A file or folder to try them on; repeat for several. Default: held-out stems."),
    ] = None,
    clips: Annotated[int, typer.Option(min=2, help="Clips to try every codec on.")] = 32,
    seconds: Annotated[float, typer.Option(min=1.0, help="Length of a clip.")] = 10.0,
    examples: Annotated[int, typer.Option(min=0, help="Clips to keep as audio and pictures.")] = 4,
    out: Annotated[str, typer.Option(help="Folder for audio, pictures and the table.")] = "roundtrip",
) -> int:
    """Encode and decode the same clips with every codec: audio, spectrograms, and one table of distances and speed."""

    from flows.codec_work import Trial, roundtrip_lines

    trial = Trial(audio=tuple(audio or ()), clips=clips, seconds=seconds, examples=examples)
    for line in roundtrip_lines(request, tuple(codecs), trial, Path(out)):
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
