"""An evaluation on a terminal and as files: Parquet long and wide, CSV, Markdown, LaTeX, and its protocol as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from metrics.table import ScoreTable
from tasks.evaluate_scores import Evaluation
from tasks.exports import write_scores_parquet, write_table1_parquet
from tasks.table_text import write_table_text
from tasks.terminal import print_table
from tasks.whole_files import write_whole

SCORES, TABLE, PROTOCOL = "scores.parquet", "table", "evaluation.json"


def print_evaluation(evaluation: Evaluation) -> None:
    """Print the table, and below it what a reader must know of it."""
    print_table(evaluation.table, evaluation.provenance)
    for line in evaluation.lines():
        print(line)


def write_evaluation(out: Path, evaluation: Evaluation) -> None:
    """Write every form of the table into `out`, the schemas being those of a study's report."""
    table, provenance = evaluation.table, evaluation.provenance
    out.mkdir(parents=True, exist_ok=True)
    write_scores_parquet(out / SCORES, table, provenance)
    write_table1_parquet(out / f"{TABLE}.parquet", table, provenance)
    write_table_text(out, TABLE, table, provenance, with_paper=False)
    write_whole(out / PROTOCOL, json.dumps(_told(evaluation), indent=1, ensure_ascii=False).encode())


def _told(evaluation: Evaluation) -> dict[str, object]:
    real = evaluation.real
    return {
        "protocol": asdict(evaluation.table.protocol),
        "provenance": asdict(evaluation.provenance),
        "blank": evaluation.blank,
        "smaller_than_profile": evaluation.smaller,
        "real_against_real": real and {"protocol": asdict(real.protocol), "draws": _values(real.table)},
        "left_out": {what: [asdict(one) for one in left_out] for what, left_out in evaluation.left_out.items()},
        "notes": evaluation.notes,
    }


def _values(table: ScoreTable) -> dict[str, list[float]]:
    """Every value of each metric of a table of one row."""
    values: dict[str, list[float]] = {score.metric: [] for score in table.scores}
    for score in table.scores:
        values[score.metric].append(score.value)
    return values
