"""The table for papers and other programs: CSV with raw values, Markdown and LaTeX as a reader wants to see them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import polars as pl

from metrics.table import ScoreTable, is_bound
from tasks.columns import Column, columns, table_columns
from tasks.exports import table1_frame
from tasks.paper_table import Row, paper_table
from tasks.provenance import Provenance, caption_lines
from tasks.whole_files import write_whole

LATEX_HEAD = "% needs \\usepackage{booktabs}, \\usepackage{graphicx} and \\usepackage{rotating}\n"


def write_table_text(folder: Path, name: str, table: ScoreTable, provenance: Provenance, *, with_paper: bool) -> None:
    """Write `name`.csv, `name`.md and `name`.tex into a folder; `with_paper` sets the paper's figures beside ours."""
    write_whole(folder / f"{name}.csv", csv_text(table, with_paper=with_paper).encode())
    write_whole(folder / f"{name}.md", markdown_text(table, provenance, with_paper=with_paper).encode())
    write_whole(folder / f"{name}.tex", latex_text(table, provenance, with_paper=with_paper).encode())


def csv_text(table: ScoreTable, *, with_paper: bool) -> str:
    """The columns of the wide Parquet: raw values with all their digits, nothing where a cell is absent.

    The paper's figures are `paper_<metric>`, in raw units too.
    """
    frame = table1_frame(table)
    theirs = [column.metric for column in columns(table.protocol.neighbours) if with_paper and column.paper]
    values = {f"paper_{metric}": [paper_table().value(*row, metric) for row in table.rows()] for metric in theirs}
    return frame.with_columns(pl.Series(name, column, pl.Float64) for name, column in values.items()).write_csv()


def markdown_text(table: ScoreTable, provenance: Provenance, *, with_paper: bool) -> str:
    """Scaled means ± spreads with the caption above; the best of each column among arms is bold."""
    shown = _shown(table, with_paper=with_paper)
    titles = [f"{'paper: ' if one.is_papers else ''}{one.column.arrow} {one.column.title}".strip() for one in shown]
    lines = [
        "  \n".join(map(_markdown_escaped, _caption(table, provenance, shown))),
        "",
        _markdown_line(["arm", "inputs", *map(_markdown_escaped, titles)]),
        "|---|---|" + "---:|" * len(shown),
    ]
    for row in table.rows():
        cells = [_marked(one, row, "**{}**", str) for one in shown]
        lines.append(_markdown_line([*map(_markdown_escaped, row), *cells]))
    return "\n".join([*lines, ""])


def latex_text(table: ScoreTable, provenance: Provenance, *, with_paper: bool) -> str:
    """A table as wide as the text, with the same cells as the Markdown; on its side where the paper's stand beside."""
    shown = _shown(table, with_paper=with_paper)
    environment = "sidewaystable" if with_paper else "table"
    lines = [
        f"\\begin{{{environment}}}",
        "\\centering",
        f"\\caption{{{_latex_caption(_caption(table, provenance, shown))}}}",
        "\\medskip",
        "\\setlength{\\tabcolsep}{3pt}",
        "\\resizebox{\\linewidth}{!}{%",
        f"\\begin{{tabular}}{{ll{'r' * len(shown)}}}",
        "\\toprule",
        *_latex_groups(shown),
        _latex_line(["arm", "inputs", *(_latex_heading(one.column) for one in shown)]),
        _latex_line(["", "", *(_latex_unit(one.column) for one in shown)]),
        "\\midrule",
    ]
    for row, following in pairwise([*table.rows(), ("", "")]):
        cells = [_marked(one, row, "\\textbf{{{}}}", _latex_figure) for one in shown]
        lines.append(_latex_line([*map(_latex_escaped, row), *cells]))
        if following[0] not in ("", row[0]):
            lines.append("\\midrule")
    return LATEX_HEAD + "\n".join([*lines, "\\bottomrule", "\\end{tabular}}", f"\\end{{{environment}}}", ""])


class _Shown(NamedTuple):
    """A column as it is shown: ours or the paper's, the text of each row's cell, and which of them are bold."""

    column: Column
    is_papers: bool
    texts: dict[Row, str]
    best: frozenset[Row]


