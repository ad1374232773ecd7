"""What candidates were asked for in words: a CSV or JSON-lines file of names and texts."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

from data_manifests.roles import AUDIO_SUFFIXES

SUFFIXES = (".csv", ".jsonl")


def read_prompts(path: Path) -> dict[str, str]:
    """name -> text, from the columns or fields `name` and `text`; any others are passed over.

    A name is that of the candidate's file, with or without its extension.
    """
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        raise ValueError(f"{path} is no file of prompts; give a .csv or .jsonl file with the columns name and text")
    prompts: dict[str, str] = {}
    for number, (name, text) in _whole_entries(path):
        if not name or not text:
            raise ValueError(f"{path}, entry {number}: name {name!r} and text {text!r}; both must be words")
        if name in prompts:
            raise ValueError(f"{path}, entry {number}: {name!r} is there twice; keep one prompt per candidate")
        prompts[name] = text
    if not prompts:
        raise ValueError(f"{path} holds no prompts; expected the columns name and text")
    return prompts


def _whole_entries(path: Path) -> Iterator[tuple[int, tuple[str, str]]]:
    """The entries, or an error that names the file."""
    try:
        yield from _entries(path)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read: {error}; save it as a table in UTF-8") from error


def _entries(path: Path) -> Iterator[tuple[int, tuple[str, str]]]:
    """The entries counted from 1."""
    with path.open(encoding="utf-8-sig", newline="") as lines:
        if path.suffix.lower() == ".csv":
            for number, row in enumerate(csv.DictReader(lines), 1):
                yield number, _entry(path, number, row)
            return
        for number, line in enumerate((line for line in lines if line.strip()), 1):
            try:
                told = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path}, entry {number} is no JSON: {error}") from error
            yield number, _entry(path, number, told)


def _entry(path: Path, number: int, told: object) -> tuple[str, str]:
    if not isinstance(told, dict) or not {"name", "text"} <= told.keys():
        fields = ", ".join(map(str, told)) if isinstance(told, dict) else repr(told)
        raise ValueError(f"{path}, entry {number} has {fields}; expected the columns name and text")
    name = str(told["name"] or "").strip()
    stem, _, suffix = name.rpartition(".")
    return stem if suffix.lower() in AUDIO_SUFFIXES else name, str(told["text"] or "").strip()
