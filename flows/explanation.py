"""One result explained, and the chain behind one number of a table."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from flows.status import age_text, size_text
from metrics.table import Score
from tasks.artifact import Artifact
from tasks.judge import load_scores
from tasks.result_graph import ARTIFACT, Record, ResultGraph, changed_code, leaves, size_bytes
from tasks.store import Store

WIDTH = 100
SHOWN_USERS = 12


def explain_lines(workspace: Path, prefix: str) -> Iterator[str]:
    """The result whose key begins so: its identity, inputs and record, what was made from it, and its nearest other."""
    store = Store(workspace.resolve() / "artifacts")
    graph = ResultGraph(store)
    record = graph.one(prefix)
    yield f"{record['stage']} {record['key']}  {record['describe']}"
    yield from _section("state", [_state(record, store)])
    yield from _section("identity", [("version", str(record["version"])), *_settings(record)])
    yield from _section("made from", _inputs(record, graph))
    yield from _section("record", _record(record))
    yield from _section("summary", list(leaves(record["summary"])))
    yield from _section("made from it", _users(record, graph))
    yield from _nearest(record, graph)


def _section(title: str, rows: list[tuple[str, str]]) -> Iterator[str]:
    """A title and its rows, their values below each other; a long value goes on in the next line."""
    yield title
    room = max((len(name) for name, _ in rows), default=0)
    for name, value in rows or [("none", "")]:
        start = f"  {name:{room}}  "
        yield textwrap.fill(value, WIDTH, initial_indent=start, subsequent_indent=" " * len(start)) or start.rstrip()


def _state(record: Record, store: Store) -> tuple[str, str]:
    flaw = store.flaw(record["stage"], record["key"])
    if flaw:
        return "damaged", flaw
    changed = changed_code(record)
    return ("suspect", f"changed since: {', '.join(changed)}") if changed else ("there", "whole, and made by this code")


def _settings(record: Record) -> list[tuple[str, str]]:
    """The fields of a result that are no other result."""
    return [(field, text) for field, text in leaves(record["identity"]) if not field.endswith(ARTIFACT)]


def _inputs(record: Record, graph: ResultGraph) -> list[tuple[str, str]]:
    found = graph.inputs(record)
    return [
        (name, f"{entry['stage']} {entry['key'] or 'yours'}, contents {entry['digest'][:12]}{_gone(found[name])}")
        for name, entry in record["inputs"].items()
    ]


def _gone(found: Record | None) -> str:
    return "" if found else ", not in this workspace"


def _record(record: Record) -> list[tuple[str, str]]:
    code, runtime = record["code"], record["runtime"]
    return [
        ("finished", f"{record['finished']}, {age_text(record['finished'], datetime.now(UTC))} ago"),
        ("took", f"{record['seconds']:,.1f} s on {runtime['device']}, {runtime['workers']} workers"),
        ("holds", f"{size_text(size_bytes(record))} in {len(record['files'])} files, contents {record['digest'][:12]}"),
        ("commit", f"{code['commit'][:12]}{' with uncommitted changes' if code['dirty'] else ''}"),
        ("made by", record.get("made_by", "unrecorded code")),
        ("modules", ", ".join(record.get("modules", ()))),
        ("packages", ", ".join(f"{name} {version}" for name, version in record["packages"].items())),
        *(("blessed", f"{told['when']}: {', '.join(told['modules'])}") for told in record.get("blessed", ())),
    ]


def _users(record: Record, graph: ResultGraph) -> list[tuple[str, str]]:
    direct = graph.users(record)
    rows = [(f"{user['stage']} {user['key'][:8]}", user["describe"]) for user in direct[:SHOWN_USERS]]
    further = len(graph.downstream([record])) - len(rows)
    return [*rows, ("and", f"{further} more, directly or through these")] if further > 0 else rows


def _nearest(record: Record, graph: ResultGraph) -> Iterator[str]:
    nearest = graph.nearest(record)
    if nearest is None:
        yield f"the only result of the stage {record['stage']}"
        return
    told = [
        (item.field, f"{_brief(item.there)} there, {_brief(item.here)} here")
        for item in graph.differences(record, nearest)
    ]
    yield from _section(f"differs from {nearest['stage']} {nearest['key'][:8]}, its nearest, by", told)


def _brief(text: str | None) -> str:
    """A value as one reads it; of a digest its beginning."""
    return "absent" if text is None else text[:12] if re.fullmatch("[0-9a-f]{64}", text) else text


def trace_lines(workspace: Path, cell: str) -> Iterator[str]:
    """All that a number of the workspace's reports was made from, nearest first: `+DiT/CLAP_A,ctx/fad`.

    Each result in one line with key, version, time and settings. Raises ValueError for a cell that is in no report.
    """
    arm, inputs, metric = _parts(cell)
    store = Store(workspace.resolve() / "artifacts")
    graph = ResultGraph(store)
    row = _row(graph, arm, inputs)
    scores = [score for score in load_scores(_artifact(row, store)) if score.metric == metric]
    if not scores:
        known = sorted({score.metric for score in load_scores(_artifact(row, store))})
        raise ValueError(f"{arm}, {inputs} has no metric {metric!r}; it has {', '.join(known)}")
    yield f"{cell} = {_value(scores)}"
    for record in graph.chain(row):
        yield from _link(record, graph)


def _parts(cell: str) -> tuple[str, str, str]:
    arm, _, rest = cell.partition("/")
    inputs, _, metric = rest.rpartition("/")
    if not (arm and inputs and metric):
        raise ValueError(f"{cell!r} is no cell; write it as arm/inputs/metric, such as +DiT/CLAP_A,ctx/fad")
    return arm, inputs, metric


def _row(graph: ResultGraph, arm: str, inputs: str) -> Record:
    """The scores of a row that a report was made from, of the latest report that has it."""
    rows: dict[tuple[str, str], Record] = {}
    for report in sorted(graph.all("report"), key=lambda record: record["finished"]):
        used = (found for found in graph.inputs(report).values() if found and found["stage"] == "scores")
        rows |= {_row_name(record): record for record in used}
    for name in ((arm, inputs), (f"+{arm}", inputs)):
        if name in rows:
            return rows[name]
    raise ValueError(
        f"no report has the row {arm}/{inputs}; there are {', '.join('/'.join(name) for name in rows) or 'none'}"
    )


def _row_name(record: Record) -> tuple[str, str]:
    told = {field.split(".")[-1]: text for field, text in leaves(record["identity"])}
    return told["arm"], told["inputs"]


def _artifact(record: Record, store: Store) -> Artifact:
    home = store.root / record["stage"] / record["key"]
    return Artifact(stage=record["stage"], key=record["key"], location=str(home), digest=record["digest"])


def _value(scores: list[Score]) -> str:
    values = [score.value for score in scores]
    mean = sum(values) / len(values)
    return f"{mean:.6g}, the mean of {len(values)} batches: {', '.join(f'{value:.6g}' for value in values)}"


def _link(record: Record, graph: ResultGraph) -> Iterator[str]:
    """One result of the chain; what it is made from and how it was set go on below it."""
    changed = ", suspect" if changed_code(record) else ""
    yield f"{record['stage']:12} {record['key']}  version {record['version']}, {record['finished'][:16]}{changed}"
    used = [f"{entry['stage']} {(entry['key'] or 'yours')[:8]}" for entry in record["inputs"].values()]
    settings = [f"{field}={text}" for field, text in _settings(record) if _matters(field, text)]
    for title, told in (("←", used), ("·", settings)):
        yield from _wrapped(dict.fromkeys(told), f"  {title} ")


def _matters(field: str, text: str) -> bool:
    """Whether a setting is worth a place in a chain; `explain` tells all of them."""
    return text != "None" and field.rpartition(".")[2] not in ("type", "inferred")


def _wrapped(told: Iterable[str], start: str) -> Iterator[str]:
    """These words in lines of the page's width, none of them broken."""
    line = start
    for word in told:
        if len(line) + len(word) > WIDTH and line.strip() != start.strip():
            yield line.rstrip()
            line = " " * len(start)
        line += f"{word}  "
    if line.strip() != start.strip():
        yield line.rstrip()
