"""A few candidates to listen to: with their context, the mixture, and the stem that really belongs there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple

import numpy as np

from tasks.artifact import Artifact
from tasks.audio import decode_flac, mp3_bytes
from tasks.judge import answered_shards, answers, candidate_audio
from tasks.page import Example

HEARD_SAMPLES = 480_000
SHOWN = 1
"""Prompts shown of each arm's first row."""


def examples_of(made: Sequence[tuple[str, str, Artifact]], windows: Artifact) -> tuple[Example, ...]:
    """The first prompts of the first row of every arm, given (arm, inputs, candidates) in the table's order."""
    first_rows: dict[str, tuple[str, Artifact]] = {}
    for arm, inputs, candidates in made:
        first_rows.setdefault(arm, (inputs, candidates))
    shown = (_first_examples(arm, inputs, candidates, windows) for arm, (inputs, candidates) in first_rows.items())
    return tuple(chain.from_iterable(shown))


def _first_examples(arm: str, inputs: str, candidates: Artifact, windows: Artifact) -> Iterator[Example]:
    """The candidates of the first prompts of one row."""
    for candidate, window in islice(answers(*answered_shards(candidates, windows)[0]), SHOWN):
        yield _example(arm, inputs, candidate, window)


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


def _example(arm: str, inputs: str, candidate: dict[str, Any], window: dict[str, Any]) -> Example:
    told = json.loads(window["json"])
    made_SN, real_SN, context_SN = (
        _heard(audio_SN)
        for audio_SN in (
            candidate_audio(candidate),
            decode_flac(window["target.flac"]),
            decode_flac(window["context.flac"]),
        )
    )
    given = "ctx" in inputs.split(",")
    return Example(
        arm=arm,
        inputs=inputs,
        window=window["__key__"],
        tags=told["tags"],
        rate_hz=48_000,
        context_SN=context_SN if given else None,
        candidate_SN=made_SN,
        real_SN=real_SN,
        context_mp3=_mp3(context_SN) if given else None,
        mixture_mp3=_mp3(context_SN + made_SN) if given else None,
        candidate_mp3=_mp3(made_SN),
        real_mp3=_mp3(real_SN),
    )


def _heard(audio_SN: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(audio_SN[:, :HEARD_SAMPLES])


def _mp3(audio_SN: np.ndarray) -> bytes:
    """The clip as MP3, turned down where it would clip."""
    return mp3_bytes(audio_SN / max(1.0, float(np.abs(audio_SN).max())))
