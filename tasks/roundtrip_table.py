"""The table of round trips: on a terminal, as Markdown, and as Parquet."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import polars as pl
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tasks.roundtrip import RoundTripRow
from tasks.whole_files import replacing, write_whole

SCHEMA = "stemwright.roundtrip/1"
"""Name and version of the Parquet columns; raised when one is added, renamed or changes its meaning."""

PARQUET, MARKDOWN = "roundtrip.parquet", "roundtrip.md"
NARROWEST = 160  # characters; in a pipe nothing may be cut off

NOTES = (
    "Lower is better but for SI-SDR, which is expected to be negative wherever phase is invented: it says nothing of "
    "how a codec sounds.",
    "MR-STFT: spectral convergence and log magnitude, three resolutions. FAD: originals to round trips, in brackets "
    "as a share of white noise's.",
    "Real-time factors: seconds of computing per second of audio, one clip at a time. Memory: weights and one clip.",
)


class Heading(NamedTuple):
    """A column for people: its name, its unit, and its text in a row."""

    name: str
    unit: str
    text: Callable[[RoundTripRow], str]


def _figure(name: str, pattern: str) -> Callable[[RoundTripRow], str]:
    """The text of a field; a dash where a row has none."""

    def text(row: RoundTripRow) -> str:
        value = getattr(row, name)
        return "–" if value is None else format(value, pattern)

    return text


HEADINGS = (
    Heading("codec", "", lambda row: row.codec),
    Heading("kind", "", lambda row: row.kind),
    Heading("training", "", lambda row: row.training or "–"),
    Heading("sha256", "", lambda row: (row.weights_sha256 or "–")[:8]),
    Heading("latents", "per s", _figure("latents_per_s", ".2f")),
    Heading("compression", "", lambda row: f"{row.compression:.0f}×" if row.compression else "–"),
    Heading("MR-STFT", "", _figure("stft_distance", ".2f")),
    Heading("log-mel", "dB", _figure("log_mel_distance_db", ".2f")),
    Heading("SI-SDR", "dB", _figure("si_sdr_db", ".1f")),
    Heading("FAD", "(of noise's)", lambda row: f"{row.fad:.3f} ({row.fad_share:4.0%})"),
    Heading("encode", "RTF", _figure("encode_rtf", ".3f")),
    Heading("decode", "RTF", _figure("decode_rtf", ".3f")),
    Heading("memory", "MiB", _figure("peak_mib", ".0f")),
)


def print_roundtrips(rows: Sequence[RoundTripRow], setting: Mapping[str, str]) -> None:
    """Print the table with what it was measured on and how to read it."""
    grid = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for place, heading in enumerate(HEADINGS):
        name = f"{heading.name}\n{heading.unit}" if heading.unit else heading.name
        grid.add_column(name, justify="left" if place < 4 else "right", no_wrap=True)
    for row in rows:
        grid.add_row(*(heading.text(row) for heading in HEADINGS))
    console = Console(highlight=False)
    room = Console(width=10_000).measure(grid).maximum
    console = Console(highlight=False, width=max(console.width, NARROWEST, room))
    console.print(_setting_line(setting), soft_wrap=True)
    console.print(grid)
    for note in NOTES:
        console.print(note, soft_wrap=True)


def write_roundtrips(out: Path, rows: Sequence[RoundTripRow], setting: Mapping[str, str]) -> None:
    """Write the table into `out`; Parquet keeps the raw values and the whole digests, and the setting as metadata."""
    frame = pl.DataFrame([asdict(row) for row in rows], infer_schema_length=None)
    metadata = {"stemwright.schema": SCHEMA, "stemwright.setting": json.dumps(dict(setting), sort_keys=True)}
    with replacing(out / PARQUET) as file:
        frame.write_parquet(file, compression="zstd", metadata=metadata)
    write_whole(out / MARKDOWN, markdown(rows, setting).encode())


def markdown(rows: Sequence[RoundTripRow], setting: Mapping[str, str]) -> str:
    """The table as Markdown with its setting and notes."""
    names = [f"{heading.name} ({heading.unit.strip('()')})" if heading.unit else heading.name for heading in HEADINGS]
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * 4 + "---:|" * (len(HEADINGS) - 4)]
    lines += ["| " + " | ".join(heading.text(row) for heading in HEADINGS) + " |" for row in rows]
    return "\n".join([_setting_line(setting), "", *lines, "", *(f"- {note}" for note in NOTES), ""])


def _setting_line(setting: Mapping[str, str]) -> str:
    return "Round trips: " + "; ".join(f"{name} {value}" for name, value in setting.items())
