"""The commands about results: `stemwright status`, `explain`, `trace`, `invalidate`, `bless`, `run --only`, `gc`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.options import HOW, WHAT, Workspace, asking, guard

if TYPE_CHECKING:
    from flows.request import StudyRequest

Key = Annotated[str, typer.Argument(help="A result's key, or as much of its beginning as no other has.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would go, and touch nothing.")]


@asking(WHAT)
def status(request: StudyRequest) -> int:
    """Say of each result of a study whether it is there, suspect, stale, damaged or missing, and why."""
    from flows.status import status_lines

    return _print(status_lines(request))


def explain(key: Key, workspace: Workspace = "workspace") -> None:
    """Tell all of one result: what its key is made of, its inputs, its record, what was made from it."""
    guard(lambda: _explain(key, workspace))


def _explain(key: str, workspace: str) -> int:
    from flows.explanation import explain_lines

    return _print(explain_lines(Path(workspace), key))


def trace(
    cell: Annotated[str, typer.Argument(help="arm/inputs/metric, such as '+DiT/CLAP_A,ctx/fad'.")],
    workspace: Workspace = "workspace",
) -> None:
    """Print the whole chain behind one number of a report, from its scores back to the corpus."""
    guard(lambda: _trace(cell, workspace))


def _trace(cell: str, workspace: str) -> int:
    from flows.explanation import trace_lines

    return _print(trace_lines(Path(workspace), cell))


def invalidate(
    stage: Annotated[str, typer.Argument(help="A stage such as encode, denoiser, candidates or scores.")],
    arm: Annotated[str | None, typer.Option(help="Only what an arm's rows are made from, by the paper's name.")] = None,
    codec: Annotated[str | None, typer.Option(help="Only what a codec has a part in, by a part of its name.")] = None,
    split: Annotated[str | None, typer.Option(help="Only what is made from these windows: train or heldout.")] = None,
    shard: Annotated[int | None, typer.Option(min=0, help="Only this shard of each result, counted from 0.")] = None,
    match: Annotated[str | None, typer.Option(help="Only results whose record holds this text.")] = None,
    downstream: Annotated[bool, typer.Option("--downstream", help="Forget what was made from them too.")] = False,
    workspace: Workspace = "workspace",
    dry_run: DryRun = False,
) -> None:
    """Forget the results of one stage; the next run rebuilds them and what depends on changed bytes."""

    def act() -> int:
        from flows.invalidation import Selection, invalidate_lines

        selection = Selection(stage=stage, arm=arm, codec=codec, split=split, match=match)
        return _print(invalidate_lines(Path(workspace), selection, shard=shard, downstream=downstream, dry_run=dry_run))

    guard(act)


def bless(
    keys: Annotated[list[str] | None, typer.Argument(help="Keys of suspect results, or their beginnings.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All results whose code has changed.")] = False,
    workspace: Workspace = "workspace",
) -> None:
    """Declare suspect results unchanged in meaning: what changed in their code since changes no byte of them."""
    guard(lambda: _bless(tuple(keys or ()), workspace, everything=everything))


def _bless(keys: tuple[str, ...], workspace: str, *, everything: bool) -> int:
    from flows.blessing import bless_lines

    return _print(bless_lines(Path(workspace), keys, everything=everything))


@asking(WHAT | HOW)
def run_stage(
    request: StudyRequest,
    only: Annotated[str, typer.Option(help="A stage such as encode, denoiser, candidates or scores.")],
    with_inputs: Annotated[bool, typer.Option("--with-inputs", help="Build what the stage needs as well.")] = False,
) -> int:
    """Build one stage of a study, and nothing that is missing before it unless asked."""
    from flows.single_stage import run_lines

    return _print(run_lines(request, only, with_inputs=with_inputs))


@asking(WHAT)
def gc(
    request: StudyRequest,
    older_than: Annotated[float, typer.Option(min=0, help="Days; younger results stay.")] = 7.0,
    delete: Annotated[bool, typer.Option("--delete", help="Remove them. Otherwise they are only listed.")] = False,
) -> int:
    """List results that neither a report of the workspace nor this study refers to; remove them if asked."""
    from flows.collection import gc_lines

    return _print(gc_lines(request, older_than_days=older_than, delete=delete))


def _print(lines: Iterable[str]) -> int:
    for line in lines:
        print(line)
    return 0
