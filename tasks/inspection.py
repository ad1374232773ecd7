"""Looking at a study's results without building any: there, suspect, stale, damaged or missing, and why."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import cached_property
from typing import NamedTuple

from tasks.artifact import Artifact
from tasks.result_graph import (
    ARTIFACT,
    Difference,
    Record,
    ResultGraph,
    changed_code,
    differences,
    fields_of,
    size_bytes,
)
from tasks.step import Step
from tasks.store import Store

ALIKE = 0.5
"""An older result of another key is what a wanted one takes the place of where this part of its fields is the same."""
SHOWN_FIELDS = 3


class State(Enum):
    """What a wanted result is found to be."""

    THERE = "there"
    SUSPECT = "suspect"  # there, but its code, or that of what it was made from, has changed under the same version
    STALE = "stale"  # of another key than the wanted one, or made from what is to be built again
    DAMAGED = "damaged"
    MISSING = "missing"


class Finding(NamedTuple):
    """One wanted result. `key` is None while it depends on what is still to be built."""

    state: State
    stage: str
    key: str | None
    describe: str
    why: str
    record: Record | None

    @property
    def bytes(self) -> int:
        return size_bytes(self.record) if self.record else 0

    @property
    def absent(self) -> bool:
        """Whether the next run builds it, or may have to."""
        return self.state in (State.STALE, State.DAMAGED, State.MISSING)

    @property
    def own_code_changed(self) -> bool:
        """Whether it is suspect for itself, and not only for what it was made from."""
        return self.state is State.SUSPECT and self.record is not None and bool(changed_code(self.record))


class _Wanted(NamedTuple):
    """A step that went through `make`, its result or what stands in for it, and the record where it is there."""

    step: Step
    result: Artifact
    record: Record | None


class Inspector:
    """A `make` that only looks. What is not there is stood in for: by the digest that others tell it had, or none."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._wanted: dict[str, _Wanted] = {}
        self._unknown: set[str] = set()  # digests that only stand in

    @cached_property
    def graph(self) -> ResultGraph:
        """All results of the store; read only where something is not there."""
        return ResultGraph(self._store)

    def make(self, step: Step) -> Artifact:
        """The result of a step, or what stands in for it."""
        key = step.key()
        if key not in self._wanted:
            record = self._store.look(step.stage, key)
            result = self._store.artifact(record) if record else self._stand_in(step, key)
            self._wanted[key] = _Wanted(step, result, record)
        return self._wanted[key].result

    def _stand_in(self, step: Step, key: str) -> Artifact:
        told = None if self._waits(step) else self.graph.expected_digest(key)
        digest = told or f"to come: {step.stage} {key}"
        if not told:
            self._unknown.add(digest)
        return Artifact(stage=step.stage, key=key, location=f"to come/{key}", digest=digest)

    def _waits(self, step: Step) -> bool:
        """Whether the step's key is not its true one, because what an input will hold is not known."""
        return any(item.digest in self._unknown for _, item in step.needs())

    @property
    def stages(self) -> list[str]:
        """The stages of everything that went through `make`, in its order."""
        return list(dict.fromkeys(wanted.step.stage for wanted in self._wanted.values()))

    @property
    def complete(self) -> bool:
        """Whether everything that went through `make` is there."""
        return all(wanted.record for wanted in self._wanted.values())

    def findings(self) -> list[Finding]:
        """Everything that went through `make`, in its order."""
        replaced = set(self._wanted)
        return self._found(lambda step, key, inputs: self._absent(step, key, inputs, replaced))

    def suspects(self) -> list[Finding]:
        """What is there of it and suspect; why others are not there is not looked into."""
        found = self._found(lambda step, key, _: Finding(State.MISSING, step.stage, key, step.describe(), "", None))
        return [item for item in found if item.state is State.SUSPECT]

    def _found(self, absent: Callable[[Step, str, dict[str, Finding]], Finding]) -> list[Finding]:
        found: dict[str, Finding] = {}
        for key, wanted in self._wanted.items():
            inputs = {name: found[item.key] for name, item in wanted.step.needs() if item.key in found}
            if wanted.record:
                found[key] = _judged(wanted, key, wanted.record, inputs)
            else:
                found[key] = absent(wanted.step, key, inputs)
        return list(found.values())

    def _absent(self, step: Step, key: str, inputs: dict[str, Finding], replaced: set[str]) -> Finding:
        known, name = None if self._waits(step) else key, step.describe()
        flaw = self._store.flaw(step.stage, key)
        if flaw:
            return Finding(State.DAMAGED, step.stage, key, name, flaw, self.graph.get(key))
        older = self._older(step, inputs, replaced)
        if older is None:
            waiting = [item.stage for item in inputs.values() if item.absent]
            why = f"after {waiting[0]}" if waiting else "never built, or removed"
            return Finding(State.MISSING, step.stage, known, name, why, None)
        replaced.add(older["key"])
        told = [str(item) for item in self._unexplained(_fields(step), older, inputs)]
        why = f"not {older['key'][:8]}: {_some(told)}" if told else _made_from(_first_absent(inputs))
        return Finding(State.STALE, step.stage, known, name, why, older)

    def _older(self, step: Step, inputs: dict[str, Finding], replaced: set[str]) -> Record | None:
        """The result whose place a wanted one takes: of no step of this study, and alike in most fields."""
        others = [record for record in self.graph.all(step.stage) if record["key"] not in replaced]
        wanted = _fields(step)
        nearest = min(others, key=lambda record: len(self._unexplained(wanted, record, inputs)), default=None)
        if nearest is None or len(self._unexplained(wanted, nearest, inputs)) > (1 - ALIKE) * len(wanted):
            return None
        return nearest

    def _unexplained(self, wanted: dict[str, str], older: Record, inputs: dict[str, Finding]) -> list[Difference]:
        """Where a step differs from an older result, but for inputs that are told to take the place of that one's."""
        keys = {f"{name}{ARTIFACT}": item.record["key"] for name, item in inputs.items() if item.record}
        made_from = {f"{name}{ARTIFACT}": entry["key"] for name, entry in older["inputs"].items()}
        return [
            item
            for item in differences(wanted, self.graph.fields(older))
            if item.field not in keys or keys[item.field] != made_from.get(item.field)
        ]


def _judged(wanted: _Wanted, key: str, record: Record, inputs: dict[str, Finding]) -> Finding:
    """What is to be said of a result that is there."""
    changed = changed_code(record)
    absent = [item for item in inputs.values() if item.absent]
    suspect = [item for item in inputs.values() if item.state is State.SUSPECT]
    if changed:
        state, why = State.SUSPECT, f"changed since: {_some(changed)}"
    elif absent:
        state, why = State.STALE, f"{_made_from(absent[0])}; kept if that comes out the same"
    elif suspect:
        state, why = State.SUSPECT, _made_from(suspect[0])
    else:
        state, why = State.THERE, ""
    return Finding(state, wanted.step.stage, key, wanted.step.describe(), why, record)


def _fields(step: Step) -> dict[str, str]:
    return fields_of(step.version, step.canonical_identity())


def _first_absent(inputs: dict[str, Finding]) -> Finding:
    return next(item for item in inputs.values() if item.absent)


def _made_from(finding: Finding) -> str:
    return f"made from {finding.stage} {(finding.key or '?')[:8]}, which is {finding.state.value}"


def _some(names: list[str]) -> str:
    rest = len(names) - SHOWN_FIELDS
    return ", ".join(names[:SHOWN_FIELDS]) + (f" and {rest} more" if rest > 0 else "")
