"""A few candidates to listen to: with their context and the stem that really belongs there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from data_manifests.adherence_check import features, scores
from tasks.artifact import Artifact
from tasks.audio import decode_flac, mp3_bytes
from tasks.item_scores import item_scores
from tasks.judge import answered_shards, answers, candidate_audio
from tasks.judged_row import JudgedRow
from tasks.page_examples import Example
from tasks.shards import read_index

HEARD_SAMPLES = 480_000


def examples_of(made: Sequence[tuple[JudgedRow, Artifact]], windows: Artifact) -> tuple[Example, ...]:
    """Of every arm's first row: the first prompt, which all arms share, then the best and the worst candidate.

    `made` holds the rows with their candidates in the table's order.
    """
    first_rows: dict[str, tuple[JudgedRow, Artifact]] = {}
    for row, candidates in made:
        first_rows.setdefault(row.arm, (row, candidates))
    shown = (_examples(row, candidates, windows) for row, candidates in first_rows.values())
    return tuple(chain.from_iterable(shown))


def _examples(row: JudgedRow, candidates: Artifact, windows: Artifact) -> Iterator[Example]:
    found = item_scores(row)
    places: dict[str, list[str]] = {}
    for place, key in (("the first prompt", found.keys[0]), ("the best", found.best), ("the worst", found.worst)):
        places.setdefault(key, []).append(place)
    for key, names in places.items():
        candidate, window = _answer(candidates, windows, key)
        yield _example(row, " and ".join(names), found.words(key), candidate, window)


def _answer(candidates: Artifact, windows: Artifact, key: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The candidate of one window, and the window."""
    shards = next(pair for pair in answered_shards(candidates, windows) if key in read_index(pair[0]).keys)
    return next((candidate, window) for candidate, window in answers(*shards) if window["__key__"] == key)


class Heard(NamedTuple):
    """The first candidate of a row with its context, at their own levels (2, N), and the window's key."""

    window: str
    candidate_SN: np.ndarray
    context_SN: np.ndarray


def first_heard(candidates: Artifact, windows: Artifact) -> Heard:
    """What the first prompt of a row was answered with."""
    candidate, window = next(answers(*answered_shards(candidates, windows)[0]))
    context_SN = _heard(decode_flac(window["context.flac"]))
    return Heard(window["__key__"], _heard(candidate_audio(candidate)), context_SN)


def _example(row: JudgedRow, place: str, score: str, candidate: dict[str, Any], window: dict[str, Any]) -> Example:
    told = json.loads(window["json"])
    made_SN, real_SN, context_SN = (
        _heard(audio_SN)
        for audio_SN in (
            candidate_audio(candidate),
            decode_flac(window["target.flac"]),
            decode_flac(window["context.flac"]),
        )
    )
    given = "ctx" in row.inputs.split(",")
    heard = [made_SN, real_SN, *([context_SN] if given else [])]
    with ThreadPoolExecutor() as pool:  # libsndfile encodes outside of Python's lock
        candidate_mp3, real_mp3, *context_mp3 = pool.map(_mp3, heard)
    return Example(
        arm=row.arm,
        inputs=row.inputs,
        place=place,
        told=f"{score}. {_agreement(context_SN, made_SN, real_SN)}" if given else f"{score}.",
        window=window["__key__"],
        tags=told["tags"],
        rate_hz=48_000,
        context_SN=context_SN if given else None,
        candidate_SN=made_SN,
        real_SN=real_SN,
        context_mp3=context_mp3[0] if given else None,
        candidate_mp3=candidate_mp3,
        real_mp3=real_mp3,
    )


def _agreement(context_SN: np.ndarray, made_SN: np.ndarray, real_SN: np.ndarray) -> str:
    """What a ruler hears of rhythm and harmony, in words."""
    context = features(context_SN)
    (onset, chroma), (real_onset, real_chroma) = (scores(context, features(stem_SN)) for stem_SN in (made_SN, real_SN))
    return (
        f"Rhythm shared with the context {onset:.2f} (real stem {real_onset:.2f}), "
        f"harmony {chroma:.2f} ({real_chroma:.2f})."
    )


def _heard(audio_SN: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(audio_SN[:, :HEARD_SAMPLES])


def _mp3(audio_SN: np.ndarray) -> bytes:
    """The clip as MP3, turned down where it would clip."""
    return mp3_bytes(audio_SN / max(1.0, float(np.abs(audio_SN).max())))
