"""Looking without building: what a run would do, and what a recipe is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flows import graph
from flows.request import StudyRequest
from flows.scales import study_at
from flows.session import Session
from flows.status import inspected_with_report, settle_suspects
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
    """The finished report of a study of which every result is there; None where anything is to be built.

    Raises RequestError for suspect results that the request says nothing of.
    """
    inspector, step = inspected_with_report(ready)
    if not inspector.complete:
        return None
    settled = settle_suspects(ready, inspector)
    step = settled.told_by(step)
    report = None if settled.removed else Store(ready.runtime.root / "artifacts").find(step)
    return (step, report) if report else None


def arm_json(name: str, scale: str) -> str:
    """The whole recipe of an arm at a scale, as canonical JSON."""
    wanted = arm_named(name).name
    return dump_recipe(next(arm for arm in _arms(scale) if arm.name == wanted))


def _arms(scale: str) -> tuple[Arm, ...]:
    return ARMS if scale == "paper" else study_at(scale).arms
