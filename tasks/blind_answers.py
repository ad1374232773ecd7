"""Listeners' answers to a blind test: read, refused where they are not this test's, and told with their systems."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from tasks.blind_key import Key
from tasks.blind_page import ANSWERS_SCHEMA

RATING_COLUMNS = {
    "listener": pl.String,
    "trial": pl.String,
    "window": pl.String,
    "track": pl.String,
    "system": pl.String,
    "score": pl.Float64,
    "plays": pl.Int64,
}


def read_answers(paths: Sequence[Path], key: Key) -> pl.DataFrame:
    """Every rating as a row of RATING_COLUMNS. Raises ValueError, with the file, for what this test did not ask.

    A piece of which a listener left a stem unrated is left out whole: stems are compared within a piece.
    """
    if not paths:
        raise ValueError("no answers; give the files that listeners saved, such as answers/*.json")
    rows: list[dict[str, Any]] = []
    heard: dict[str, Path] = {}
    for path in paths:
        told = _told(path, key)
        listener = told["listener"]
        if listener in heard:
            raise ValueError(f"{path} and {heard[listener]} are both of listener {listener!r}; keep the later one")
        heard[listener] = path
        rows += _rows(path, told, key)
    return pl.DataFrame(rows, schema=RATING_COLUMNS)


def _told(path: Path, key: Key) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        schema, test, _ = told["schema"], told["test"], (told["listener"], told["ratings"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no answers file of a listening test ({error}); save it again") from error
    if schema != ANSWERS_SCHEMA:
        raise ValueError(f"{path} has the schema {schema}; this reads {ANSWERS_SCHEMA}")
    if test != key.digest:
        raise ValueError(
            f"{path} answers another listening test ({str(test)[:12]}; this key's is {key.digest[:12]}); "
            "give the folder that was exported together with it"
        )
    return told


def _rows(path: Path, told: dict[str, Any], key: Key) -> list[dict[str, Any]]:
    trials = {trial.name: trial for trial in key.trials}
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for rating in told["ratings"]:
        name, letter, score = rating["trial"], rating["stimulus"], rating.get("score")
        if name not in trials or letter not in trials[name].stimuli:
            raise ValueError(f"{path} rates {name}-{letter}, which this test did not ask; save the answers again")
        if score is None:
            continue
        if not 0 <= score <= 100:
            raise ValueError(f"{path} rates {name}-{letter} with {score}; ratings go from 0 to 100")
        window = trials[name].window
        rows.setdefault(name, {})[letter] = {
            "listener": told["listener"],
            "trial": name,
            "window": window.key,
            "track": window.track,
            "system": trials[name].stimuli[letter],
            "score": float(score),
            "plays": rating.get("plays"),
        }
    whole = [rows[name] for name in sorted(rows) if len(rows[name]) == len(trials[name].stimuli)]
    return [by_letter[letter] for by_letter in whole for letter in sorted(by_letter)]
