"""The command line: `stemwright reproduce`, `plan`, `show`, `report`; the rest is in `*_command` and `*_commands`.

Everything heavy is imported by the command that needs it, so that `--help` answers at once.
"""

from __future__ import annotations

import atexit
import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows import (
    codec_commands,
    data_commands,
    evaluate_command,
    export_command,
    listen_command,
    play_command,
    result_commands,
    server_commands,
    steps_command,
    studio_command,
    train_command,
)
from flows.options import WHAT, WHOLE, Arm, Scale, Workspace, asking, guard

if TYPE_CHECKING:
    from flows.request import StudyRequest
    from flows.session import Session
    from tasks.report import Published

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
app.command()(data_commands.catalogue)
app.add_typer(data_commands.windows_app, name="windows")
app.add_typer(data_commands.corpus_app, name="corpus")
app.add_typer(data_commands.clap_app, name="clap")
app.add_typer(codec_commands.codec_app, name="codec")
app.command()(train_command.train)
app.command()(steps_command.steps)
app.command()(evaluate_command.evaluate)
app.command()(export_command.export)
app.command()(play_command.play)
app.command()(studio_command.studio)
app.add_typer(listen_command.listen_app, name="listen")
app.command()(result_commands.status)
app.command()(result_commands.explain)
app.command()(result_commands.trace)
app.command()(result_commands.invalidate)
app.command()(result_commands.bless)
app.command("run")(result_commands.run_stage)
app.command()(result_commands.gc)
app.command()(server_commands.up)
app.command()(server_commands.down)
app.command()(server_commands.deploy)
app.command()(server_commands.serve)


@app.callback()
def _process() -> None:
    # Threads that wait for each other must not do so by spinning: whatever else runs, and workers do, is held up, and a
    # training beside it takes five times as long. Alone it would be 3 to 6 % faster. Read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Python searches all there is for garbage before a process ends: up to a second of work once torch and Prefect are
    # in, which Ctrl-C should not wait for. What else is to be done at the end is done before it.
    atexit.register(gc.freeze)


@app.command()
@asking(WHOLE)
def reproduce(request: StudyRequest) -> int:
    """Run the whole study: corpus to Table 1. What is already there is reused."""
    from flows.session import session

    ready = session(request)  # a bad request is refused before a server starts
    published = _standing(ready) or _through_prefect(request)
    print(published.table)
    for line in published.places(ready.runtime.tracking_uri):
        print(line)
    return 0


def _standing(ready: Session) -> Published | None:
    """The report of a study in which nothing is to be built; a team's own Prefect server sees such runs too."""
    if os.environ.get("PREFECT_API_URL"):
        return None
    from flows.planning import standing_report
    from tasks.evaluation_runs import track_rows
    from tasks.report import publish

    found = standing_report(ready)
    if found is None:
        return None
    step, report = found
    track_rows(step, ready.runtime)
    return publish(report, ready.runtime.root, ready.request.name())


def _through_prefect(request: StudyRequest) -> Published:
    _prefect_environment(Path(request.workspace))
    from flows.pipeline import reproduce as flow
    from flows.prefect_run import until_server_is_lost
    from tasks.progress import say_results

    say_results()
    return until_server_is_lost(lambda: flow(request))


@app.command()
@asking(WHAT)
def plan(request: StudyRequest) -> int:
    """Say what `reproduce` would do: which results are there, which would be built."""
    from flows.planning import plan_lines

    for line in plan_lines(request):
        print(line)
    return 0


@app.command()
def show(arm: Arm, scale: Scale = "paper") -> None:
    """Print the whole recipe of an arm as JSON."""
    guard(lambda: _show(arm, scale))


def _show(name: str, scale: str) -> int:
    from flows.planning import arm_json

    print(arm_json(name, scale))
    return 0


@app.command()
def report(
    workspace: Workspace = "workspace",
    check: Annotated[
        bool, typer.Option("--check", help="Judge the table against the laptop bounds; exit 1 if one fails.")
    ] = False,
) -> None:
    """Print the last table, and where its page and Parquet files are."""
    guard(lambda: _report(workspace, check))


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
        "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
        "PREFECT_CLIENT_MAX_RETRIES": "3",  # 5 take a minute a call, where a server is gone
        "HF_HUB_OFFLINE": "1",
    }
    for name, value in settings.items():
        os.environ.setdefault(name, value)


if __name__ == "__main__":
    app()
