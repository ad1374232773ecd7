"""Cutting and encoding windows, beside the bare cost of what cannot be avoided, in one run on one core.

Bare: soundfile decodes the same stretches of the same files, soxr resamples them where needed, soundfile encodes the
same samples as FLAC; no mixing, no gains, no checks, no record, no tar. 0.8 means a quarter of bare time on top.

    python benchmarks/window_writing.py [--rows 60]
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import soundfile
import soxr

from data_manifests.composer import EmbeddedCorpus, compose
from data_manifests.pairs import PairPlan, PairRule
from data_manifests.renderer import render
from data_manifests.schema import RATE_HZ, Track
from tasks.audio import RESAMPLER_MARGIN_S
from tasks.audio_bytes import FLAC_LEVEL, decode_flac
from tasks.catalogue import build_catalogue
from tasks.walk import list_corpus_folder
from tasks.windows import cut_window, window_members

WINDOW = 491_520


def render_corpus(root: Path, rate_hz: int, songs: int, seconds: float) -> None:
    """The embedded corpus as FLAC stems at a sample rate."""
    corpus = EmbeddedCorpus(songs=songs, seconds=seconds, seed=0, heldout=0)
    for index in range(songs):
        folder = root / f"song_{index}"
        folder.mkdir(parents=True)
        for stem, audio_SN in render(compose(corpus, index)).items():
            audio_NS = audio_SN.T if rate_hz == RATE_HZ else soxr.resample(audio_SN.T, RATE_HZ, rate_hz)
            soundfile.write(folder / f"{stem}.flac", np.clip(audio_NS, -1, 1), rate_hz, subtype="PCM_16")


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of one call, and what it gave."""
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


def bare_read(path: Path, start_samples: int) -> None:
    """One window decoded and resampled with nothing else done."""
    with soundfile.SoundFile(path) as file:
        margin = 0 if file.samplerate == RATE_HZ else RESAMPLER_MARGIN_S
        first = max(int((start_samples / RATE_HZ - margin) * file.samplerate), 0)
        last = min(math.ceil(((start_samples + WINDOW) / RATE_HZ + margin) * file.samplerate), file.frames)
        file.seek(first)
        audio_FS = file.read(last - first, dtype="float32", always_2d=True)
        if file.samplerate != RATE_HZ:
            soxr.resample(audio_FS, file.samplerate, RATE_HZ, quality="HQ")


def bare_encode(audio_NS: np.ndarray[Any, Any]) -> None:
    soundfile.write(BytesIO(), audio_NS, RATE_HZ, format="FLAC", subtype="PCM_16", compression_level=FLAC_LEVEL)


def bare(root: Path, track: Track, pair: Any, encoded: list[np.ndarray[Any, Any]]) -> None:
    """The row's decodes and encodes."""
    files = {stem.id: stem.files[0].path for stem in track.stems}
    for stem in (pair.target, *pair.contexts):
        bare_read(root / files[stem], pair.start_samples)
    for start in pair.style_starts_samples:
        bare_read(root / files[pair.target], start)
    for audio_NS in encoded:
        bare_encode(audio_NS)


def measure(rate_hz: int, rows: int) -> float:
    """Bare time over ours, of all rows together; the two take turns, so that the machine's moods hit both."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        render_corpus(root, rate_hz, songs=3, seconds=40.0)
        catalogue = build_catalogue(root, list_corpus_folder(root, "plain"), heldout_fraction=0.34, seed=0)
        tracks = tuple(track for track in catalogue.tracks if track.split == "train")
        plan = PairPlan(tracks=tracks, rule=PairRule(window_samples=WINDOW))
        measure_row(root, plan, 0)  # to warm up
        spent = [measure_row(root, plan, index) for index in range(rows)]
        ours, theirs = (sum(times) for times in zip(*spent, strict=True))
    speed = f"{rows / ours:.1f} rows/s a core, bare {rows / theirs:.1f}"
    print(f"{rate_hz} Hz: {rows} rows, {speed}; ratio {theirs / ours:.3f}")
    return theirs / ours


def measure_row(root: Path, plan: PairPlan, index: int) -> tuple[float, float]:
    """CPU seconds of one row: ours, and bare."""
    pair = plan.pair(index)
    track = plan.track(pair.track_id)
    ours, members = timed(lambda: window_members(cut_window(root, track, pair, WINDOW)))
    sounds = [decode_flac(members[f"{name}.flac"]) for name in ("target", "context", "style")]
    encoded = [np.ascontiguousarray((audio_SN.T * 32768).astype(np.int16)) for audio_SN in sounds]
    return ours, timed(lambda: bare(root, track, pair, encoded))[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=60)
    rows = parser.parse_args().rows
    for rate_hz in (RATE_HZ, 44_100):
        measure(rate_hz, rows)


if __name__ == "__main__":
    main()
