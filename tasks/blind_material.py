"""What a blind listening test is made of: the candidates of a finished report, their contexts and the real stems."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfiltfilt

from data_manifests.schema import RATE_HZ
from models.arms import arm_named
from tasks.artifact import Artifact
from tasks.audio_bytes import decode_flac
from tasks.blind_key import ANCHOR, REAL, AskedWindow, asked_windows
from tasks.examples import HEARD_SAMPLES
from tasks.judge import answered_shards, candidate_audio
from tasks.report import latest_report
from tasks.shards import read_index, read_members
from tasks.store import RECORD

# Shapes: S channels (2), N samples at 48 kHz.

Audio = NDArray[np.float32]

ANCHOR_HZ = 3_500  # the anchor of BS.1534-3 §5.1
AUDIBLE_DB = -50.0
"""A window is asked only if its context and its real stem are at least this loud (RMS)."""


class MadeRow(NamedTuple):
    """A row of a report's table and the candidates it is of."""

    arm: str
    inputs: str
    candidates: Artifact

    @property
    def system(self) -> str:
        """The name under which listeners' answers are told."""
        return f"{self.arm} / {self.inputs}"


class PublishedRows(NamedTuple):
    """The rows of a published report that have candidates, its name, and the windows that were asked."""

    report: str
    rows: tuple[MadeRow, ...]
    windows: Artifact


def published_rows(workspace: Path, report: str | None) -> PublishedRows:
    """The rows of a report of a workspace, by default the latest one. Raises ValueError where it is not whole."""
    folder = workspace / "reports" / report if report else latest_report(workspace).folder
    if not (folder / RECORD).exists():
        known = ", ".join(sorted(path.parent.name for path in workspace.glob(f"reports/*/{RECORD}"))) or "none"
        raise ValueError(f"there is no report {folder.name} in {workspace}; there are: {known}")
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    inputs = record["inputs"]
    rows = tuple(
        MadeRow(row["arm"], row["inputs"], _artifact(workspace, inputs[name]))
        for place, (row, *_) in enumerate(record["identity"]["rows"])  # as `tasks.report.ReportRow` lies there
        if (name := f"rows[{place}][1]") in inputs
    )
    return PublishedRows(folder.name, rows, _artifact(workspace, inputs["windows"]))


def chosen_rows(rows: Sequence[MadeRow], arms: Sequence[str], conditionings: Sequence[str]) -> tuple[MadeRow, ...]:
    """The rows of these arms (all, if none is named) under these conditionings, all of which hold the context."""
    for label in conditionings:
        if "ctx" not in _parts(label):
            raise ValueError(f"conditioning {label!r} has no ctx: listeners judge a stem beside the music it was given")
    names = [arm_named(arm).name for arm in arms]
    for arm in names:
        if arm not in {row.arm for row in rows}:
            known = ", ".join(dict.fromkeys(row.arm for row in rows))
            raise ValueError(f"the report has no arm {arm!r}; its arms are {known}")
    asked = [_parts(label) for label in conditionings]
    found = tuple(row for row in rows if (not names or row.arm in names) and _parts(row.inputs) in asked)
    if not found:
        known = ", ".join(dict.fromkeys(row.inputs for row in rows if "ctx" in _parts(row.inputs)))
        raise ValueError(f"no row has the conditioning {' or '.join(conditionings)}; give one of: {known}")
    return found


@dataclass(frozen=True)
class Material:
    """The sounds of a test, read when they are asked for; each is the first ten seconds at its own level, (2, N)."""

    windows: Artifact
    rows: tuple[MadeRow, ...]

    def asked(self, items: int, *, seed: int) -> tuple[AskedWindow, ...]:
        """So many audible windows that all rows answered, of as many tracks as can be."""
        return asked_windows(list(self._audible()), items, seed=seed)

    def context(self, window: AskedWindow) -> Audio:
        return _heard(decode_flac(self._window(window.key, "context.flac")))

    def stem(self, system: str, window: AskedWindow) -> Audio:
        """What a system played to the window; REAL and ANCHOR are systems too."""
        if system == REAL:
            return _heard(decode_flac(self._window(window.key, "target.flac")))
        if system == ANCHOR:
            return low_passed(_heard(decode_flac(self._window(window.anchor, "target.flac"))))
        shards = self._shards[system]
        ((_, members),) = read_members(shards[window.key], ("candidate.flac", "json"), keys={window.key})
        return _heard(candidate_audio(members))

    def _audible(self) -> Iterator[tuple[str, str]]:
        """Key and track of every window that can be asked."""
        answered = set.intersection(*(set(shards) for shards in self._shards.values()))
        for key in self._window_shards:
            told: dict[str, Any] = json.loads(self._window(key, "json")) if key in answered else {}
            levels = [told.get(f"{name}_level_db") for name in ("context", "target")]
            if all(map(audible, levels)):
                yield key, told["track_id"]

    def _window(self, key: str, member: str) -> bytes:
        ((_, members),) = read_members(self._window_shards[key], (member,), keys={key})
        return members[member]

    @cached_property
    def _window_shards(self) -> dict[str, str]:
        """The shard of windows in which each key lies, in the plan's order."""
        shards = dict.fromkeys(
            windows for row in self.rows for _, windows in answered_shards(row.candidates, self.windows)
        )
        return _places(list(shards))

    @cached_property
    def _shards(self) -> Mapping[str, dict[str, str]]:
        """For each system, the shard in which its candidate for each key lies."""
        return {
            row.system: _places([shard for shard, _ in answered_shards(row.candidates, self.windows)])
            for row in self.rows
        }


def audible(level_db: float | None) -> bool:
    """Whether a context or a real stem of this level can be asked."""
    return level_db is not None and level_db > AUDIBLE_DB


def low_passed(audio_SN: Audio) -> Audio:
    """The anchor's sound: nothing above 3.5 kHz, in phase."""
    sections = butter(8, ANCHOR_HZ, fs=RATE_HZ, output="sos")
    return sosfiltfilt(sections, audio_SN, axis=1).astype(np.float32)


def _artifact(workspace: Path, told: Mapping[str, str]) -> Artifact:
    path = workspace / "artifacts" / told["stage"] / told["key"]
    if not path.is_dir():
        raise ValueError(f"{path}, which the report is made of, is gone; run stemwright reproduce again")
    return Artifact(stage=told["stage"], key=told["key"], location=str(path), digest=told["digest"])


def _places(shards: Sequence[str]) -> dict[str, str]:
    return {key: shard for shard in shards for key in read_index(shard).keys}


def _parts(label: str) -> frozenset[str]:
    """A conditioning whichever way it is written: `ctx,CLAP_A` is `CLAP_A,ctx`."""
    return frozenset(part.strip() for part in label.split(","))


def _heard(audio_SN: Audio) -> Audio:
    return np.ascontiguousarray(audio_SN[:, :HEARD_SAMPLES])
