"""The commands `stemwright listen export`, `export-folders` and `analyse`: a blind listening test and its answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.options import Seed, Workspace, guard

if TYPE_CHECKING:
    from tasks.blind_folders import Folders
    from tasks.blind_material import Material

listen_app = typer.Typer(no_args_is_help=True, help="Blind listening tests: export, analysis.")


@listen_app.command("export")
def listen_export(
    out: Annotated[str, typer.Option(help="A new folder for the page, its sounds and the key.")] = "listening",
    report: Annotated[
        str | None, typer.Option(help="A report of the workspace by its name. Default: the last.")
    ] = None,
    arms: Annotated[
        list[str] | None, typer.Option(help="An arm as the table names it; repeat for several. Default: all.")
    ] = None,
    conditioning: Annotated[
        list[str] | None, typer.Option(help="A conditioning with ctx; repeat to compare. Default: CLAP_T,ctx.")
    ] = None,
    items: Annotated[int, typer.Option(min=4, help="Pieces of music; twelve take about half an hour.")] = 12,
    seed: Seed = 0,
    workspace: Workspace = "workspace",
) -> None:
    """Write a blind listening test of a report's candidates: give away for-listeners/, keep key.json.

    On each screen of the page all arms' stems for one piece of music, with the real stem and an anchor among them.
    """
    # Every arm of the paper's table has this row.
    asked = tuple(conditioning or ("CLAP_T,ctx",))
    guard(lambda: _export(Path(workspace).resolve(), report, tuple(arms or ()), asked, items, seed, Path(out)))


def _export(
    workspace: Path,
    report: str | None,
    arms: tuple[str, ...],
    conditionings: tuple[str, ...],
    items: int,
    seed: int,
    out: Path,
) -> int:
    from tasks.blind_material import Material, chosen_rows, published_rows

    published = published_rows(workspace, report)
    rows = chosen_rows(published.rows, arms, conditionings)
    material = Material(windows=published.windows, rows=rows)
    return _write(out, material, published.report, tuple(row.system for row in rows), items, seed)


@listen_app.command("export-folders")
def listen_export_folders(
    candidates: Annotated[list[str], typer.Option(help="A folder of generated stems; repeat to compare.")],
    contexts: Annotated[str, typer.Option(help="What each candidate accompanies, under the same file names.")],
    targets: Annotated[str, typer.Option(help="The real stem for each context, under the same file names.")],
    out: Annotated[str, typer.Option(help="A new folder for the page, its sounds and the key.")] = "listening",
    items: Annotated[int, typer.Option(min=4, help="Pieces of music; twelve take about half an hour.")] = 12,
    seed: Seed = 0,
) -> None:
    """Write the same test of stems of any origin, in folders as stemwright evaluate takes them.

    The first ten seconds of each file are heard. Files of one subfolder are of one song.
    """
    folders = tuple(map(Path, candidates))
    guard(lambda: _export_folders(folders, Path(contexts), Path(targets), items, seed, Path(out)))


def _export_folders(
    candidates: tuple[Path, ...], contexts: Path, targets: Path, items: int, seed: int, out: Path
) -> int:
    from tasks.blind_folders import Folders
    from tasks.evaluate_material import named_arms

    systems = named_arms(candidates)
    folders = Folders(systems=systems, contexts=contexts, targets=targets)
    return _write(out, folders, "folders", tuple(systems), items, seed)


def _write(
    out: Path, material: Material | Folders, report: str, systems: tuple[str, ...], items: int, seed: int
) -> int:
    from tasks.blind_key import KEY, Key, deal
    from tasks.blind_page import LISTENERS, PAGE, write_test

    trials = deal(material.asked(items, seed=seed), systems, seed=seed)
    key = Key(report=report, systems=systems, seed=seed, trials=trials)
    lufs = write_test(out, key, material)
    print(f"{len(trials)} pieces, {len(trials[0].stimuli)} stems each, all sounds at {lufs:.1f} LUFS")
    print(f"give away {out / LISTENERS} ({PAGE} opens in any browser, offline)")
    print(f"keep      {out / KEY}: it tells which stem is whose")
    print(f"then      stemwright listen analyse {out} answers-*.json")
    return 0


@listen_app.command("analyse")
def listen_analyse(
    folder: Annotated[str, typer.Argument(help="The folder that `listen export` wrote, with its key.json.")],
    answers: Annotated[list[str], typer.Argument(help="The files that listeners saved.")],
    all_listeners: Annotated[
        bool, typer.Option("--all-listeners", help="Keep those who do not tell the real stem from the anchor.")
    ] = False,
) -> None:
    """Mean ratings with intervals, every pair of systems, and the listeners who cannot have listened."""
    guard(lambda: _analyse(Path(folder), tuple(map(Path, answers)), all_listeners))


def _analyse(folder: Path, answers: tuple[Path, ...], all_listeners: bool) -> int:
    from tasks.blind_analysis import find
    from tasks.blind_answers import read_answers
    from tasks.blind_findings import findings_text, write_findings
    from tasks.blind_key import load_key

    key = load_key(folder)
    ratings = read_answers(answers, key)
    findings = find(ratings, key.systems, keep_all=all_listeners)
    out = folder / "findings"
    write_findings(out, ratings, findings)
    print(findings_text(findings))
    print(f"written   {out}: findings.md, systems.parquet, pairs.parquet, ratings.parquet")
    return 0
