"""Trainings in MLflow: one run each, whose curves a resumed training continues."""

from __future__ import annotations

import time
from collections.abc import Mapping

from tasks.tracking import BATCH_VALUES, Runs, Tracking, Value, values_now

BUFFERED_S = 15.0


def training_buffer(
    tracking: Tracking, key: str, *, name: str, params: Mapping[str, str], tags: Mapping[str, str]
) -> MetricBuffer:
    """What takes the figures of the key's run, made where missing; it leaves out the steps that the run holds."""
    runs = Runs(tracking.uri, tracking.train_id)
    run_id = runs.newest(key)
    if run_id is None:
        return MetricBuffer(runs, runs.begin(key, name=name, params=params, tags=tags), last_step=-1)
    return MetricBuffer(runs, run_id, last_step=runs.go_on(run_id))


def training_is_finished(tracking: Tracking, key: str) -> bool:
    """Whether the key's run was brought to its end."""
    return Runs(tracking.uri, tracking.train_id).is_finished(key)


def log_training_files(tracking: Tracking, key: str, files: Mapping[str, bytes]) -> None:
    """Pictures and audio by path into the run of this key, inside its `training_log`."""
    runs = Runs(tracking.uri, tracking.train_id)
    run_id = runs.newest(key)
    assert run_id is not None  # the log has made it
    runs.log_files(run_id, files)


class MetricBuffer:
    """Values of one run on their way to the store."""

    def __init__(self, runs: Runs, run_id: str, *, last_step: int) -> None:
        self._runs, self._run_id, self._last_step = runs, run_id, last_step
        self._values: list[Value] = []
        self._flushed_s = time.monotonic()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if step > self._last_step:
            self._values += values_now(values, step)
        if len(self._values) >= BATCH_VALUES or time.monotonic() - self._flushed_s > BUFFERED_S:
            self.flush()

    def flush(self) -> None:
        self._runs.log(self._run_id, self._values)
        self._values = []
        self._flushed_s = time.monotonic()

    def end(self, status: str) -> None:
        self.flush()
        self._runs.end(self._run_id, status)
