"""The one Prefect task: bring a step's result into being, or find it.

Prefect shows what happens; the store decides. The step's key is Prefect's cache key too, so that a reused result
reads *Cached* in Prefect's UI, but a result whose directory is missing or damaged is built again whatever Prefect
remembers (Prefect returns *Cached* even when the files are gone).
"""

from __future__ import annotations

import logging
import time
from typing import Any

from prefect import task
from prefect.context import TaskRunContext
from prefect.utilities.annotations import quote

from tasks.artifact import Artifact
from tasks.result_graph import changed_code
from tasks.runtime import Runtime
from tasks.step import Step
from tasks.store import Store


def materialise(step: Step, runtime: Runtime) -> Artifact:
    """The result of a step, as a Prefect task run of the current flow."""
    store = Store(runtime.root / "artifacts")
    known = store.find(step) is not None
    run = _materialise.with_options(name=step.stage, task_run_name=step.describe(), refresh_cache=not known)
    started = time.monotonic()
    run(quote(step), quote(runtime))
    made = store.find(step)
    assert made is not None, f"{step.describe()} was just built and is not in the store"
    _say(step, made, "there" if known else f"{time.monotonic() - started:.1f} s")
    _warn(step, made, store)
    return made


def build(step: Step, runtime: Runtime) -> Artifact:
    """The result of a step in a worker, where a whole arm is one Prefect task; only what is made is told of."""
    store = Store(runtime.root / "artifacts")
    known = store.find(step) is not None
    started = time.monotonic()
    made = store.build(step, runtime)
    if not known:
        _say(step, made, f"{time.monotonic() - started:.1f} s")
    _warn(step, made, store)
    return made


def _say(step: Step, made: Artifact, outcome: str) -> None:
    logging.getLogger("stemwright").info("%-44s %s  %s", step.describe(), made.key, outcome)


def _warn(step: Step, made: Artifact, store: Store) -> None:
    """A line for code that has changed since, and one for each broken shard of windows that was left out."""
    record = store.record(made)
    changed = changed_code(record)
    told = [f"suspect, changed since: {', '.join(changed)}"] if changed else []
    told += [f"made without {shard}" for shard in record["summary"].get("lost", ())]
    for line in told:
        logging.getLogger("stemwright").warning("%-44s %s  %s", step.describe(), made.key, line)


def _cache_key(context: TaskRunContext, parameters: dict[str, Any]) -> str:
    return f"{_plain(parameters['step']).stage}-{_plain(parameters['step']).key()}"


@task(cache_key_fn=_cache_key, persist_result=True, result_serializer="json")
def _materialise(step: Any, runtime: Any) -> str | None:
    """Build or find; what Prefect keeps is the digest."""
    step, runtime = _plain(step), _plain(runtime)
    return Store(runtime.root / "artifacts").build(step, runtime).digest


def _plain(value: Any) -> Any:
    return value.unquote() if isinstance(value, quote) else value
