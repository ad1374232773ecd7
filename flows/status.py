"""What a study's results are found to be, as lines; and what is done about those whose code has changed since."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from flows.request import RequestError, StudyRequest
from flows.session import Session, session
from tasks.inspection import Finding, Inspector, State
from tasks.store import Store

NAMED = 8  # suspect results that an error names


def status_lines(request: StudyRequest) -> Iterator[str]:
    """Every result of the study: its state, stage, key, size, age, name, and why it is not simply there."""
    findings = inspected(session(request)).findings()
    now = datetime.now(UTC)
    yield f"{'':8} {'stage':14} {'key':8} {'size':>8} {'age':>5}  what, and why"
    for finding in findings:
        yield status_line(finding, now)
    counts = Counter(finding.state for finding in findings)
    told = ", ".join(f"{counts[state]} {state.value}" for state in State if counts[state])
    yield f"{len(findings)} results of {request.name()}: {told}"


def inspected(ready: Session) -> Inspector:
    """A look at every result of the study, its report included."""
    inspector = Inspector(Store(ready.runtime.root / "artifacts"))
    inspector.make(ready.report(inspector.make))
    return inspector


def status_line(finding: Finding, now: datetime) -> str:
    """One result in one line."""
    there = finding.record if finding.state in (State.THERE, State.SUSPECT, State.DAMAGED) or finding.key else None
    record = there if there and there["key"] == finding.key else None
    size, age = (size_text(finding.bytes), age_text(record["finished"], now)) if record else ("-", "-")
    why = f"{finding.describe}: {finding.why}" if finding.why else finding.describe
    return f"{finding.state.value:8} {finding.stage:14} {(finding.key or '?')[:8]:8} {size:>8} {age:>5}  {why}"


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


def settle_suspects(ready: Session) -> list[Finding]:
    """Name the study's suspect results and do with them what the request says; those removed come back.

    Raises RequestError where it says nothing: no report is made of them unasked.
    """
    suspects = [item for item in inspected(ready).findings() if item.state is State.SUSPECT]
    changed = [item for item in suspects if item.own_code_changed]
    if not suspects:
        return []
    if ready.request.refresh:
        _say(changed, "made again")
        remove(Store(ready.runtime.root / "artifacts"), changed)
        return changed
    if not ready.request.allow_suspect:
        raise RequestError(_refusal(suspects, changed))
    _say(suspects, "suspect, and used all the same")
    return []


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
