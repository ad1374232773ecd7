"""What `stemwright evaluate` does: the judge that was asked for, the scores, and their files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flows.request import StudyRequest
from models.small_clap import SmallClapRecipe
from tasks.evaluate_files import PROTOCOL, SCORES, TABLE, print_evaluation, write_evaluation
from tasks.evaluate_material import Material
from tasks.evaluate_scores import Rules, evaluate


def evaluation_lines(request: StudyRequest, material: Material, rules: Rules, out: Path) -> Iterator[str]:
    """The table, printed and written into `out`; lines that say where."""
    clap = request.study().clap
    if isinstance(clap, SmallClapRecipe):
        raise ValueError("a CLAP cannot be fitted here, where nothing is trained; use --clap shipped or --clap laion")
    evaluation = evaluate(material, rules=rules, clap=clap, runtime=request.runtime())
    write_evaluation(out, evaluation)
    print_evaluation(evaluation)
    yield f"table    {out / TABLE}.parquet, .csv, .md, .tex"
    yield f"scores   {out / SCORES}"
    yield f"protocol {out / PROTOCOL}"
