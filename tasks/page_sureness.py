"""The report page's section on how sure the table is; every word of text is escaped here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby

from metrics.reproduction import Ordering, ReproductionScore
from metrics.row_statistics import LEVEL, Measured
from tasks.arm_comparison import SWAPS, Compared, Difference
from tasks.columns import BLANK, Column, all_columns
from tasks.page_tables import column_heading, fact_list, meaning_list
from tasks.row_statistics import MEANING, RowStatistics
from tasks.sureness import FURTHER, GATES, Sureness

DIRECTIONS = (
    "Which way each column moves as real stems are damaged step by step (noise, low-pass, pitch, delay, wrong song), "
    "and which damages it does not see, is measured in docs/metrics.md under “Do the metrics see what they should?”."
)


def sureness(sure: Sureness, neighbours: tuple[int, ...]) -> str:
    """The score against the paper's order, intervals, arms side by side, gates and copies, and why cells are blank."""
    known = (*all_columns(neighbours), *FURTHER)
    return (
        (_reproduction(sure.reproduction, known) if sure.reproduction else "")
        + _intervals(sure.rows, known)
        + (_comparisons(sure.comparisons, known) if sure.comparisons else "")
        + _gates(sure.rows)
        + _blanks(sure, known)
        + f'<p class="soft">{escape(DIRECTIONS)}</p>'
    )


def _reproduction(found: ReproductionScore, known: Sequence[Column]) -> str:
    names = _names(known)
    by_metric = (f"{names.get(metric, metric)} {share:.0%}" for metric, share in found.by_metric().items())
    facts = {
        "reproduction score": f"{found.share:.0%} of the paper’s {len(found.orderings)} orderings of two arms are ours "
        "too; chance gives half",
        "by metric": ", ".join(by_metric),
        "beyond the intervals": f"{len(found.beyond_intervals)} of the {len(found.different)} others: ours is the "
        "other way round by more than both intervals allow",
        "not counted": f"{found.ties} ties of the paper, {found.missing} without a score of ours",
    }
    within = [one for one in found.different if not one.beyond]
    return (
        fact_list(facts)
        + _ordering_list("Beyond the intervals", found.beyond_intervals, names)
        + _ordering_list("Different within the intervals, or of unknown ones", within, names)
    )


def _names(known: Sequence[Column]) -> dict[str, str]:
    """Each metric as running text tells it."""
    return {column.metric: column.heading + (f" k={column.neighbour}" if column.neighbour else "") for column in known}


def _ordering_list(title: str, orderings: Sequence[Ordering], names: Mapping[str, str]) -> str:
    """The paper's orderings that ours does not have, those of one metric and two arms in one line."""
    inputs: dict[tuple[str, str, str], list[str]] = {}
    for one in orderings:
        inputs.setdefault((names.get(one.metric, one.metric), one.lower, one.higher), []).append(one.inputs)
    lines = [
        f"{metric}: the paper has {lower} below {higher}; ours not under {'; '.join(under)}"
        for (metric, lower, higher), under in inputs.items()
    ]
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    title = f"{title}: {len(orderings)} orderings"
    return f"<details><summary>{escape(title)}</summary><ul>{items}</ul></details>" if items else ""


def _intervals(rows: Sequence[RowStatistics], known: Sequence[Column]) -> str:
    shown = [column for column in known if any(_value(row, column) is not None for row in rows)]
    caption = f"Scores with their {LEVEL:.0%} intervals, tracks left out in turn. {MEANING}"
    bodies = "".join(
        _group(arm, 1 + len(shown), [_interval_row(row, shown) for row in group])
        for arm, group in groupby(rows, key=lambda row: row.arm)
    )
    further = tuple(column for column in FURTHER if column in shown)
    return _table(caption, "inputs", [column_heading(column) for column in shown], bodies) + meaning_list(further)


def _value(row: RowStatistics, column: Column) -> float | None:
    found = row.of(column.metric)
    return found.value if found else None


def _interval_row(row: RowStatistics, shown: Sequence[Column]) -> str:
    cells = "".join(f"<td>{_interval_cell(column, row.of(column.metric))}</td>" for column in shown)
    return f'<tr><th scope="row">{escape(row.inputs)}</th>{cells}</tr>'


def _interval_cell(column: Column, found: Measured | None) -> str:
    if found is None or found.value is None:
        return BLANK
    beyond = ' <span class="spread">beyond</span>' if found.note.startswith("beyond") else ""
    return column.text(found.value) + _ends(column, found) + beyond


def _ends(column: Column, found: Measured | Difference) -> str:
    if found.low is None or found.high is None:
        return ""
    return f' <span class="spread">{column.text(found.low)} to {column.text(found.high)}</span>'


