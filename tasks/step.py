"""A step: everything that determines one result, and how to make it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from tasks.artifact import Artifact
from tasks.code_digest import name_of_class
from tasks.fingerprint import canonical, fingerprint
from tasks.runtime import Runtime


@dataclass(frozen=True, kw_only=True)
class Step(ABC):
    """One result to be. The fields are its whole identity; `version` is raised when the stage's meaning changes.

    A stage that keeps its own progress (training, shards) sets `resumable`: its scratch directory then survives a
    crash and is handed back to it.
    """

    stage: ClassVar[str]
    version: ClassVar[int] = 1
    resumable: ClassVar[bool] = False

    @abstractmethod
    def run(self, out: Path, runtime: Runtime) -> dict[str, Any] | None:
        """Write the result's files into `out`; return a short summary for the record, or None."""

    def identity(self) -> dict[str, Any]:
        """The fields by name: what the key is made of."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def key(self) -> str:
        """The fingerprint of this step. Raises UnstableValueError while an input is only planned."""
        return fingerprint(self.stage, self.version, **self.identity())

    def canonical_identity(self) -> dict[str, Any]:
        """The identity as the record keeps it."""
        return canonical(self.identity())

    def needs(self) -> Iterator[tuple[str, Artifact]]:
        """The artifacts among the fields and inside their tuples and dataclasses, with their names."""
        for name, value in self.identity().items():
            yield from _artifacts(name, value)

    @property
    def made_by(self) -> str:
        """The class whose code makes this, as a record names it."""
        return name_of_class(type(self))

    def with_results(self, results: Mapping[Artifact, Artifact]) -> Self:
        """This step with results in the place of what was only planned."""
        return replace(self, **{name: _with(value, results) for name, value in self.identity().items()})

    @property
    def waits(self) -> bool:
        """Whether an input is only planned, so that even the key is unknown."""
        return any(artifact.planned for _, artifact in self.needs())

    def describe(self) -> str:
        """A name for people: the stage, and whatever tells two steps of it apart."""
        return self.stage


def _artifacts(name: str, value: Any) -> Iterator[tuple[str, Artifact]]:
    match value:
        case None | str() | int() | float():  # most of them, and by far the cheapest to tell
            return
        case Artifact():
            yield name, value
        case tuple():
            for index, item in enumerate(value):
                yield from _artifacts(f"{name}[{index}]", item)
        case _ if is_dataclass(value) and not isinstance(value, type):
            for field in fields(value):
                yield from _artifacts(f"{name}.{field.name}", getattr(value, field.name))


def _with(value: Any, results: Mapping[Artifact, Artifact]) -> Any:
    match value:
        case Artifact():
            return results.get(value, value)
        case tuple():
            items = [_with(item, results) for item in value]
            return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
        case _ if is_dataclass(value) and not isinstance(value, type):
            return replace(value, **{field.name: _with(getattr(value, field.name), results) for field in fields(value)})
    return value
