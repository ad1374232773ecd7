"""The command `stemwright train`: one arm, and what it will cost before it is begun."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from flows.options import HOW, OF_ONE_ARM, Arm, asking

if TYPE_CHECKING:
    from flows.request import StudyRequest

STOPPED = 130  # the exit code of an interrupted command


@asking(OF_ONE_ARM | HOW)
def train(
    request: StudyRequest,
    arm: Arm,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the recipe, its size and its cost, and train nothing.")
    ] = False,
    resume: Annotated[
        bool,
        typer.Option("--resume/--anew", help="Go on from the last saved state, or forget it and begin at step 0."),
    ] = True,
    compiled: Annotated[bool, typer.Option("--compile", help="Run the network through torch.compile.")] = False,
    save_every: Annotated[int, typer.Option(min=1, help="Steps between saves: what a kill can lose.")] = 200,
    preview_every: Annotated[
        int | None, typer.Option(min=1, help="Steps between previews: held-out prompts as audio and a picture.")
    ] = None,
) -> int:
    """Train one arm, with all it needs; the same command goes on where it was stopped, and `reproduce` finds it."""
    one = request.only(arm)
    if dry_run:
        return _estimate(one)
    return _train(one, resume=resume, compiled=compiled, save_every=save_every, preview_every=preview_every)


def _estimate(request: StudyRequest) -> int:
    from flows.training_estimate import estimate_lines

    for line in estimate_lines(request):
        print(line)
    return 0


def _train(request: StudyRequest, *, resume: bool, compiled: bool, save_every: int, preview_every: int | None) -> int:
    from flows.train_work import train_lines
    from models.training import TrainingStopped

    try:
        lines = train_lines(
            request, resume=resume, compiled=compiled, save_every=save_every, preview_every=preview_every
        )
        for line in lines:
            print(line)
    except TrainingStopped as stopped:
        print(f"{stopped}; the same command goes on from there", file=sys.stderr)
        return STOPPED
    return 0
