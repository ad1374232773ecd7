"""The command `stemwright studio`: a page on this machine to play along on, with an exported model."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.options import Device, guard

if TYPE_CHECKING:
    from models.accompanist import Brought


def studio(
    model: Annotated[str, typer.Option(help="A model folder that `stemwright export` wrote.")],
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Of 127.0.0.1; 0 is any free one.")] = 8321,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")] = True,
    history: Annotated[str, typer.Option(help="Folder for what is dropped and played; kept for the next time.")] = (
        "studio"
    ),
    codec: Annotated[
        str | None, typer.Option(help="The released codec's checkpoint, where the model needs it.")
    ] = None,
    laion_checkpoint: Annotated[str | None, typer.Option(help="LAION-CLAP, where the model needs it.")] = None,
    laion_tokenizer: Annotated[str | None, typer.Option(help="The folder of its tokenizer.")] = None,
    device: Device = "auto",
) -> None:
    """Open a page to play along on: drop music, describe a part, hear variations. On this machine alone, offline."""

    def start() -> int:
        from models.accompanist import Brought

        codec_file, clap_file, tokenizer = (
            Path(given) if given else None for given in (codec, laion_checkpoint, laion_tokenizer)
        )
        brought = Brought(codec=codec_file, clap=clap_file, clap_tokenizer=tokenizer)
        return _serve(Path(model), brought, Path(history), port, browser, device)

    guard(start)


def _serve(model: Path, brought: Brought, history: Path, port: int, browser: bool, device: str) -> int:
    import torch

    from models.accompanist import Accompanist
    from tasks.studio import serve

    where = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    player = Accompanist.load(model, where, brought)

    def opened(address: str) -> None:
        print(f"{player.model.arm.name} plays at {address} (Ctrl-C ends it); kept in {history}", flush=True)
        if browser:
            webbrowser.open(address)

    serve(player, history, port, opened)
    return 0
