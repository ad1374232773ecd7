"""What a study's results are found to be, as lines; and what is done about those whose code has changed since."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple

from flows.request import RequestError, StudyRequest
from flows.session import Session, session
from tasks.inspection import Finding, Inspector, State
from tasks.report import MakeReport
from tasks.store import Store

NAMED = 8  # suspect results that an error names


def status_lines(request: StudyRequest) -> Iterator[str]:
    """Every result of the study: its state, stage, key, size, age, name, and why it is not simply there."""
    findings = inspected(session(request)).findings()
    now = datetime.now(UTC)
    yield f"{'':8} {'stage':15} {'key':8} {'size':>8} {'age':>5}  what, and why"
    for finding in findings:
        yield status_line(finding, now)
    counts = Counter(finding.state for finding in findings)
    told = ", ".join(f"{counts[state]} {state.value}" for state in State if counts[state])
    yield f"{len(findings)} results of {request.name()}: {told}"


def inspected(ready: Session) -> Inspector:
    """A look at every result of the study, its report included."""
    return inspected_with_report(ready)[0]


def inspected_with_report(ready: Session) -> tuple[Inspector, MakeReport]:
    """The same, and the report as it stands or is to be made."""
    inspector = Inspector(Store(ready.runtime.root / "artifacts"))
    report = ready.report(inspector.make)
    inspector.make(report)
    return inspector, report


def status_line(finding: Finding, now: datetime) -> str:
    """One result in one line."""
    there = finding.record if finding.state in (State.THERE, State.SUSPECT, State.DAMAGED) or finding.key else None
    record = there if there and there["key"] == finding.key else None
    size, age = (size_text(finding.bytes), age_text(record["finished"], now)) if record else ("-", "-")
    why = f"{finding.describe}: {finding.why}" if finding.why else finding.describe
    return f"{finding.state.value:8} {finding.stage:15} {(finding.key or '?')[:8]:8} {size:>8} {age:>5}  {why}"


def size_text(count: int) -> str:
    """Bytes as a person reads them: `1.2 MB`."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 99.5 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def age_text(finished: str, now: datetime) -> str:
    """How long ago a result was finished: `5 s`, `12 m`, `3 h`, `8 d`."""
    seconds = max(0.0, (now - datetime.fromisoformat(finished)).total_seconds())
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds:.0f} s"


class Settled(NamedTuple):
    """What was done about the results whose own code has changed: removed, to be made again, or used as they are."""

    removed: list[Finding]
    used: list[Finding]

    def told_by(self, report: MakeReport) -> MakeReport:
        """The report that says what it was made of all the same."""
        return replace(report, suspects=tuple(f"{item.describe} {item.key}: {item.why}" for item in self.used))


def settle_suspects(ready: Session, inspector: Inspector) -> Settled:
    """Name the study's suspect results and do with them what the request says.

    Raises RequestError where it says nothing: no report is made of them unasked; and for a stage that there is not.
    """
    request, suspects = ready.request, inspector.suspects()
    for stage in request.refresh_stages:
        if stage not in inspector.stages:
            raise RequestError(f"this study has no stage {stage!r}; it has {', '.join(inspector.stages)}")
    changed = [item for item in suspects if item.own_code_changed]
    removed = [item for item in changed if request.refresh or item.stage in request.refresh_stages]
    used = [item for item in changed if item not in removed]
    if used and not request.allow_suspect:
        raise RequestError(_refusal(suspects, used))
    _say(removed, "made again")
    remove(Store(ready.runtime.root / "artifacts"), removed)
    _say(used, "suspect, and used all the same")
    return Settled(removed, used)


def remove(store: Store, findings: Iterable[Finding]) -> None:
    """Forget these results."""
    for finding in findings:
        assert finding.key is not None, f"{finding.describe} is there and has no key"
        store.remove(finding.stage, finding.key)


def _say(findings: list[Finding], outcome: str) -> None:
    for item in findings:
        logging.getLogger("stemwright").warning("%-44s %s  %s: %s", item.describe, item.key, outcome, item.why)


def _refusal(suspects: list[Finding], changed: list[Finding]) -> str:
    named = "; ".join(f"{item.stage} {(item.key or '')[:8]} ({item.why})" for item in changed[:NAMED])
    more = f"; and {len(changed) - NAMED} more" if len(changed) > NAMED else ""
    return (
        f"{len(suspects)} results are suspect, for the code of {len(changed)} has changed since they were made: "
        f"{named}{more}. Make them again with --refresh, declare them unchanged in meaning with stemwright bless KEY, "
        "or use them all the same with --allow-suspect"
    )
