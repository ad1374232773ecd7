"""A few candidates to listen to: with their context, the mixture, and the stem that really belongs there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain, islice
from typing import Any

import numpy as np

from tasks.artifact import Artifact
from tasks.audio import decode_flac, mp3_bytes
from tasks.cut import shards_of
from tasks.judge import candidate_audio
from tasks.page import Example
from tasks.shards import read_shard

HEARD_SAMPLES = 480_000
SHOWN = 2
"""Prompts shown of a row."""


def examples_of(made: Sequence[tuple[str, str, Artifact]], windows: Artifact) -> tuple[Example, ...]:
    """The first prompts of the first row of every arm, given (arm, inputs, candidates) in the table's order."""
    first_rows: dict[str, tuple[str, Artifact]] = {}
    for arm, inputs, candidates in made:
        first_rows.setdefault(arm, (inputs, candidates))
    shown = (first_examples(arm, inputs, candidates, windows) for arm, (inputs, candidates) in first_rows.items())
    return tuple(chain.from_iterable(shown))


def first_examples(arm: str, inputs: str, candidates: Artifact, windows: Artifact) -> list[Example]:
    """The candidates of the first prompts of one row."""
    pairs = zip(read_shard(shards_of(candidates)[0]), read_shard(shards_of(windows)[0]), strict=False)
    return [_example(arm, inputs, candidate, window) for candidate, window in islice(pairs, SHOWN)]


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
