"""A row of the pair plan as sound: target, context and style windows cut, mixed and encoded."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_manifests.pairs import Pair, tag_text
from data_manifests.schema import RATE_HZ, Stem, StemFile, Track
from tasks.audio import read_window
from tasks.audio_bytes import flac_bytes, headroom_gain
from tasks.kept_files import KeptFiles
from tasks.shards import json_bytes

# Shapes: S channels (2), N samples of a window, M samples of all style segments together.


@dataclass(frozen=True, kw_only=True)
class WindowSample:
    """One pair as audio at 48 kHz, scaled so that nothing clips, with the record that goes into its shard.

    `gain` is common to target and context, so that their balance is the song's; `style_gain` is the same wherever
    the style segments allow it.
    """

    key: str
    target_SN: NDArray[np.float32]
    context_SN: NDArray[np.float32]
    style_SM: NDArray[np.float32]
    gain: float
    style_gain: float
    record: dict[str, Any]


def window_key(split: str, index: int) -> str:
    """The key of row `index` in shards, `heldout-00000007`."""
    return f"{split}-{index:08d}"


def cut_window(
    root: Path | str, track: Track, pair: Pair, window_samples: int, kept: KeptFiles | None = None
) -> WindowSample:
    """The pair's windows from the files under the corpus root, mixed in float32 and scaled by one common gain.

    `kept` is where whole decodes of m4a and mp4 lie; by default in the system's folder for temporary files.
    """
    cut = partial(_stem_window, Path(root), samples=window_samples, kept=kept)
    stems = {stem.id: stem for stem in track.stems}
    target = stems[pair.target]
    target_SN = cut(target, pair.start_samples)
    context_SN = _added(cut(stems[stem_id], pair.start_samples) for stem_id in pair.contexts)
    if pair.context_gain_db:
        context_SN *= np.float32(10.0 ** (pair.context_gain_db / 20.0))
    segments = [cut(target, start) for start in pair.style_starts_samples]
    style_SM = np.concatenate(segments, axis=1) if len(segments) > 1 else segments[0]
    gain = headroom_gain(target_SN, context_SN)
    style_gain = min(gain, headroom_gain(style_SM))
    if gain != 1.0:
        target_SN *= np.float32(gain)
        context_SN *= np.float32(gain)
    if style_gain != 1.0:
        style_SM *= np.float32(style_gain)
    return WindowSample(
        key=window_key(track.split, pair.index),
        target_SN=target_SN,
        context_SN=context_SN,
        style_SM=style_SM,
        gain=gain,
        style_gain=style_gain,
        record=_record(track, target, pair, window_samples)
        | {
            "gain": round(gain, 6),
            "style_gain": round(style_gain, 6),
            "target_level_db": level_db(target_SN),
            "context_level_db": level_db(context_SN),
            "style_level_db": level_db(style_SM),
        },
    )


def window_members(sample: WindowSample) -> dict[str, Any]:
    """The sample as members of a shard: three FLACs (the style segments one after the other) and the record."""
    return {
        "__key__": sample.key,
        "target.flac": flac_bytes(sample.target_SN),
        "context.flac": flac_bytes(sample.context_SN),
        "style.flac": flac_bytes(sample.style_SM),
        "json": json_bytes(sample.record),
    }


def _stem_window(
    root: Path, stem: Stem, start_samples: int, *, samples: int, kept: KeptFiles | None
) -> NDArray[np.float32]:
    """The window of a stem: that of each of its files, placed, levelled and added up."""
    return _added(_file_window(root, file, start_samples, samples, kept) for file in stem.files)


def _added(sounds: Iterator[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The sum, in the place of the first."""
    total_SN = next(sounds)
    for audio_SN in sounds:
        total_SN += audio_SN
    return total_SN


def _file_window(
    root: Path, file: StemFile, start_samples: int, samples: int, kept: KeptFiles | None
) -> NDArray[np.float32]:
    start_in_file = start_samples - round(file.start_s * RATE_HZ)
    audio_SN = read_window(root / file.path, start_in_file, samples, file.stream, kept)
    if file.gain_db:
        audio_SN *= np.float32(10.0 ** (file.gain_db / 20.0))
    if file.side != "both":
        audio_SN[1 if file.side == "left" else 0] = 0.0
    return audio_SN


def _record(track: Track, target: Stem, pair: Pair, window_samples: int) -> dict[str, Any]:
    """All that is known of the pair, for whoever finds the shard without the catalogue."""
    return {
        **asdict(pair),
        "split": track.split,
        "group_id": track.group_id,
        "licence": track.licence,
        "role": target.role,
        "tags": tag_text(track, target),
        "window_samples": window_samples,
    }


def level_db(audio_SN: NDArray[np.float32]) -> float | None:
    """RMS level over all channels in dB of full scale, to a tenth; None where the window is silent."""
    power = float(np.einsum("sn,sn->", audio_SN, audio_SN, dtype=np.float64)) / audio_SN.size
    return round(10.0 * math.log10(power), 1) if power > 0.0 else None
