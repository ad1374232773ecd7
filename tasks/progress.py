"""What a run says while it runs: a line a result; and on a terminal live progress with time left, in a pipe none."""

from __future__ import annotations

import logging
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress


def say_results() -> None:
    """A line on the error output for every result that is found or made; called by whoever owns that output."""
    logger = logging.getLogger("stemwright")
    if logger.handlers:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


class Progress:
    """A bar for one stage. `with Progress("encode", total=12, live=True) as bar: bar.advance()`."""

    def __init__(self, title: str, *, total: int, live: bool) -> None:
        self._title, self._total = title, total
        console = Console(stderr=True)
        self._bar = _bar(console) if live and console.is_terminal else None
        self._task: TaskID | None = None

    def __enter__(self) -> Progress:
        if self._bar:
            self._bar.start()
            self._task = self._bar.add_task(self._title, total=self._total, note="")
        return self

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count `count` more pieces as done; `note` is a short figure shown beside the bar."""
        if self._bar and self._task is not None:
            self._bar.update(self._task, advance=count, note=note)

    def reach(self, done: int, note: str = "") -> None:
        """Set how much is done, for work that counts by itself."""
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=done, note=note)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()


def _bar(console: Console) -> RichProgress:
    columns = ("[progress.description]{task.description}", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return RichProgress(
        *columns, TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=console, transient=True
    )
