"""Trainings and their figures in MLflow, which may be gone: they go on without it, and it gets later what it missed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from tasks.tracked_training import training_buffer, training_is_finished
from tasks.tracking import Tracking, store_errors

Log = Callable[[int, Mapping[str, float]], None]
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class MissedTraining:
    """A finished training as its run would have shown it; `figures` reads its telemetry, step by step."""

    key: str
    name: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    figures: Callable[[], Iterable[Mapping[str, float]]]


@contextmanager
def training_log(
    tracking: Tracking, key: str, *, name: str, params: Mapping[str, str], tags: Mapping[str, str]
) -> Iterator[Log]:
    """`log(step, {name: value})` into the run of this key, which is made on the first call and continued afterwards.

    Steps that the run already holds are skipped, so a training that resumes from an earlier checkpoint draws one
    line. Values are buffered and written in batches; NaN and infinity are left out. The run ends as finished, failed
    or, when interrupted, killed. The training goes on where MLflow does not (`Spared`).
    """
    spared = Spared(tracking.uri)
    buffer = spared(partial(training_buffer, tracking, key, name=name, params=params, tags=tags))
    if buffer is None:
        yield unheard
        return
    status = "KILLED"
    try:
        yield lambda step, values: spared(partial(buffer.log, step, values))
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        spared(partial(buffer.end, status))


def unheard(step: int, values: Mapping[str, float]) -> None:
    """The log of a training that nobody listens to."""


class Spared:
    """Calls of MLflow until one fails, because its server is gone or its database locked; those after it do nothing.

    That costs one warning and no run: all figures are in results, and `publish_missed` and `publish_evaluations` bring
    what MLflow lacks at the end of any later run.
    """

    def __init__(self, uri: str) -> None:
        self._uri, self._is_gone = uri, False

    def __call__(self, call: Callable[[], Result]) -> Result | None:
        if self._is_gone:
            return None
        try:
            return call()
        except store_errors() as error:
            self._is_gone = True
            reason = " ".join(str(error).split())[:200]
            logging.getLogger("stemwright").warning(
                "MLflow at %s does not answer: this goes on without it, and the next stemwright reproduce brings "
                "what it misses (%s)",
                self._uri,
                reason,
            )
            return None


def publish_missed(tracking: Tracking, training: MissedTraining) -> None:
    """The figures of a finished training into its run, where MLflow was gone when they came."""
    if training_is_finished(tracking, training.key):
        return
    buffer = training_buffer(tracking, training.key, name=training.name, params=training.params, tags=training.tags)
    for told in training.figures():
        buffer.log(int(told["step"]), {name: value for name, value in told.items() if name != "step"})
    buffer.end("FINISHED")
