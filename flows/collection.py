"""What nothing refers to any more: no published report, and no result of the study that is asked for; and what killed
processes left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from flows.request import StudyRequest
from flows.session import session
from flows.status import age_text, inspected, size_text
from tasks.leftovers import Leftover, clear, leftovers
from tasks.result_graph import Record, ResultGraph, size_bytes
from tasks.store import RECORD, Store

DAY_S = 86_400.0


def gc_lines(request: StudyRequest, *, older_than_days: float, delete: bool) -> Iterator[str]:
    """Results that nothing refers to and that are older than so many days, the oldest first; removed if asked."""
    ready = session(request)
    store = Store(ready.runtime.root / "artifacts")
    graph = ResultGraph(store)
    wanted = {finding.key for finding in inspected(ready).findings() if finding.key}
    doomed = _unreferred(graph, wanted | _published(ready.runtime.root))
    now = datetime.now(UTC)
    old = [
        record for record in doomed if now - datetime.fromisoformat(record["finished"]) >= timedelta(older_than_days)
    ]
    for record in sorted(old, key=lambda record: (record["finished"], -size_bytes(record))):
        if delete:
            store.remove(record["stage"], record["key"])
        size, age = size_text(size_bytes(record)), age_text(record["finished"], now)
        verb = "removed" if delete else "unused"
        yield f"{verb:8} {record['stage']:15} {record['key'][:8]} {size:>8} {age:>5}  {record['describe']}"
    yield f"{len(old)} of {len(graph.all())} results, {size_text(sum(map(size_bytes, old)))}"
    if len(doomed) > len(old):
        yield f"{len(doomed) - len(old)} more are younger than {older_than_days:g} days and stay"
    left = [item for item in leftovers(store.root) if now.timestamp() - item.used_s >= older_than_days * DAY_S]
    yield from _leftover_lines(left, now, delete=delete)
    if (old or left) and not delete:
        yield "--delete removes them"


def _leftover_lines(left: list[Leftover], now: datetime, *, delete: bool) -> Iterator[str]:
    """A line for every folder that no living process is building or removing, and one for all locks of nobody's."""
    gone = [item for item in left if not delete or clear(item)]
    for item in gone:
        if not item.is_lock:
            size, age = size_text(item.bytes), age_text(datetime.fromtimestamp(item.used_s, UTC).isoformat(), now)
            told = f"{item.path.parent.name:15} {'':8} {size:>8} {age:>5}  {item.path.name}"
            yield f"{'removed' if delete else 'left':8} {told}, which nobody goes on with"
    locks = sum(item.is_lock for item in gone)
    if locks:
        yield f"{'removed' if delete else 'left':8} {locks} locks that nobody holds"


def _unreferred(graph: ResultGraph, roots: set[str]) -> list[Record]:
    found = [record for key in roots if (record := graph.get(key))]
    kept = {record["key"] for record in graph.upstream(found)}
    return [record for record in graph.all() if record["key"] not in kept]


def _published(root: Path) -> set[str]:
    """The keys of the reports that people find in `reports/`."""
    return {
        json.loads(path.read_text(encoding="utf-8"))["key"] for path in sorted(root.glob(f"reports/[!.]*/{RECORD}"))
    }
