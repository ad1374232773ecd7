"""What `stemwright steps` does: one row of an arm, sampled with several solvers at several numbers of steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from flows import preparation
from flows.arm_training import train_arm
from flows.request import StudyRequest
from flows.session import session
from flows.table_rows import evaluate_arm
from models.arms import Arm
from models.conditioning import Conditioning
from tasks.materialise import build
from tasks.progress import say_results
from tasks.steps_curve import CURVE, PICTURE, DrawSteps, StepsPoint, samplers, steps_lines


def sampled_lines(request: StudyRequest, *, counts: tuple[int, ...], inputs: str) -> Iterator[str]:
    """The scores of the request's one arm by sampler, and where their file and picture lie; all of it is cached."""
    if not counts or min(counts) < 2:
        raise ValueError(f"--steps {','.join(map(str, counts))}: expected whole numbers from 2 up, such as 2,4,8")
    say_results()
    ready = session(request)
    study, arm, make = ready.study, ready.study.arms[0], partial(build, runtime=ready.runtime)
    row = _conditioning(arm, inputs)
    prepared = preparation.prepare(study, ready.folder, make)
    trained = train_arm(study, prepared, arm, make)
    points = []
    for sampler in samplers(arm.sampler, counts):
        (found,) = evaluate_arm(study, prepared, replace(arm, sampler=sampler), trained, (row,), make)
        points.append(StepsPoint(sampler, found.statistics))
    drawn = make(DrawSteps(arm=arm.name, inputs=inputs, points=tuple(points)))
    yield from steps_lines(drawn)
    yield f"scores   {drawn.path / CURVE}"
    yield f"picture  {drawn.path / PICTURE}"


def _conditioning(arm: Arm, inputs: str) -> Conditioning:
    for row in arm.conditionings:
        if row.label == inputs:
            return row
    raise ValueError(f"{arm.name} has no inputs {inputs!r}; it has {'; '.join(row.label for row in arm.conditionings)}")
