"""The options that commands share, and how a command runs: its input checked, its mistakes one line."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from flows.request import StudyRequest

Scale = Annotated[str, typer.Option(help="Size of the whole study: tiny, laptop, gpu or paper.")]
Corpus = Annotated[
    list[str] | None,
    typer.Option(help="A folder of multitrack recordings; repeat for several. Default: the embedded corpus."),
]
Layout = Annotated[
    list[str] | None,
    typer.Option(help="How a --corpus is laid out, such as musdb18hq or plain; repeat for each. Default: recognised."),
]
Weight = Annotated[
    list[float] | None, typer.Option(help="A --corpus' share of the training pairs, in any unit; repeat for each.")
]
Soundfont = Annotated[
    str | None,
    typer.Option(help="An .sf2 or .sf3 file: plays the embedded songs, or a --corpus of MIDI files, with fluidsynth."),
]
ShardRoot = Annotated[
    str | None,
    typer.Option(help="Where windows and latents go: a folder or s3://bucket/prefix. Default: the workspace."),
]
Fused = Annotated[bool, typer.Option("--fused", help="Keep no training windows: cut them whenever they are heard.")]
Arm = Annotated[str, typer.Argument(help="An arm by the paper's name: Diff-A-Riff, M2L2, DiT, CLAP_beta, C-DiT.")]
Arms = Annotated[
    list[str] | None, typer.Option(help="An arm by the paper's name; repeat for several. Default: all five.")
]
Rows = Annotated[
    list[str] | None, typer.Option(help="A conditioning such as 'CLAP_A,ctx'; repeat for several. Default: all.")
]
Workspace = Annotated[str, typer.Option(help="Folder of results, MLflow database and reports.")]
Seed = Annotated[int, typer.Option(help="Seeds corpus, pairs, training and candidates.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda where there is one.")]
Workers = Annotated[int, typer.Option(help="Workers of the local Dask cluster; 0: one a core.")]
MostWorkers = Annotated[
    int, typer.Option(help="Let the local Dask cluster grow to so many while work waits; 0: none come and go.")
]
ArmWorkers = Annotated[int, typer.Option(help="Arms built side by side; 0: two on a CPU, one on a GPU.")]
Scheduler = Annotated[str | None, typer.Option(envvar="DASK_SCHEDULER_ADDRESS", help="Address of a Dask scheduler.")]
Tracking = Annotated[
    str | None, typer.Option(envvar="MLFLOW_TRACKING_URI", help="MLflow server. Default: SQLite in the workspace.")
]
Clap = Annotated[
    str,
    typer.Option(
        help="Who judges: shipped, fit (on this corpus), laion, laion-int16 (hears 16 bits); auto: as the scale says."
    ),
]
Tokenizer = Annotated[
    str | None, typer.Option(help="Folder with roberta-base's vocab.json and merges.txt, for LAION-CLAP.")
]
Checkpoint = Annotated[str | None, typer.Option(help="A local LAION-CLAP checkpoint, needed at the paper's scale.")]
MonoCodec = Annotated[
    str | None, typer.Option(help="A mono codec: a folder of `codec fit`, or the released Music2Latent's checkpoint.")
]
StereoCodec = Annotated[
    str | None, typer.Option(help="A stereo codec: a folder of `codec fit`, or the released CoDiCodec's checkpoint.")
]
Noncommercial = Annotated[
    bool, typer.Option("--accept-noncommercial", help="Use released codecs, whose weights are CC BY-NC 4.0.")
]
Refresh = Annotated[
    bool, typer.Option("--refresh", help="Make suspect results again: those whose code has changed since.")
]
RefreshStages = Annotated[
    list[str] | None,
    typer.Option("--refresh-stage", help="Make only the suspect results of this stage again; repeat for several."),
]
AllowSuspect = Annotated[
    bool, typer.Option("--allow-suspect", help="Use results whose code has changed since as they are.")
]


Options = dict[str, tuple[Any, Any]]
"""Fields of a StudyRequest, each with its option and what it is where it is not given."""

WHAT: Options = {
    "scale": (Scale, "laptop"),
    "corpus": (Corpus, None),
    "layout": (Layout, None),
    "weight": (Weight, None),
    "soundfont": (Soundfont, None),
    "fused": (Fused, False),
    "arms": (Arms, None),
    "conditionings": (Rows, None),
    "workspace": (Workspace, "workspace"),
    "seed": (Seed, 0),
    "clap": (Clap, "auto"),
    "laion_checkpoint": (Checkpoint, None),
    "laion_tokenizer": (Tokenizer, None),
    "mono_codec": (MonoCodec, None),
    "stereo_codec": (StereoCodec, None),
    "accept_noncommercial": (Noncommercial, False),
}
"""Which study, and where its results are."""

OF_ONE_ARM: Options = {name: option for name, option in WHAT.items() if name not in ("arms", "conditionings")}
"""Which study an arm is of, for a command that takes the arm's name."""

HOW: Options = {
    "shard_root": (ShardRoot, None),
    "device": (Device, "auto"),
    "workers": (Workers, 0),
    "most_workers": (MostWorkers, 0),
    "dask_scheduler": (Scheduler, None),
    "mlflow_uri": (Tracking, None),
}
"""Where and by whom it is built."""

WHOLE: Options = {
    **WHAT,
    **HOW,
    "arm_workers": (ArmWorkers, 0),
    "refresh": (Refresh, False),
    "refresh_stages": (RefreshStages, None),
    "allow_suspect": (AllowSuspect, False),
}
"""All of a request: what `reproduce` takes, and what a deployment of it may be told."""


def asking(options: Options) -> Callable[[Callable[..., int]], Callable[..., None]]:
    """Makes an action on a request a command with these options, beside those that the action has of its own."""

    def command_of(action: Callable[..., int]) -> Callable[..., None]:
        # The request's type is known to type checkers alone: its import is what `--help` does without.
        _, *own = inspect.signature(action, locals={"StudyRequest": Any}, eval_str=True).parameters.values()

        def command(**values: Any) -> None:
            told = {parameter.name: values.pop(parameter.name) for parameter in own}
            run(partial(action, **told), **values)

        shared = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default)
            for name, (kind, default) in options.items()
        ]
        parameters = [*(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own), *shared]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what Typer reads
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        command.__name__, command.__doc__ = action.__name__, action.__doc__
        return command

    return command_of


def run(action: Callable[[StudyRequest], int], **values: Any) -> None:
    """Run a command on the request that its options make."""
    guard(lambda: action(_asked(**values)))


def guard(action: Callable[[], int]) -> None:
    """Run a command; what is wrong with its input is one line and exit code 2, not a trace."""
    try:
        code = action()
    except (ValueError, OSError) as error:
        print(f"error: {_plain_message(error)}", file=sys.stderr)
        raise typer.Exit(2) from (error if os.environ.get("STEMWRIGHT_TRACE") else None)
    raise typer.Exit(code)


def _plain_message(error: Exception) -> str:
    """The message alone; pydantic's carries the fields it refused."""
    errors = getattr(error, "errors", None)
    if callable(errors):
        return "; ".join(str(item["msg"]).removeprefix("Value error, ") for item in errors())
    return str(error)


def _asked(**values: Any) -> StudyRequest:
    """The request of a command. Raises ValueError for values that no run can have."""
    from flows.request import StudyRequest

    lists = ("arms", "conditionings", "corpus", "layout", "refresh_stages", "weight")
    asked: dict[str, Any] = {name: tuple(value or ()) if name in lists else value for name, value in values.items()}
    return StudyRequest(**asked)
