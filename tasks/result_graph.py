"""The records of a workspace as a graph: what each result was made from, what was made from it, and how two differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from tasks.code_digest import changed_modules
from tasks.store import Store

Record = dict[str, Any]


class Difference(NamedTuple):
    """One field in which two identities differ, each value as text; None where one has no such field."""

    field: str
    here: str | None
    there: str | None

    def __str__(self) -> str:
        if self.field.endswith(ARTIFACT):
            return f"{self.field.removesuffix(ARTIFACT)} of other contents"
        return f"{self.field} {self.there} → {self.here}"


ARTIFACT = ".artifact"


class ResultGraph:
    """All finished results of a store, as they were when this was made."""

    def __init__(self, store: Store) -> None:
        self._by_key: dict[str, Record] = {record["key"]: record for record in store.records()}
        self._by_digest: dict[str, Record] = {}
        self._users: dict[str, dict[str, Record]] = {}
        self._told: dict[str, str] = {}
        self._fields: dict[str, dict[str, str]] = {}
        for record in self._by_key.values():
            self._by_digest.setdefault(record["digest"], record)
            for entry in record["inputs"].values():
                self._users.setdefault(entry["digest"], {})[record["key"]] = record
                self._told[entry["key"]] = entry["digest"]

    def all(self, stage: str | None = None) -> list[Record]:
        """The records, or those of one stage."""
        return [record for record in self._by_key.values() if stage in (None, record["stage"])]

    def get(self, key: str) -> Record | None:
        return self._by_key.get(key)

    def one(self, prefix: str) -> Record:
        """The one result whose key begins so. Raises ValueError where there is none, or more than one."""
        found = [record for key, record in self._by_key.items() if key.startswith(prefix)]
        if len(found) == 1 and prefix:
            return found[0]
        if not found:
            raise ValueError(f"no result has a key that begins with {prefix!r}; stemwright status lists keys")
        named = ", ".join(f"{record['stage']} {record['key']}" for record in found[:5])
        raise ValueError(
            f"{len(found)} results have a key that begins with {prefix!r}, such as {named}; give more of it"
        )

    def inputs(self, record: Record) -> dict[str, Record | None]:
        """What a result was made from, by field; None for what the user brought, or what is no longer there."""
        return {
            name: self._by_key.get(entry["key"]) or self._by_digest.get(entry["digest"])
            for name, entry in record["inputs"].items()
        }

    def users(self, record: Record) -> list[Record]:
        """What was made from the bytes of a result."""
        return list(self._users.get(record["digest"], {}).values())

    def upstream(self, records: Iterable[Record]) -> list[Record]:
        """These results and all they were made from, nearest first."""
        return _reached(records, lambda record: [found for found in self.inputs(record).values() if found])

    def chain(self, record: Record) -> list[Record]:
        """A result and all it was made from, each above what it was made from itself."""
        above: dict[str, Record] = {}

        def visit(visited: Record) -> None:
            for found in reversed(self.inputs(visited).values()):  # the first input's own chain goes on at once
                if found and found["key"] not in above:
                    visit(found)
            above[visited["key"]] = visited

        visit(record)
        return list(reversed(above.values()))

    def downstream(self, records: Iterable[Record]) -> list[Record]:
        """What was made from these results, directly or through others."""
        start = list(records)
        keys = {record["key"] for record in start}
        return [record for record in _reached(start, self.users) if record["key"] not in keys]

    def expected_digest(self, key: str) -> str | None:
        """What a result that is gone held, as told by what was made from it."""
        return self._told.get(key)

    def fields(self, record: Record) -> dict[str, str]:
        """What `fields_of` tells of a result; told once."""
        if record["key"] not in self._fields:
            self._fields[record["key"]] = fields_of(record["version"], record["identity"])
        return self._fields[record["key"]]

    def differences(self, record: Record, other: Record) -> list[Difference]:
        """The fields in which two results differ."""
        return differences(self.fields(record), self.fields(other))

    def nearest(self, record: Record) -> Record | None:
        """The other result of its stage that differs from this one in the fewest fields."""
        others = [other for other in self.all(record["stage"]) if other["key"] != record["key"]]
        return min(others, key=lambda other: len(self.differences(record, other)), default=None)


def _reached(start: Iterable[Record], following: Any) -> list[Record]:
    found: dict[str, Record] = {}
    waiting = list(start)
    while waiting:
        later: list[Record] = []
        for record in waiting:
            if record["key"] not in found:
                found[record["key"]] = record
                later += following(record)
        waiting = later
    return list(found.values())


def changed_code(record: Record) -> list[str]:
    """The modules whose part in a result has changed since it was made; all that make it where none were recorded."""
    return changed_modules(record["made_by"], record["modules"]) if "modules" in record else ["unrecorded code"]


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Every scalar of an identity by its path, `recipe.training.steps`, as text; a list of scalars is one."""
    match value:
        case dict() if value.keys() == {"enum", "name"}:
            yield name, str(value["name"])
        case dict():
            for key, item in value.items():
                yield from leaves(item, f"{name}.{key}" if name else key)
        case list() if any(isinstance(item, dict | list) for item in value):
            for index, item in enumerate(value):
                yield from leaves(item, f"{name}[{index}]")
        case list():
            yield name, f"({', '.join(map(str, value))})"
        case float():
            yield name, f"{value:g}"
        case _:
            yield name, str(value)


def fields_of(version: int, identity: dict[str, Any]) -> dict[str, str]:
    """All that a key is made of, by its path: the version first."""
    return dict(leaves({"version": version} | identity))


def differences(here: dict[str, str], there: dict[str, str]) -> list[Difference]:
    """Where the fields of one differ from those of another."""
    names = dict.fromkeys((*here, *there))
    return [Difference(name, here.get(name), there.get(name)) for name in names if here.get(name) != there.get(name)]


def size_bytes(record: Record) -> int:
    """What a result holds."""
    return sum(entry["bytes"] for entry in record["files"].values())
