"""Building one stage of a study and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from flows.request import StudyRequest
from flows.session import Session, session
from tasks.artifact import Artifact
from tasks.materialise import build
from tasks.progress import say_results
from tasks.step import Step
from tasks.store import Store


class MissingInputs(ValueError):
    """What a stage is made from is not there, and was not to be built."""


class OneStage:
    """A `make` that builds the steps of one stage and, if asked, what these need; of all others it promises."""

    def __init__(self, ready: Session, stage: str, *, with_inputs: bool) -> None:
        self._runtime, self._stage, self._with_inputs = ready.runtime, stage, with_inputs
        self._store = Store(ready.runtime.root / "artifacts")
        self._promised: dict[Artifact, Step] = {}
        self._numbers = count(1)
        self.stages: dict[str, None] = {}
        self.built: dict[Artifact, Step] = {}
        self.lacking: dict[str, None] = {}

    def make(self, step: Step) -> Artifact:
        """The result, built if it is of the stage; a promise of what is not there and not to be built."""
        self.stages[step.stage] = None
        if step.stage == self._stage:
            self._note_missing(step)
            if self._with_inputs or not step.waits:
                made = self._build(step)
                self.built[made] = step
                return made
        return self._store.find(step) or self._promise(step)

    def _note_missing(self, step: Step) -> None:
        if not self._with_inputs:
            missing = (self._promised[item] for _, item in step.needs() if item.planned)
            self.lacking |= {f"{item.stage} ({item.describe()})": None for item in missing}

    def _promise(self, step: Step) -> Artifact:
        promise = Artifact(stage=step.stage, key=f"promise-{next(self._numbers)}", location="", digest=None)
        self._promised[promise] = step
        return promise

    def _build(self, step: Step) -> Artifact:
        """The result of a step, after those of the steps that were only promised."""
        promised = [item for _, item in step.needs() if item.planned]
        return build(step.with_results({item: self._build(self._promised[item]) for item in promised}), self._runtime)


def run_lines(request: StudyRequest, stage: str, *, with_inputs: bool) -> Iterator[str]:
    """Build one stage of the study; a line for each of its results. Raises ValueError for a stage that it has not.

    Raises MissingInputs, after all that can be built has been, for what the others are made from.
    """
    say_results()
    ready = session(request)
    one = OneStage(ready, stage, with_inputs=with_inputs)
    one.make(ready.report(one.make))
    if stage not in one.stages:
        raise ValueError(f"this study has no stage {stage!r}; it has {', '.join(one.stages)}")
    for artifact, step in one.built.items():
        yield f"{artifact.stage} {artifact.key}  {step.describe()}: {artifact.path}"
    if one.lacking:
        raise MissingInputs(
            f"not all of {stage} could be built, for these are missing: {', '.join(one.lacking)}; build them with "
            f"stemwright run --only, or give --with-inputs"
        )
