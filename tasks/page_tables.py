"""The report page's tables and lists as HTML; every word of text is escaped here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby

from metrics.table import Cell, ScoreTable
from tasks.bridge_quality import Crossing
from tasks.checks import CheckResult, Summary, verdict_text
from tasks.columns import Column
from tasks.context_sensitivity import Listening
from tasks.paper_table import Row, paper_table


def score_table(table: ScoreTable, shown: Sequence[Column], *, caption: str, with_paper: bool) -> str:
    """Rows grouped by arm; our columns, then the paper's set apart under a heading of their own."""
    theirs = [column for column in shown if column.paper] if with_paper else []
    groups = groupby(table.rows(), key=lambda row: row[0])
    bodies = "".join(_arm_rows(table, arm, list(rows), shown, theirs) for arm, rows in groups)
    # The caption stands outside the table: inside, it would scroll away with the columns on a narrow screen.
    return (
        f'<p class="soft">{escape(caption)}</p>'
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}"><table class="scores">'
        f"{_head(shown, theirs)}{bodies}</table></div>"
    )


def meaning_list(shown: Sequence[Column]) -> str:
    """What each column measures and which way is better."""
    return fact_list({f"{column.arrow} {column.title}".strip(): column.meaning for column in shown})


def column_heading(column: Column) -> str:
    """Arrow, name and, on a line of its own, the unit."""
    return f"{column.arrow} {escape(column.heading)}<small>{'<br>'.join(column.unit.split()) or '&nbsp;'}</small>"


def fact_list(facts: Mapping[str, str]) -> str:
    """Named facts, one line each."""
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    return f'<dl class="facts">{items}</dl>'


def check_table(summaries: Sequence[Summary]) -> str:
    """One line per check: rows passed, and the row closest to its bound."""
    lines = "".join(_check_line(summary) for summary in summaries)
    head = "".join(f'<th class="name" scope="col">{name}</th>' for name in _CHECK_HEADINGS)
    return (
        '<div class="scroll" role="region" tabindex="0" aria-label="Checks"><table>'
        "<caption>Bounds that a table of this scale must hold to mean anything. None concerns the order of arms."
        f"</caption><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def crossing_table(crossings: Sequence[Crossing]) -> str:
    """One line per way from text to audio embeddings, from none at all to the audio itself."""
    head = "".join(f'<th scope="col">{name}</th>' for name in _CROSSING_HEADINGS)
    lines = "".join(
        f'<tr><th scope="row">{escape(way.name)}</th><td>{way.own_cosine:.3f}</td><td>{way.recall_at_5:.3f}</td>'
        f"<td>{way.gap:.3f}</td><td>{way.fad:.3f}</td><td>{way.effective_rank:.1f}</td></tr>"
        for way in crossings
    )
    return (
        '<div class="scroll" role="region" tabindex="0" aria-label="From text to audio"><table class="scores">'
        f'<thead><tr><th class="name" scope="col">embedding of the tags</th>{head}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def listening_table(arms: Sequence[tuple[str, Sequence[Listening]]]) -> str:
    """A group per denoiser: its candidates by the context they heard, and real stems, beside the prompts' contexts."""
    head = "".join(f'<th scope="col">{name}</th>' for name in _LISTENING_HEADINGS)
    bodies = "".join(
        f'<tbody><tr class="arm"><th scope="rowgroup" colspan="{1 + len(_LISTENING_HEADINGS)}">{escape(name)}</th></tr>'
        + "".join(
            f'<tr><th scope="row">{escape(row.stems)}</th><td>{"–" if row.moved is None else f"{row.moved:.3f}"}</td>'
            f"<td>{row.apa:.2f}</td><td>{row.onset:.3f}</td><td>{row.chroma:.3f}</td></tr>"
            for row in rows
        )
        + "</tbody>"
        for name, rows in arms
    )
    return (
        '<div class="scroll" role="region" tabindex="0" aria-label="Do the arms listen?"><table class="scores">'
        f'<thead><tr><th class="name" scope="col">beside the prompt’s context</th>{head}</tr></thead>'
        f"{bodies}</table></div>"
    )


def failure_list(results: Sequence[CheckResult]) -> str:
    """Every failed check in full, a missing cell among them."""
    failures = [result for result in results if not result.passed]
    if not failures:
        return '<p class="passed">All checks passed.</p>'
    items = "".join(
        f"<li>{escape(result.name)}: {escape(result.subject)}: {escape(verdict_text(result))}</li>"
        for result in failures
    )
    return f'<p class="failed">{len(failures)} of {len(results)} checks failed:</p><ul>{items}</ul>'


_CROSSING_HEADINGS = ("cosine with own audio", "own audio in 5", "gap to audio", "FAD to audio", "effective rank")
_LISTENING_HEADINGS = ("latents moved", "APA", "onsets shared", "chroma shared")
_CHECK_HEADINGS = ("check", "rows passed", "closest row", "value and bound")


def _head(shown: Sequence[Column], theirs: Sequence[Column]) -> str:
    ours = "".join(f'<th scope="col">{column_heading(column)}</th>' for column in shown)
    if not theirs:
        return f'<thead><tr><th class="name" scope="col">inputs</th>{ours}</tr></thead>'
    papers = "".join(
        f'<th scope="col" class="theirs{_first(place)}">{column_heading(column)}</th>'
        for place, column in enumerate(theirs)
    )
    groups = (
        f'<td class="name"></td><th class="group" scope="colgroup" colspan="{len(shown)}">ours</th>'
        f'<th class="group theirs first" scope="colgroup" colspan="{len(theirs)}">the paper’s, measured otherwise</th>'
    )
    return f'<thead><tr>{groups}</tr><tr><th class="name" scope="col">inputs</th>{ours}{papers}</tr></thead>'


def _first(place: int) -> str:
    return " first" if place == 0 else ""


def _arm_rows(
    table: ScoreTable, arm: str, rows: Sequence[Row], shown: Sequence[Column], theirs: Sequence[Column]
) -> str:
    name = f'<tr class="arm"><th scope="rowgroup" colspan="{1 + len(shown) + len(theirs)}">{escape(arm)}</th></tr>'
    return f"<tbody>{name}{''.join(_row(table, row, shown, theirs) for row in rows)}</tbody>"


def _row(table: ScoreTable, row: Row, shown: Sequence[Column], theirs: Sequence[Column]) -> str:
    ours = "".join(f"<td>{_cell(column, table.cell(*row, column.metric))}</td>" for column in shown)
    papers = "".join(
        f'<td class="theirs{_first(place)}">{column.printed(paper_table().value(*row, column.metric))}</td>'
        for place, column in enumerate(theirs)
    )
    return f'<tr><th scope="row">{escape(row[1])}</th>{ours}{papers}</tr>'


def _cell(column: Column, cell: Cell | None) -> str:
    mean, _, spread = column.cell_text(cell).partition(" ± ")
    return f'{mean}<span class="spread"> ±{spread}</span>' if spread else mean


def _check_line(summary: Summary) -> str:
    style = "passed" if summary.passed == summary.rows else "failed"
    cells = (f"{summary.passed} of {summary.rows}", summary.closest.subject, verdict_text(summary.closest))
    first = f'<th scope="row">{escape(summary.name)}</th><td class="name {style}">{escape(cells[0])}</td>'
    others = "".join(f'<td class="name">{escape(cell)}</td>' for cell in cells[1:])
    return f"<tr>{first}{others}</tr>"
