"""What is to be done with a stem, from the words of the command line."""

from __future__ import annotations

import re
from pathlib import Path

from tasks.play_ask import Edit, GoOn, Inpaint, Loop, Vary

_LENGTH = re.compile(r"(\d+(?:\.\d+)?) *(bars?|s)")


def edit_of(
    *,
    inpaint: tuple[str, str] | None,
    vary: tuple[float, str] | None,
    go_on: str | None,
    loop: str | None,
    tempo: float | None,
) -> Edit | None:
    """The one edit that was asked for. Raises ValueError for several, and for what is none."""
    edits: list[Edit] = [
        *([_inpaint(*inpaint)] if inpaint else []),
        *([Vary(strength=vary[0], stem=Path(vary[1]))] if vary else []),
        *([GoOn(stem=Path(go_on))] if go_on else []),
        *([_loop(loop, tempo)] if loop else []),
    ]
    if len(edits) > 1:
        raise ValueError("inpaint, vary, continue and loop exclude each other; give one of them")
    if tempo is not None and not loop:
        raise ValueError("a tempo is only read for a loop in bars; leave it out")
    return edits[0] if edits else None


def _inpaint(part: str, stem: str) -> Inpaint:
    try:
        start_s, stop_s = map(float, part.split(":"))
    except ValueError as error:
        raise ValueError(
            f"{part!r} is no part of a stem; write it as two times in seconds, such as 12.0:16.5"
        ) from error
    return Inpaint(stem=Path(stem), start_s=start_s, stop_s=stop_s)


def _loop(length: str, tempo: float | None) -> Loop:
    found = _LENGTH.fullmatch(length.strip())
    if not found:
        raise ValueError(f"{length!r} is no length of a loop; write it as 4bars (with --tempo 96) or as 6.5s")
    number = float(found[1])
    if found[2] == "s":
        return Loop(period_s=number)
    if tempo is None or not tempo > 0:
        raise ValueError(f"how long {length} last depends on the tempo; give it with --tempo, in beats per minute")
    return Loop.of_bars(number, tempo)
