"""Looking without building: what a run would do, what a recipe is, what an invalidation takes with it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from flows import graph
from flows.request import StudyRequest
from flows.scales import study_at
from flows.session import Session
from models.arms import ARMS, Arm, arm_named
from tasks.artifact import Artifact, planned
from tasks.recipes import dump_recipe
from tasks.report import MakeReport
from tasks.step import Step
from tasks.store import Store


class _Planner:
    """A `make` that only looks: found results are themselves, others a promise of their stage."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.seen: dict[str, str] = {}

    def make(self, step: Step) -> Artifact:
        found = self._store.find(step)
        if found:
            self.seen[f"{step.stage}/{found.key}"] = f"there     {found.key}  {step.describe()}"
            return found
        key = "?" if step.waits else step.key()
        note = (
            f"after {', '.join(sorted({item.stage for _, item in step.needs() if item.planned}))}"
            if step.waits
            else key
        )
        self.seen.setdefault(f"{step.stage}/{key}/{step!r}", f"to build  {note:24s}  {step.describe()}")
        return planned(step.stage)


def plan_lines(request: StudyRequest) -> Iterator[str]:
    """What `reproduce` would find and what it would build, in its order."""
    study = request.study()
    request.check(study)
    planner = _Planner(Store(Path(request.workspace).resolve() / "artifacts"))
    command = request.command_line()
    planner.make(graph.whole(study, request.folder(), request.conditionings_of, planner.make, command=command))
    lines = list(planner.seen.values())
    yield from lines
    ready = sum(line.startswith("there") for line in lines)
    yield f"{ready} of {len(lines)} results are there"


def standing_report(ready: Session) -> tuple[MakeReport, Artifact] | None:
    """The finished report of a study of which every result is there; None where anything is to be built."""
    store = Store(ready.runtime.root / "artifacts")
    step = ready.report(_Planner(store).make)
    report = store.find(step)
    return (step, report) if report else None


def arm_json(name: str, scale: str) -> str:
    """The whole recipe of an arm at a scale, as canonical JSON."""
    wanted = arm_named(name).name
    return dump_recipe(next(arm for arm in _arms(scale) if arm.name == wanted))


def _arms(scale: str) -> tuple[Arm, ...]:
    return ARMS if scale == "paper" else study_at(scale).arms


def invalidate_lines(workspace: Path, stage: str, *, match: str | None, dry_run: bool) -> Iterator[str]:
    """Forget the results of a stage, and name what was made from them. Raises ValueError for an unknown stage."""
    store = Store(workspace.resolve() / "artifacts")
    records = list(store.records())
    stages = sorted({record["stage"] for record in records})
    if stage not in stages:
        raise ValueError(f"no results of a stage {stage!r} in {workspace}; there are {', '.join(stages) or 'none'}")
    doomed = [record for record in records if record["stage"] == stage and (match is None or match in str(record))]
    if not doomed:
        raise ValueError(f"no result of the stage {stage} has {match!r} in its record")
    for record in doomed:
        yield f"{'would forget' if dry_run else 'forgot'}  {stage}/{record['key']}  {record['describe']}"
    for record in _downstream(doomed, records):
        yield f"made from it  {record['stage']}/{record['key']}  {record['describe']}"
    if not dry_run:
        for record in doomed:
            store.remove(stage, record["key"])


def _downstream(doomed: list[dict[str, Any]], records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was made from these results, directly or through others; it stays where the rebuilt bytes are the same."""
    stale = {record["digest"] for record in doomed}
    found: dict[str, dict[str, Any]] = {}
    while True:
        fresh = [
            record
            for record in records
            if record["key"] not in found and any(item["digest"] in stale for item in record["inputs"].values())
        ]
        if not fresh:
            return list(found.values())
        found.update({record["key"]: record for record in fresh})
        stale = set(chain(stale, (record["digest"] for record in fresh)))
