"""Declaring results unchanged in meaning, though their code has changed since."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from tasks.code_digest import code_behind
from tasks.result_graph import Record, ResultGraph, changed_code
from tasks.store import Store


def bless_lines(workspace: Path, keys: tuple[str, ...], *, everything: bool) -> Iterator[str]:
    """Give results the digests of today's code, and keep in their records when, and for which modules.

    Raises ValueError for a key that is no result's, and for a result whose own code is what it was.
    """
    store = Store(workspace.resolve() / "artifacts")
    graph = ResultGraph(store)
    if everything:
        chosen = [record for record in graph.all() if changed_code(record)]
    else:
        chosen = [_suspect(graph.one(key), graph) for key in keys]
    if not chosen:
        raise ValueError("nothing to bless: " + ("no result is suspect" if everything else "give KEYs, or --all"))
    for record in chosen:
        changed = changed_code(record)
        store.rewrite(_blessed(record, changed))
        yield f"blessed  {record['stage']}/{record['key']}  {record['describe']}: {', '.join(changed)}"


def _suspect(record: Record, graph: ResultGraph) -> Record:
    if changed_code(record):
        return record
    sources = [found for found in graph.upstream([record]) if changed_code(found)]
    named = ", ".join(f"{found['stage']} {found['key'][:8]}" for found in sources)
    told = f"; it is suspect for {named}: bless those" if sources else " and nothing that it was made from is suspect"
    raise ValueError(f"the code of {record['stage']} {record['key'][:8]} is what it was{told}")


def _blessed(record: Record, changed: list[str]) -> Record:
    if "made_by" not in record:
        raise ValueError(f"{record['stage']} {record['key'][:8]} names no code that made it; invalidate it instead")
    told = {"when": datetime.now(UTC).isoformat(timespec="seconds"), "modules": changed}
    return record | {"modules": code_behind(record["made_by"]), "blessed": [*record.get("blessed", ()), told]}
