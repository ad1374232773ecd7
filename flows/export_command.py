"""The command `stemwright export`: a trained arm as a folder to play with, or to give away."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.options import OF_ONE_ARM, Arm, asking

if TYPE_CHECKING:
    from flows.request import StudyRequest


@asking(OF_ONE_ARM)
def export(
    request: StudyRequest,
    arm: Arm,
    out: Annotated[str, typer.Option(help="The folder to write, which must not be there yet.")],
) -> int:
    """Write a trained arm as one folder: averaged weights, config.json and a model card; for `stemwright play`.

    The options are those that it was trained with. Nothing is trained here.
    """
    from flows.export_work import export_lines

    for line in export_lines(request.only(arm), Path(out)):
        print(line)
    return 0
