"""The command line: `stemwright reproduce`, `plan`, `show`, `invalidate`, `report`, `corpus verify`.

Everything heavy is imported by the command that needs it, so that `--help` answers at once.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from flows.request import StudyRequest

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
corpus_app = typer.Typer(no_args_is_help=True, help="The embedded corpus.")
app.add_typer(corpus_app, name="corpus")

Scale = Annotated[str, typer.Option(help="Size of the whole study: tiny, laptop, gpu or paper.")]
Corpus = Annotated[
    str | None, typer.Option(help="Folder with one folder of stems a song. Default: the embedded corpus.")
]
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
ArmWorkers = Annotated[int, typer.Option(help="Arms built side by side on Dask; 1: one after the other.")]
Scheduler = Annotated[str | None, typer.Option(envvar="DASK_SCHEDULER_ADDRESS", help="Address of a Dask scheduler.")]
Tracking = Annotated[
    str | None, typer.Option(envvar="MLFLOW_TRACKING_URI", help="MLflow server. Default: SQLite in the workspace.")
]
Tokenizer = Annotated[
    str | None, typer.Option(help="Folder with roberta-base's vocab.json and merges.txt, for LAION-CLAP.")
]
Checkpoint = Annotated[str | None, typer.Option(help="A local LAION-CLAP checkpoint, needed at the paper's scale.")]


def _asked(**values: Any) -> StudyRequest:
    """The request of a command. Raises ValueError for values that no run can have."""
    from flows.request import StudyRequest

    arms, rows = values.pop("arms") or (), values.pop("conditionings") or ()
    return StudyRequest(arms=tuple(arms), conditionings=tuple(rows), **values)


@app.command()
def reproduce(
    scale: Scale = "laptop",
    corpus: Corpus = None,
    arms: Arms = None,
    conditionings: Rows = None,
    workspace: Workspace = "workspace",
    seed: Seed = 0,
    device: Device = "auto",
    workers: Workers = 0,
    arm_workers: ArmWorkers = 1,
    dask_scheduler: Scheduler = None,
    mlflow_uri: Tracking = None,
    laion_checkpoint: Checkpoint = None,
    laion_tokenizer: Tokenizer = None,
) -> None:
    """Run the whole study: corpus to Table 1. What is already there is reused."""
    _run(
        _reproduce,
        scale=scale,
        corpus=corpus,
        arms=arms,
        conditionings=conditionings,
        workspace=workspace,
        seed=seed,
        device=device,
        workers=workers,
        arm_workers=arm_workers,
        dask_scheduler=dask_scheduler,
        mlflow_uri=mlflow_uri,
        laion_checkpoint=laion_checkpoint,
        laion_tokenizer=laion_tokenizer,
    )


def _reproduce(request: StudyRequest) -> int:
    request.runtime()  # the workspace can be written
    _prefect_environment(Path(request.workspace))
    from flows.pipeline import reproduce as flow
    from flows.pipeline import session

    ready = session(request)  # a bad request is refused before a server starts
    _say_progress()
    published = flow(request)
    print(published.table)
    for line in published.places(ready.runtime.tracking_uri):
        print(line)
    return 0


def _say_progress() -> None:
    """A line on the error output for every result that is found or made."""
    logger, handler = logging.getLogger("stemwright"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


@app.command()
def plan(
    scale: Scale = "laptop",
    corpus: Corpus = None,
    arms: Arms = None,
    conditionings: Rows = None,
    workspace: Workspace = "workspace",
    seed: Seed = 0,
    laion_checkpoint: Checkpoint = None,
    laion_tokenizer: Tokenizer = None,
) -> None:
    """Say what `reproduce` would do: which results are there, which would be built."""
    _run(
        _plan,
        scale=scale,
        corpus=corpus,
        arms=arms,
        conditionings=conditionings,
        workspace=workspace,
        seed=seed,
        laion_checkpoint=laion_checkpoint,
        laion_tokenizer=laion_tokenizer,
    )


def _plan(request: StudyRequest) -> int:
    from flows.planning import plan_lines

    for line in plan_lines(request):
        print(line)
    return 0


@app.command()
def show(
    arm: Annotated[str, typer.Argument(help="An arm by the paper's name: Diff-A-Riff, M2L2, DiT, CLAP_beta, C-DiT.")],
    scale: Scale = "paper",
) -> None:
    """Print the whole recipe of an arm as JSON."""
    _guard(lambda: _show(arm, scale))


def _show(name: str, scale: str) -> int:
    from flows.planning import arm_json

    print(arm_json(name, scale))
    return 0


@app.command()
def invalidate(
    stage: Annotated[str, typer.Argument(help="A stage such as encode, denoiser, candidates or scores.")],
    match: Annotated[
        str | None, typer.Option(help="Only results whose record holds this text, such as an arm or a codec.")
    ] = None,
    workspace: Workspace = "workspace",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and touch nothing.")] = False,
) -> None:
    """Forget the results of one stage; the next run rebuilds them and what depends on changed bytes."""
    _guard(lambda: _invalidate(stage, match, workspace, dry_run))


def _invalidate(stage: str, match: str | None, workspace: str, dry_run: bool) -> int:
    from flows.planning import invalidate_lines

    for line in invalidate_lines(Path(workspace), stage, match=match, dry_run=dry_run):
        print(line)
    return 0


@app.command()
def report(
    workspace: Workspace = "workspace",
    check: Annotated[
        bool, typer.Option("--check", help="Judge the table against the laptop bounds; exit 1 if one fails.")
    ] = False,
) -> None:
    """Print the last table, and where its page and Parquet files are."""
    _guard(lambda: _report(workspace, check))


def _report(workspace: str, check: bool) -> int:
    from tasks.report import latest_report
    from tasks.runtime import Runtime

    latest = latest_report(Path(workspace).resolve())
    print(latest.table)
    if check:
        print(latest.checks)
    for line in latest.places(Runtime(workspace=workspace).tracking_uri):
        print(line)
    return 0 if latest.passed or not check else 1


@corpus_app.command("verify")
def corpus_verify(
    songs: Annotated[int, typer.Option(help="Songs to compose, render and check.")] = 16,
    seconds: Annotated[float, typer.Option(help="Length of each song.")] = 24.0,
    seed: Seed = 0,
) -> None:
    """Render songs of the embedded corpus and check lengths, activity, and that true pairs can be told from false."""
    _guard(lambda: _corpus_verify(songs, seconds, seed))


def _corpus_verify(songs: int, seconds: float, seed: int) -> int:
    from flows.corpus_check import corpus_lines

    lines, passed = corpus_lines(songs=songs, seconds=seconds, seed=seed)
    for line in lines:
        print(line)
    return 0 if passed else 1


def _run(action: Callable[[StudyRequest], int], **values: Any) -> None:
    _guard(lambda: action(_asked(**values)))


def _guard(action: Callable[[], int]) -> None:
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


def _prefect_environment(workspace: Path) -> None:
    """Prefect at home in the workspace: its own server, no telemetry, patient at start (design.md section 6)."""
    home = workspace.resolve() / "prefect"
    home.mkdir(parents=True, exist_ok=True)
    settings = {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "HF_HUB_OFFLINE": "1",
    }
    for name, value in settings.items():
        os.environ.setdefault(name, value)


if __name__ == "__main__":
    app()
