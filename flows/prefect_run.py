"""A flow under Prefect, and its end where Prefect's server is gone or Ctrl-C came."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

Result = TypeVar("Result")

SERVER_LOST = (
    "error: Prefect's server is gone, so this run cannot be told as completed. Start it where PREFECT_API_URL names "
    "one, and run again: what is done is kept"
)


def until_server_is_lost(flow: Callable[[], Result]) -> Result:
    """What the flow returns. Where its server was lost, one line says so and the process ends with exit code 2.

    It ends at once: Prefect would first try for minutes, at the end of the process, to send what it has to tell.
    """
    from httpx import TransportError

    if not os.environ.get("PREFECT_API_URL"):
        _start_server()
    with _remembering_ctrl_c() as interrupts:
        try:
            return flow()
        except BaseException as error:
            if interrupts:  # whatever came of it: workers that it ended too, an interrupt that a library swallowed
                raise KeyboardInterrupt from error
            if not isinstance(error, TransportError):
                raise
            print(SERVER_LOST, file=sys.stderr, flush=True)
            os._exit(2)


@contextmanager
def _remembering_ctrl_c() -> Iterator[list[int]]:
    """A list that holds the interrupts that came meanwhile; each still raises KeyboardInterrupt."""
    came: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        came.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield came
    finally:
        signal.signal(signal.SIGINT, before)


def _start_server() -> None:
    """Prefect's own server for this process, out of reach of Ctrl-C, which a terminal sends to all it has started.

    The run has to tell the server that it ends, and tries for a long time where none answers.
    """
    from prefect.server.api.server import SubprocessASGIServer

    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # what is started inherits it
    try:
        SubprocessASGIServer().start()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
