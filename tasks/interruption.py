"""SIGTERM and Ctrl-C as a question that long work asks itself, so that it ends where it can go on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Whether one of the signals has come; a second one acts as it did before, for who cannot wait.

    Outside the main thread, where Python takes no signals, the answer stays no.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def heard(number: int, frame: FrameType | None) -> None:
        asked.set()
        restore()

    for number in SIGNALS:
        signal.signal(number, heard)
    try:
        yield asked.is_set
    finally:
        restore()
