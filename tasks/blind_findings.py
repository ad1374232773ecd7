"""The findings of a blind test as files: three Parquet tables, and Markdown for people."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from metrics.intervals import Interval
from tasks.blind_analysis import Findings
from tasks.whole_files import replacing, write_whole

RATINGS, SYSTEMS, PAIRS, TEXT = "ratings.parquet", "systems.parquet", "pairs.parquet", "findings.md"
SCHEMA = "stemwright.blind-findings/1"


def write_findings(folder: Path, ratings: pl.DataFrame, findings: Findings) -> None:
    """Write every rating, the systems' means, the pairs, and the text with both tables."""
    folder.mkdir(parents=True, exist_ok=True)
    systems = [{"system": one.system, **_columns("mean", one.mean), "ratings": one.ratings} for one in findings.rated]
    pairs = [
        {
            "first": pair.first,
            "second": pair.second,
            **_columns("wins", pair.wins),
            **_columns("difference", pair.difference),
            "p": pair.p,
        }
        for pair in findings.pairs
    ]
    for name, frame in {RATINGS: ratings, SYSTEMS: pl.DataFrame(systems), PAIRS: pl.DataFrame(pairs)}.items():
        with replacing(folder / name) as file:
            frame.write_parquet(file, metadata={"stemwright.schema": SCHEMA})
    write_whole(folder / TEXT, findings_text(findings).encode())


def findings_text(findings: Findings) -> str:
    """Markdown that reads as well on a terminal: systems by their mean, then every pair."""
    width = max(len(one.system) for one in findings.rated)
    lines = [
        f"{len(findings.kept)} of {len(findings.listeners)} listeners, pieces of {findings.pieces} tracks; "
        "ratings 0-100; 95 % intervals, clustered by listener and track",
        "",
        f"| {'system':<{width}} |    mean | 95 % interval   | ratings |",
        f"|:{'-' * width}-|--------:|:----------------|--------:|",
        *(
            f"| {one.system:<{width}} | {one.mean.value:>7.1f} | {_ends(one.mean, 1):<15} | {one.ratings:>7} |"
            for one in findings.rated
        ),
        "",
        "Wins: share of ratings in which the first was above the second, ties half. p: equal ratings, Holm-adjusted.",
        "",
        f"| {'first':<{width}} | {'second':<{width}} |  wins | 95 % interval | difference | 95 % interval   "
        "|       p |",
        f"|:{'-' * width}-|:{'-' * width}-|------:|:--------------|-----------:|:----------------|--------:|",
        *(
            f"| {pair.first:<{width}} | {pair.second:<{width}} | {pair.wins.value:>5.2f} | {_ends(pair.wins, 2):<13} "
            f"| {pair.difference.value:>10.1f} | {_ends(pair.difference, 1):<15} | {_p_text(pair.p):>7} |"
            for pair in findings.pairs
        ),
        "",
        *(f"- {caution}" for caution in findings.cautions()),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _columns(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _ends(interval: Interval, digits: int) -> str:
    return f"{interval.low:.{digits}f} to {interval.high:.{digits}f}"


def _p_text(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
