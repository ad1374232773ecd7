"""A few candidates to listen to: with their context and the stem that really belongs there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from data_manifests.adherence_check import features, scores
from tasks.artifact import Artifact
from tasks.audio_bytes import decode_flac, mp3_bytes
from tasks.item_scores import ItemScores, item_scores
from tasks.judge import answered_shards, answers, candidate_audio
from tasks.judged_row import JudgedRow
from tasks.page_examples import Answer, Clip, Example
from tasks.shards import read_index

HEARD_SAMPLES = 480_000


def examples_of(made: Sequence[tuple[JudgedRow, Artifact]], windows: Artifact) -> tuple[Example, ...]:
    """Of every row the first prompt, which all rows share; of every arm's first row the best and the worst as well.

    `made` holds the rows with their candidates in the table's order. A window's own clips are encoded once.
    """
    shown: dict[str, list[_Shown]] = {}
    for (row, candidates), first_of_arm in zip(made, _first_of_arm(made), strict=True):
        found = item_scores(row)
        for key, place in _places(found, best_and_worst=first_of_arm).items():
            shown.setdefault(key, []).append(_Shown(row, candidates, place, found.words(key)))
    return tuple(_example(key, answers, windows) for key, answers in shown.items())


class _Shown(NamedTuple):
    """A row whose candidate for some window is shown, why, and its score in words."""

    row: JudgedRow
    candidates: Artifact
    place: str
    score: str


def _first_of_arm(made: Sequence[tuple[JudgedRow, Artifact]]) -> list[bool]:
    arms = [row.arm for row, _ in made]
    return [arm not in arms[:place] for place, arm in enumerate(arms)]


def _places(found: ItemScores, *, best_and_worst: bool) -> dict[str, str]:
    """Which windows of a row are shown, and why."""
    shown = [("the first prompt", found.keys[0])]
    if best_and_worst:
        shown += [("the best", found.best), ("the worst", found.worst)]
    places: dict[str, list[str]] = {}
    for place, key in shown:
        places.setdefault(key, []).append(place)
    return {key: " and ".join(names) for key, names in places.items()}


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


def _example(key: str, shown: Sequence[_Shown], windows: Artifact) -> Example:
    answered = [_answer(one.candidates, windows, key) for one in shown]
    window = answered[0][1]
    real_SN, context_SN = (_heard(decode_flac(window[name])) for name in ("target.flac", "context.flac"))
    made = [_heard(candidate_audio(candidate)) for candidate, _ in answered]
    with ThreadPoolExecutor() as pool:  # libsndfile encodes outside of Python's lock
        real, context, *clips = pool.map(_clip, [real_SN, context_SN, *made])
    answers = tuple(_told(one, clip, context, real) for one, clip in zip(shown, clips, strict=True))
    return Example(
        window=key,
        tags=json.loads(window["json"])["tags"],
        rate_hz=48_000,
        context=context if any(map(_was_given_context, shown)) else None,
        real=real,
        answers=answers,
    )


def _told(shown: _Shown, clip: Clip, context: Clip, real: Clip) -> Answer:
    given = _was_given_context(shown)
    agreement = f" {_agreement(context.audio_SN, clip.audio_SN, real.audio_SN)}" if given else ""
    return Answer(
        arm=shown.row.arm, inputs=shown.row.inputs, place=shown.place, told=f"{shown.score}.{agreement}", clip=clip
    )


def _was_given_context(shown: _Shown) -> bool:
    return "ctx" in shown.row.inputs.split(",")


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


def _clip(audio_SN: np.ndarray) -> Clip:
    """The clip, with an MP3 of it that is turned down where it would clip."""
    return Clip(audio_SN=audio_SN, mp3=mp3_bytes(audio_SN / max(1.0, float(np.abs(audio_SN).max()))))
