"""A request made ready: checked whole before anything is built."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from flows import graph
from flows.request import StudyRequest
from flows.study import Make, Study
from models.arms import Arm
from tasks.artifact import Artifact
from tasks.report import MakeReport
from tasks.runtime import Runtime
from tasks.steps_curve import curves_of
from tasks.store import Store


class Session(NamedTuple):
    """A request made ready: the study, the user's folder, and where it runs."""

    request: StudyRequest
    study: Study
    folder: Artifact | None
    runtime: Runtime

    def arm(self, name: str) -> Arm:
        """An arm of this study. Raises ValueError naming those there are."""
        for arm in self.study.arms:
            if arm.name == name:
                return arm
        raise ValueError(f"this study has no arm {name!r}; it has {', '.join(arm.name for arm in self.study.arms)}")

    def report(self, make: Make) -> MakeReport:
        """The report of the whole study, still to be made; all that it is made from has gone through `make`."""
        command = self.request.command_line()
        report = graph.whole(self.study, self.folder, self.request.conditionings_of, make, command=command)
        curves = curves_of([row.statistics for row in report.rows], Store(self.runtime.root / "artifacts"))
        return replace(report, steps_curves=curves)


def session(request: StudyRequest) -> Session:
    """Check a request whole. Raises ValueError for what it names and is not there."""
    study = request.study()
    request.check(study)
    return Session(request=request, study=study, runtime=request.runtime(), folder=request.folder())