def _shown(table: ScoreTable, *, with_paper: bool) -> list[_Shown]:
    known = table_columns(table)
    ours = [_ours(table, column) for column in known]
    return ours + [_papers(table, column) for column in known if with_paper and column.paper]


def _ours(table: ScoreTable, column: Column) -> _Shown:
    cells = {row: table.cell(*row, column.metric) for row in table.rows()}
    means = {row: column.text(cell.mean) for row, cell in cells.items() if cell}
    texts = {row: column.cell_text(cell) for row, cell in cells.items() if cell}
    return _Shown(column, False, texts, best_rows(column, means))


def _papers(table: ScoreTable, column: Column) -> _Shown:
    values = {row: paper_table().value(*row, column.metric) for row in table.rows()}
    texts = {row: column.printed(value) for row, value in values.items() if value is not None}
    return _Shown(column, True, texts, best_rows(column, texts))


def best_rows(column: Column, printed: dict[Row, str]) -> frozenset[Row]:
    """The arms' rows with the best printed figure: several where they print alike, none where there is one arm."""
    figures = {row: float(text) for row, text in printed.items() if not is_bound(row)}
    if len(figures) < 2 or column.higher_is_better is None:
        return frozenset()
    best = max(figures.values()) if column.higher_is_better else min(figures.values())
    return frozenset(row for row, figure in figures.items() if figure == best)


def _marked(one: _Shown, row: Row, bold: str, written: Callable[[str], str]) -> str:
    """The text of a cell, its mean in bold where it is the best; empty where there is none."""
    mean, sign, spread = one.texts.get(row, "").partition(" ± ")
    shown = bold.format(written(mean)) if row in one.best else written(mean)
    return shown + written(f"{sign}{spread}")


def _caption(table: ScoreTable, provenance: Provenance, shown: Sequence[_Shown]) -> list[str]:
    bold = ["Bold: the best of a column among the arms"] if any(one.best for one in shown) else []
    return [*caption_lines(provenance, table.protocol, spread=True), *bold]


def _markdown_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown_escaped(text: str) -> str:
    return "".join(f"\\{sign}" if sign in "\\`*_[]<>|~&$" else sign for sign in " ".join(text.split()))


def _latex_groups(shown: Sequence[_Shown]) -> list[str]:
    """The line that sets the paper's columns apart from ours."""
    papers = sum(one.is_papers for one in shown)
    if not papers:
        return []
    ours = len(shown) - papers
    heads = f" & & \\multicolumn{{{ours}}}{{c}}{{ours}} & \\multicolumn{{{papers}}}{{c}}{{the paper's}} \\\\"
    return [heads, f"\\cmidrule(lr){{3-{2 + ours}}} \\cmidrule(lr){{{3 + ours}-{2 + len(shown)}}}"]


def _latex_caption(lines: Sequence[str]) -> str:
    """Sentences; LaTeX itself writes the table's number before them."""
    told = [line.removeprefix("Table 1, ") for line in lines]
    return " ".join(f"{_latex_escaped(line[:1].upper() + line[1:])}." for line in told)


def _latex_heading(column: Column) -> str:
    arrow = {"↑": "$\\uparrow$ ", "↓": "$\\downarrow$ "}.get(column.arrow, "")
    return arrow + _latex_escaped(column.heading)


def _latex_unit(column: Column) -> str:
    """Scale and neighbourhood in a line of their own, so that headings are no wider than figures."""
    unit = _latex_escaped(column.unit)
    for sign, power in (("⁻²", "-2"), ("⁻³", "-3")):
        unit = unit.replace(f"×10{sign}", f"$\\times10^{{{power}}}$")
    return unit


def _latex_line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + " \\\\"


def _latex_figure(text: str) -> str:
    """A figure with its minus sign, or a spread, which is set smaller."""
    sign, spread = text[:3], text[3:]
    return f"{{\\scriptsize$\\,\\pm\\,${spread}}}" if sign == " ± " else text.replace("-", "$-$")


def _latex_escaped(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in " ".join(text.split()))


_LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "<": "\\textless{}",
    ">": "\\textgreater{}",
    "|": "\\textbar{}",
    "±": "$\\pm$",
    "“": "``",
    "”": "''",
}
