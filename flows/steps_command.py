"""The command `stemwright steps`: what an arm's candidates score against the steps they are sampled in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from flows.options import HOW, OF_ONE_ARM, Arm, asking

if TYPE_CHECKING:
    from flows.request import StudyRequest


@asking(OF_ONE_ARM | HOW)
def steps(
    request: StudyRequest,
    arm: Arm,
    counts: Annotated[str, typer.Option("--steps", help="Numbers of steps, with commas.")] = "2,4,8,16,32",
    inputs: Annotated[str, typer.Option(help="The row to sample, such as 'CLAP_A,ctx'.")] = "CLAP_T,ctx",
) -> int:
    """FAD and the other scores of one arm against sampling steps, by its own solver and the other ones."""
    from flows.steps_work import sampled_lines

    for line in sampled_lines(request.only(arm), counts=_numbers(counts), inputs=inputs):
        print(line)
    return 0


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError as error:
        raise ValueError(f"--steps {text!r}: expected whole numbers with commas between them, such as 2,4,8") from error