def _comparisons(pairs: Sequence[Compared], known: Sequence[Column]) -> str:
    measured = {one.metric for pair in pairs for one in pair.differences if one.value is not None}
    shown = [column for column in known if column.metric in measured]
    caption = (
        "Each arm less the one that it differs from by one step, on the same prompts: the difference, its "
        f"{LEVEL:.0%} interval and p, from {SWAPS} exchanges of the arms’ candidates by whole tracks. Bold is "
        f"p ≤ {1 - LEVEL:.2f}: of equal arms one cell in twenty is bold too."
    )
    bodies = "".join(
        _group(f"{arm} less {before}", 1 + len(shown), [_comparison_row(pair, shown) for pair in group])
        for (arm, before), group in groupby(pairs, key=lambda pair: (pair.arm, pair.before))
    )
    return _table(caption, "inputs", [column_heading(column) for column in shown], bodies)


def _comparison_row(pair: Compared, shown: Sequence[Column]) -> str:
    by_metric = {one.metric: one for one in pair.differences}
    cells = "".join(f"<td>{_difference_cell(column, by_metric.get(column.metric))}</td>" for column in shown)
    return f'<tr><th scope="row">{escape(pair.inputs)}</th>{cells}</tr>'


def _difference_cell(column: Column, one: Difference | None) -> str:
    if one is None or one.value is None or one.p_value is None:
        return BLANK
    text = column.text(one.value)
    figure = f"+{text}" if float(text) > 0 else text
    marked = f"<strong>{figure}</strong>" if one.p_value <= 1 - LEVEL else figure
    return f'{marked}{_ends(column, one)} <span class="spread">p {one.p_value:.3f}</span>'


def _gates(rows: Sequence[RowStatistics]) -> str:
    judged = [row for row in rows if row.of("memorised") or any(row.of(gate) for gate in GATES)]
    headings = [*map(escape, GATES.values()), "nearer to training", "nearest to a training stem"]
    caption = (
        "Candidates that no score should be believed of, and copies: the share that lies nearer to a training stem "
        "than to any held-out one of other tracks, with what chance gives; the real row copies nothing. The last "
        "column names the likest pair and how much nearer it is than the nearest held-out stem (1: as near)."
    )
    bodies = "".join(
        _group(arm, 1 + len(headings), [_gate_row(row) for row in group])
        for arm, group in groupby(judged, key=lambda row: row.arm)
    )
    return _table(caption, "inputs", headings, bodies) if judged else ""


def _gate_row(row: RowStatistics) -> str:
    gates = "".join(f"<td>{_share(row.of(gate))}</td>" for gate in GATES)
    copies = row.of("memorised")
    note = copies.note.partition(";")[0] if copies and copies.value is not None else ""
    chance = f' <span class="spread">{escape(note)}</span>' if note else ""
    suspect = next(iter(row.suspects), None)
    likest = f"{escape(suspect.candidate)} and {escape(suspect.training)}, {suspect.ratio:.2f}" if suspect else BLANK
    return (
        f'<tr><th scope="row">{escape(row.inputs)}</th>{gates}<td>{_share(copies)}{chance}</td><td>{likest}</td></tr>'
    )


def _share(found: Measured | None) -> str:
    if found is None or found.value is None:
        return BLANK
    if found.low is None or found.high is None:
        return f"{found.value:.0%}"
    return f'{found.value:.0%} <span class="spread">{found.low:.0%} to {found.high:.0%}</span>'


def _blanks(sure: Sureness, known: Sequence[Column]) -> str:
    """Each reason once, with the metrics and the number of rows that it left without a figure or an interval."""
    names = _names(known) | {"memorised": "nearer to training"}
    without: dict[str, list[str]] = {}
    for row in sure.rows:
        for one in row.measured:
            if one.low is None and one.metric not in GATES:
                without.setdefault(one.note, []).append(one.metric)
    for pair in sure.comparisons:
        for difference in pair.differences:
            if difference.low is None:
                without.setdefault(difference.note, []).append(difference.metric)
    items = "".join(
        f"<li>{escape(', '.join(names.get(metric, metric) for metric in dict.fromkeys(metrics)))}, {len(metrics)} "
        f"cells: {escape(reason)}</li>"
        for reason, metrics in without.items()
    )
    listed = f"<details><summary>Why cells lack a figure or an interval</summary><ul>{items}</ul></details>"
    return listed if items else ""


def _group(name: str, columns: int, rows: Sequence[str]) -> str:
    head = f'<tr class="arm"><th scope="rowgroup" colspan="{columns}">{escape(name)}</th></tr>'
    return f"<tbody>{head}{''.join(rows)}</tbody>"


def _table(caption: str, first: str, headings: Sequence[str], bodies: str) -> str:
    """A table that scrolls sideways under its caption; the headings are HTML already."""
    head = "".join(f'<th scope="col">{heading}</th>' for heading in headings)
    return (
        f'<p class="soft">{escape(caption)}</p>'
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}"><table class="scores">'
        f'<thead><tr><th class="name" scope="col">{first}</th>{head}</tr></thead>{bodies}</table></div>'
    )
