"""Forgetting results, so that the next run makes them again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.result_graph import Record, ResultGraph, leaves
from tasks.shard_folder import shard_name
from tasks.store import Store


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which results of a stage are meant; None says nothing.

    `arm`: those an arm's rows were made from, or that were made for its rows; `codec`: those a codec of this name or
    key had a part in; `split`: those of the training or the held-out windows; `match`: those with this text in their
    record.
    """

    stage: str
    arm: str | None = None
    codec: str | None = None
    split: str | None = None
    match: str | None = None

    def of(self, graph: ResultGraph) -> list[Record]:
        """The results. Raises ValueError where there are none, naming what there is."""
        found = graph.all(self.stage)
        if not found:
            stages = ", ".join(sorted({record["stage"] for record in graph.all()})) or "none"
            raise ValueError(f"there are no results of a stage {self.stage!r}; there are {stages}")
        for option, wanted, names_of in (
            ("--arm", self.arm, _arms),
            ("--codec", self.codec, _codecs),
            ("--split", self.split, _splits),
        ):
            if wanted is not None:
                found = _named(found, graph, option, wanted, names_of)
        if self.match is not None:
            found = [record for record in found if self.match in str(record)]
        if not found:
            raise ValueError(f"no result of the stage {self.stage} has {self.match!r} in its record")
        return found


def invalidate_lines(
    workspace: Path, selection: Selection, *, shard: int | None, downstream: bool, dry_run: bool
) -> Iterator[str]:
    """Forget the results of a selection, and name what was made from them; `downstream` forgets that too.

    Of a `shard` alone only its files go, and a stage that works shard by shard makes just those again. Raises
    ValueError where nothing is selected, or where no selected result has that shard.
    """
    store = Store(workspace.resolve() / "artifacts")
    graph = ResultGraph(store)
    doomed = selection.of(graph)
    if shard is not None:
        doomed = _with_shard(doomed, shard)
    later = graph.downstream(doomed)
    verb = "would forget" if dry_run else "forgot"
    for record in doomed:
        yield f"{verb:12}  {_name(record)}{'' if shard is None else f', shard {shard} alone'}"
    for record in later:
        yield f"{verb if downstream else 'made from it':12}  {_name(record)}"
    if dry_run:
        return
    for record in doomed:
        if shard is None:
            store.remove(record["stage"], record["key"])
        else:
            store.reopen(record["stage"], record["key"], without=_shard_stem(shard))
    for record in later if downstream else ():
        store.remove(record["stage"], record["key"])


def _name(record: Record) -> str:
    return f"{record['stage']}/{record['key']}  {record['describe']}"


def _with_shard(records: list[Record], shard: int) -> list[Record]:
    found = [record for record in records if shard_name(shard) in record["files"]]
    if not found:
        counts = ", ".join(
            f"{record['key'][:8]} has {sum(name.endswith('.tar') for name in record['files'])}" for record in records
        )
        raise ValueError(f"no selected result has a shard {shard}, counted from 0; {counts}")
    return found


def _shard_stem(shard: int) -> str:
    return shard_name(shard).removesuffix("tar")


def _named(records: list[Record], graph: ResultGraph, option: str, wanted: str, names_of: Any) -> list[Record]:
    """The results that have a name which contains the wanted one, whatever its case; an exact one goes before."""
    names = {record["key"]: names_of(record, graph) for record in records}
    every = sorted(set().union(*names.values()))
    exact = {name for name in every if wanted.casefold() in (name.casefold(), name.removeprefix("+").casefold())}
    accepted = exact or {name for name in every if wanted.casefold() in name.casefold()}
    found = [record for record in records if names[record["key"]] & accepted]
    if not found:
        stage = records[0]["stage"]
        raise ValueError(
            f"no result of the stage {stage} has {option} {wanted!r}; there are {', '.join(every) or 'none'}"
        )
    return found


def _arms(record: Record, graph: ResultGraph) -> set[str]:
    """The arms of the rows that a result was made for, or made from."""
    rows = [record, *graph.downstream([record])] if record["stage"] != "report" else graph.upstream([record])
    told = (row for row in rows if row["stage"] == "scores")
    return {text for row in told for field, text in leaves(row["identity"]) if field.split(".")[-1] == "arm"}


def _codecs(record: Record, graph: ResultGraph) -> set[str]:
    found = (other for other in graph.upstream([record]) if other["stage"] == "codec")
    return {name for other in found for name in (other["describe"].removeprefix("codec "), other["key"])}


def _splits(record: Record, graph: ResultGraph) -> set[str]:
    """The splits of the nearest windows: its own, or those of what it was made from, step by step."""
    nearest, seen = [record], {record["key"]}
    while nearest:
        fields = (pair for other in nearest for pair in leaves(other["identity"]))
        splits = {text for field, text in fields if field.split(".")[-1] == "split"}
        if splits:
            return splits
        inputs = [found for other in nearest for found in graph.inputs(other).values() if found]
        nearest = list({found["key"]: found for found in inputs if found["key"] not in seen}.values())
        seen |= {found["key"] for found in nearest}
    return set()
