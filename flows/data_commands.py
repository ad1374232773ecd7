"""The commands about data: `stemwright catalogue`, `windows verify`, `corpus verify`, `clap fit`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.options import Device, Layout, Seed, Soundfont, Weight, Workspace, guard, run

if TYPE_CHECKING:
    from flows.request import StudyRequest

windows_app = typer.Typer(no_args_is_help=True, help="Windows on disk.")
corpus_app = typer.Typer(no_args_is_help=True, help="The embedded corpus.")
clap_app = typer.Typer(no_args_is_help=True, help="The small CLAP.")


def catalogue(
    corpus: Annotated[list[str], typer.Argument(help="Folders of multitrack recordings.")],
    layout: Layout = None,
    weight: Weight = None,
    soundfont: Soundfont = None,
    workspace: Workspace = "workspace",
) -> None:
    """Say what a corpus holds, file by file: songs, stems and their roles, and what is left out and why."""
    run(_catalogue, corpus=corpus, layout=layout, weight=weight, soundfont=soundfont, workspace=workspace)


def _catalogue(request: StudyRequest) -> int:
    from flows.catalogue_listing import catalogue_lines

    for line in catalogue_lines(request):
        print(line)
    return 0


@windows_app.command("verify")
def windows_verify(
    folder: Annotated[
        str | None, typer.Argument(help="A folder or URL of shards. Default: every windows result of the workspace.")
    ] = None,
    workspace: Workspace = "workspace",
) -> None:
    """Recheck windows on disk: the count, the digest and a decode of every one; exit 1 if anything is broken."""
    run(lambda request: _windows_verify(request, folder), workspace=workspace)


def _windows_verify(request: StudyRequest, folder: str | None) -> int:
    from tasks.verify_windows import verify_windows

    places = [folder] if folder else sorted(map(str, Path(request.workspace).glob("artifacts/windows/*/record.json")))
    if not places:
        raise ValueError(f"there are no windows in {request.workspace}; make some with stemwright reproduce")
    reports = [verify_windows(place.removesuffix("/record.json"), request.runtime()) for place in places]
    for place, report in zip(places, reports, strict=True):
        print(place.removesuffix("/record.json"))
        for line in report.lines():
            print(f"  {line}")
    return 0 if all(report.passed for report in reports) else 1


@corpus_app.command("verify")
def corpus_verify(
    songs: Annotated[int, typer.Option(help="Songs to compose, render and check.")] = 16,
    seconds: Annotated[float, typer.Option(help="Length of each song.")] = 24.0,
    seed: Seed = 0,
) -> None:
    """Render songs of the embedded corpus and check lengths, activity, and that true pairs can be told from false."""
    guard(lambda: _corpus_verify(songs, seconds, seed))


def _corpus_verify(songs: int, seconds: float, seed: int) -> int:
    from flows.corpus_check import corpus_lines

    lines, passed = corpus_lines(songs=songs, seconds=seconds, seed=seed)
    for line in lines:
        print(line)
    return 0 if passed else 1


@clap_app.command("fit")
def clap_fit(
    out: Annotated[str, typer.Option(help="Folder for weights, recipe and model card.")] = "small_clap",
    workspace: Workspace = "workspace",
    device: Device = "auto",
) -> None:
    """Fit the small CLAP that ships with the package, from the embedded corpus alone, and write its model card."""
    run(
        lambda request: _clap_fit(request, Path(out)), arms=None, conditionings=None, workspace=workspace, device=device
    )


def _clap_fit(request: StudyRequest, out: Path) -> int:
    from flows.clap_release import ClapRelease, release_clap

    for line in release_clap(ClapRelease(), out, request.runtime()):
        print(line)
    return 0
