"""The table as CSV, Markdown and LaTeX: the same numbers, honest bold, and nothing that breaks the format."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.embeddings import Space
from metrics.protocol import Protocol
from metrics.table import NOISE_ROW, REAL_ROW, Score, ScoreTable
from tasks.columns import columns
from tasks.exports import table1_frame
from tasks.paper_table import paper_table
from tasks.provenance import Provenance
from tasks.table_text import best_rows, csv_text, latex_text, markdown_text, write_table_text

GOLDEN = Path(__file__).parent
ARMS = (("+DiT", "CLAP_A,ctx"), ("+CLAP_beta", "CLAP_A*,ctx"), ("C-DiT", "uncond"))
SPACE = Space(name="small CLAP", width=128, normalised=True, weights_sha256="ab" * 32)
PROTOCOL = Protocol(
    profile="laptop",
    batches=2,
    batch_size=20,
    reference_size=300,
    space=SPACE,
    mixture_space=SPACE,
    neighbours=(2,),
)
PROVENANCE = Provenance(
    name="t",
    scale="laptop",
    corpus="the embedded corpus",
    corpus_digest="cd",
    codecs={"+DiT": "spectral, stereo"},
    seed=3,
    code_version="abc1234",
)


Cells = tuple[tuple[str, str], str, float, float]


def table_of(*cells: Cells) -> ScoreTable:
    scores = [
        Score(arm=row[0], inputs=row[1], metric=metric, batch=batch, value=pair[batch], candidates=20)
        for row, metric, *pair in cells
        for batch in (0, 1)
    ]
    return ScoreTable(protocol=PROTOCOL, scores=tuple(scores))


@pytest.fixture(scope="module")
def table() -> ScoreTable:
    return table_of(
        (REAL_ROW, "fad", 0.1, 0.2),
        (REAL_ROW, "apa", 0.9, 0.8),
        (NOISE_ROW, "fad", 1.9, 2.0),
        (ARMS[0], "kd", -1e-4, 3e-4),
        (ARMS[0], "fad", 0.5, 0.7),
        (ARMS[0], "apa", 0.84, 0.86),
        (ARMS[1], "kd", 2e-3, 4e-3),
        (ARMS[1], "fad", 0.6, 0.6),
        (ARMS[1], "apa", 0.7, 0.6),
        (ARMS[2], "fad", 0.8, 1.0),
        (ARMS[2], "density_k2", 0.5, 0.75),
    )


@pytest.mark.parametrize("suffix", ["csv", "md", "tex"])
def test_the_files_are_the_golden_ones(tmp_path: Path, table: ScoreTable, suffix: str) -> None:
    write_table_text(tmp_path, "golden_table", table, PROVENANCE, with_paper=True)
    name = f"golden_table.{suffix}"
    assert (tmp_path / name).read_text() == (GOLDEN / name).read_text()


def test_figures_that_print_alike_are_all_bold_and_bounds_never(table: ScoreTable) -> None:
    rows = [line for line in markdown_text(table, PROVENANCE, with_paper=False).splitlines() if "| 0." in line]
    bold = [line for line in markdown_text(table, PROVENANCE, with_paper=False).splitlines() if "**0.600**" in line]
    assert len(bold) == 2 and not any("original" in line and "**" in line for line in rows)


def test_best_is_smallest_where_less_is_better_and_none_where_one_arm_stands_alone() -> None:
    kd, fad, *_, cs_ta = columns((2,))
    printed = {REAL_ROW: "0.01", ARMS[0]: "0.30", ARMS[1]: "0.20"}
    assert best_rows(fad, printed) == best_rows(kd, printed) == {ARMS[1]}
    assert best_rows(cs_ta, printed) == {ARMS[0]}
    assert best_rows(fad, {REAL_ROW: "0.01", ARMS[0]: "0.30"}) == frozenset()


def test_an_absent_cell_is_blank_and_never_a_zero(table: ScoreTable) -> None:
    line = next(line for line in markdown_text(table, PROVENANCE, with_paper=False).splitlines() if "uncond" in line)
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[0:2] == ["C-DiT", "uncond"]
    assert cells[2] == cells[4] == "" and cells[3] == "0.900 ± 0.141"
    assert not re.search(
        r"(?<![\d.])0(?![\d.])", latex_text(table, PROVENANCE, with_paper=False).split("midrule", 1)[1]
    )


def test_the_papers_figures_stand_beside_ours_only_where_asked(table: ScoreTable) -> None:
    theirs = columns((2,))[1].printed(paper_table().value(*ARMS[0], "fad"))
    alone, beside = (markdown_text(table, PROVENANCE, with_paper=flag).splitlines()[-3] for flag in (False, True))
    assert theirs in beside.removeprefix(alone) and beside.startswith(alone)
    assert "paper" not in csv_text(table, with_paper=False)


@given(values=st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=4), name=st.text(min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_the_csv_is_parsed_back_to_the_same_numbers(values: list[float], name: str) -> None:
    row = (name, 'a,"b"')
    kd, kd_again, fad, fad_again = values
    table = table_of((row, "kd", kd, kd_again), (row, "fad", fad, fad_again))
    (parsed,) = csv.DictReader(io.StringIO(csv_text(table, with_paper=False), newline=""))
    (wanted,) = table1_frame(table).to_dicts()
    assert [parsed["arm"], parsed["inputs"]] == list(row)
    for metric in ("kd_mean", "kd_std", "fad_mean", "fad_std"):
        assert float(parsed[metric]) == wanted[metric]
    assert parsed["apa_mean"] == parsed["cs_aa_std"] == ""


@given(name=st.text(min_size=1, max_size=20))
@settings(max_examples=100, deadline=None)
def test_any_name_leaves_braces_balanced_and_columns_in_number(name: str) -> None:
    table = table_of(((name, name[::-1]), "fad", 0.5, 0.25))
    provenance = dataclasses.replace(PROVENANCE, corpus=name)
    latex = latex_text(table, provenance, with_paper=False)
    bare = re.sub(r"\\[\\{}&%$#_]", "", latex.removeprefix(latex.partition("\n")[0]))
    assert bare.count("{") == bare.count("}")
    body = latex.split("\\midrule")[1].split("\\bottomrule")[0]
    assert len(re.findall(r"(?<!\\)&", body)) == 1 + len(columns((2,)))
    line = markdown_text(table, provenance, with_paper=False).splitlines()[-1]
    assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) == 3 + len(columns((2,)))


def test_latex_escapes_what_would_be_commands() -> None:
    latex = latex_text(table_of((("50% & {x}_1", r"a\b~^#$"), "fad", 0.5, 0.25)), PROVENANCE, with_paper=False)
    assert r"50\% \& \{x\}\_1 & a\textbackslash{}b\textasciitilde{}\textasciicircum{}\#\$" in latex


def test_latex_compiles(tmp_path: Path, table: ScoreTable) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed")
    head = "\\documentclass{article}\\usepackage{booktabs,graphicx,rotating}\\begin{document}\n"
    latex = "".join(latex_text(table, PROVENANCE, with_paper=with_paper) for with_paper in (True, False))
    (tmp_path / "t.tex").write_text(f"{head}{latex}\\end{{document}}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
