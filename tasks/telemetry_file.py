"""The figures of a training as JSON lines, written as they come: a step and its values on each.

The file lies in `log/`, which is no part of a result's digest: rates and memory differ from run to run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tasks.whole_files import write_whole

TELEMETRY = "log/telemetry.jsonl"


class TelemetryFile:
    """The file of a training in `folder`; on resuming, figures after the saved step go, since they come again."""

    def __init__(self, folder: Path, *, until: int) -> None:
        self._path = folder / TELEMETRY
        self._path.parent.mkdir(exist_ok=True)
        kept = [told for told in _lines(self._path) if told["step"] <= until] if self._path.exists() else []
        write_whole(self._path, "".join(_line(told) for told in kept).encode())

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """One line, in the file when this returns; what is not finite has no place in JSON and is left out."""
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(_line({"step": step, **finite}))


def read_telemetry(folder: Path) -> list[dict[str, Any]]:
    """Every line of a training's file, in the order of its steps."""
    return list(_lines(folder / TELEMETRY))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines: a kill may have cut the last one."""
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            yield json.loads(line)


def _line(told: Mapping[str, Any]) -> str:
    return json.dumps(told) + "\n"
