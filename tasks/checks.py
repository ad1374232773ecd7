"""What a laptop table must satisfy to mean anything: the verdicts on its acceptance bounds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import NamedTuple

from metrics.table import NOISE_ROW, ScoreTable
from tasks.acceptance_rules import RULES, Above, AboveUnconditional, BestOfOthers, Fixed, Relation, Rule, Times
from tasks.columns import CONTEXT_IGNORED
from tasks.paper_table import Row, paper_table


class CheckResult(NamedTuple):
    """One verdict. `value` and `bound` are None when a cell that the check needs is missing: that never passes."""

    name: str
    subject: str
    value: float | None
    relation: Relation
    bound: float | None
    passed: bool
    note: str


@dataclass(frozen=True, kw_only=True)
class ClapQuality:
    """How well the small CLAP tells held-out songs' windows apart: what all its scores stand on.

    Recall falls with the number of windows that a text is to be found among.
    """

    windows: int
    recall_at_5: float
    role_accuracy: float


def check(
    table: ScoreTable, clap_quality: ClapQuality | None, *, model_rows: Sequence[Row] | None = None
) -> list[CheckResult]:
    """Every acceptance bound with its value, in the order of `RULES`.

    `model_rows` are the rows the run was asked for; None asks for all of Table 1. A row or cell that is not there
    fails its checks, and so does an embedder whose quality was not measured.
    """
    expected = list(paper_table().model_rows() if model_rows is None else model_rows)
    results = [result for rule in RULES for result in _verdicts(rule, table, expected)]
    return [*results, _context_gain(table, expected), *_clap_checks(clap_quality)]


class Summary(NamedTuple):
    """One check over all its rows: how many pass, and the row nearest to its bound or furthest beyond it."""

    name: str
    passed: int
    rows: int
    closest: CheckResult


def summarise(results: Sequence[CheckResult]) -> list[Summary]:
    """One line per check, in order; 28 rows under one bound are one line."""
    by_name: dict[str, list[CheckResult]] = {}
    for result in results:
        by_name.setdefault(result.name, []).append(result)
    return [
        Summary(name, sum(result.passed for result in group), len(group), min(group, key=_margin))
        for name, group in by_name.items()
    ]


def verdict_text(result: CheckResult) -> str:
    """`0.451 < 0.816`, `0.91 is not < 0.816` or what is missing."""
    if result.value is None or result.bound is None:
        return result.note
    relation = result.relation if result.passed else f"is not {result.relation}"
    return f"{result.value:.4g} {relation} {result.bound:.4g}"


def _margin(result: CheckResult) -> float:
    if result.value is None or result.bound is None:
        return float("-inf")
    distance = result.bound - result.value if result.relation == "<" else result.value - result.bound
    return distance if result.passed else min(distance, 0.0)


def _verdicts(rule: Rule, table: ScoreTable, expected: Sequence[Row]) -> Iterator[CheckResult]:
    rows = rule.rows(expected)
    if not rows:
        yield _missing(rule.name, "no such row", rule.relation, "the run was not asked for any such row")
    for row in rows:
        try:
            value = _mean(table, row, rule.metric)
            bound = _bound(rule, row, table, expected)
        except _MissingCellError as missing:
            yield _missing(rule.name, _name(row), rule.relation, str(missing))
        else:
            yield _judged(rule.name, _name(row), abs(value) if rule.magnitude else value, rule.relation, bound)


def _bound(rule: Rule, row: Row, table: ScoreTable, expected: Sequence[Row]) -> float:
    match rule.bound:
        case Fixed(value):
            return value
        case Times(factor, other):
            return factor * _mean(table, other, rule.metric)
        case Above(margin, other):
            return margin + _mean(table, other, rule.metric)
        case AboveUnconditional(margin):
            own = (row[0], "uncond")
            stand_in = own if table.cell(*own, rule.metric) or row[0] != "+CLAP_beta" else ("+DiT", "uncond")
            return margin + _mean(table, stand_in, rule.metric)
        case BestOfOthers():
            return _best_of_others(table, row, rule, expected)


def _best_of_others(table: ScoreTable, row: Row, rule: Rule, expected: Sequence[Row]) -> float:
    # The random bound re-pairs real stems, so it has no FAD or coverage of its own to compete with.
    others = [_mean(table, other, rule.metric) for other in [NOISE_ROW, *expected] if other != row]
    return min(others) if rule.relation == "<" else max(others)


def _context_gain(table: ScoreTable, expected: Sequence[Row]) -> CheckResult:
    """Mean over arms of APA with context only, minus APA when no context was heard.

    APA alone does not prove that context is used: candidates off the distribution land near 0.5 whatever they heard.
    """
    name, subject = "mean over arms: APA(ctx) − APA(uncond)", "all arms with both rows"
    arms = [arm for arm, inputs in expected if inputs == "ctx" and (arm, "uncond") in expected]
    try:
        gains = [_mean(table, (arm, "ctx"), "apa") - _mean(table, (arm, "uncond"), CONTEXT_IGNORED) for arm in arms]
    except _MissingCellError as missing:
        return _missing(name, subject, ">", str(missing))
    if not gains:
        return _missing(name, subject, ">", "no arm has a row with context only and one without any condition")
    return _judged(name, subject, mean(gains), ">", 0.0)


def _clap_checks(quality: ClapQuality | None) -> list[CheckResult]:
    names = ("small CLAP: recall@5", "small CLAP: role accuracy")
    if quality is None:
        return [_missing(name, "held-out songs", ">", "the embedder's quality was not measured") for name in names]
    values = (quality.recall_at_5, quality.role_accuracy)
    bounds = (0.35, 0.75)
    return [
        _judged(name, f"{quality.windows} held-out windows", value, ">", bound)
        for name, value, bound in zip(names, values, bounds, strict=True)
    ]


class _MissingCellError(LookupError):
    pass


def _mean(table: ScoreTable, row: Row, metric: str) -> float:
    cell = table.cell(*row, metric)
    if cell is None:
        raise _MissingCellError(f"{metric} of {_name(row)}")
    return cell.mean


def _judged(name: str, subject: str, value: float, relation: Relation, bound: float) -> CheckResult:
    # A comparison with NaN is false both ways, so a broken value fails.
    passed = value < bound if relation == "<" else value > bound
    return CheckResult(name, subject, value, relation, bound, passed, "")


def _missing(name: str, subject: str, relation: Relation, what: str) -> CheckResult:
    return CheckResult(name, subject, None, relation, None, False, f"missing: {what}")


def _name(row: Row) -> str:
    return f"{row[0]} / {row[1]}"
