"""The command `stemwright play`: parts that fit the music of a file, from an exported model."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.options import Device, guard

if TYPE_CHECKING:
    from models.accompanist import Brought
    from tasks.play_ask import Ask


def play(
    model: Annotated[str, typer.Option(help="A model folder that `stemwright export` wrote.")],
    out: Annotated[str, typer.Option(help="Folder for stems, mixes and play.json; must not be there yet.")],
    context: Annotated[
        str | None, typer.Argument(help="The music to play along with, in any format; none: a part by itself.")
    ] = None,
    prompt: Annotated[str | None, typer.Option(help="The part in a few words, with commas between them.")] = None,
    reference: Annotated[str | None, typer.Option(help="A recording of the sound that is wanted.")] = None,
    interpolate: Annotated[
        tuple[str, str, float] | None,
        typer.Option(help="Two recordings and a number from 0 (the first) to 1: a style between them."),
    ] = None,
    inpaint: Annotated[
        tuple[str, str] | None, typer.Option(help="From where to where, as 12.0:16.5 seconds, and the stem to mend.")
    ] = None,
    vary: Annotated[
        tuple[float, str] | None, typer.Option(help="How much, from 0 to 1, and the stem to play differently.")
    ] = None,
    continue_: Annotated[
        str | None, typer.Option("--continue", help="A stem to go on with to the end of the music.")
    ] = None,
    loop: Annotated[str | None, typer.Option(help="A loop, as 4bars (with --tempo, of 4 beats) or 6.5s.")] = None,
    tempo: Annotated[float | None, typer.Option(help="Beats per minute, for a loop in bars.")] = None,
    seconds: Annotated[float | None, typer.Option(help="How long to play where there is no context.")] = None,
    variations: Annotated[int, typer.Option(min=1, max=64, help="How many parts.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same parts.")] = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="Sampling steps. Default: the model's.")] = None,
    guide_context: Annotated[
        float | None, typer.Option(help="How closely to follow the music; 1 is plain. Default: the model's.")
    ] = None,
    guide_clap: Annotated[
        float | None, typer.Option(help="How closely to follow prompt or reference. Default: the model's.")
    ] = None,
    stereo_width: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="For mono models: 0 is mono. Default: the model's.")
    ] = None,
    codec: Annotated[
        str | None, typer.Option(help="The released codec's checkpoint, where the model needs it.")
    ] = None,
    laion_checkpoint: Annotated[str | None, typer.Option(help="LAION-CLAP, where the model needs it.")] = None,
    laion_tokenizer: Annotated[str | None, typer.Option(help="The folder of its tokenizer.")] = None,
    device: Device = "auto",
) -> None:
    """Play along: a 48 kHz stem for each variation, exactly as long as the music, and a mix of each to listen to."""

    def start() -> int:
        from flows.play_edit import edit_of
        from models.accompanist import Brought
        from tasks.play_ask import Ask, Between

        ask = Ask(
            context=_path(context),
            prompt=prompt,
            reference=_path(reference),
            between=Between(first=Path(interpolate[0]), second=Path(interpolate[1]), ratio=interpolate[2])
            if interpolate
            else None,
            edit=edit_of(inpaint=inpaint, vary=vary, go_on=continue_, loop=loop, tempo=tempo),
            seconds=seconds,
            variations=variations,
            seed=seed,
            steps=steps,
            guide_context=guide_context,
            guide_clap=guide_clap,
            stereo_width=stereo_width,
        )
        brought = Brought(codec=_path(codec), clap=_path(laion_checkpoint), clap_tokenizer=_path(laion_tokenizer))
        return _play(ask, Path(model), brought, Path(out), device)

    guard(start)


def _play(ask: Ask, model: Path, brought: Brought, out: Path, device: str) -> int:
    import torch

    from models.accompanist import Accompanist
    from tasks.play import TOLD, play_along

    started = time.perf_counter()
    where = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    record = play_along(Accompanist.load(model, where, brought), ask, out, _say)
    for note in record["notes"]:
        print(f"note: {note}")
    for played in record["variations"]:
        print(f"{out / played['stem']}{_scores(played['scores'])}")
    print(f"how to repeat it: {out / TOLD}; {time.perf_counter() - started:.1f} s")
    return 0


def _say(stage: str, share: float) -> None:
    """Progress, on a terminal alone."""
    if sys.stderr.isatty():
        print(f"\r{stage} {share:4.0%}  ", end="" if (stage, share) != ("writing", 1.0) else "\n", file=sys.stderr)


def _scores(scores: dict[str, object]) -> str:
    """What is known of one part: how alike it is to what was asked for."""
    prompt = [f"like the prompt {scores['prompt']}"] if scores["prompt"] is not None else []
    references = scores["references"]
    assert isinstance(references, list)
    said = prompt + [f"like the reference {cosine}" for cosine in references]
    return f"  ({', '.join(said)})" if said else ""


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
