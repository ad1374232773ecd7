"""Any folder of audio as windows: no song, stem or role is known of it, only which files sound and for how long."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_manifests.roles import AUDIO_SUFFIXES
from data_manifests.schema import RATE_HZ
from tasks.audio import UnreadableAudio, probe, read_window
from tasks.walk import corpus_files

# Shapes: S channels (2), N samples at 48 kHz.

QUIET_RMS = 1e-3
"""A clip below it (-60 dB) says nothing of a codec."""

CLIP_DRAWS = 8  # places tried in a file before it is passed over as quiet
FILE_TURNS = 2  # times that every file is tried before fewer clips than asked for have to do

logger = logging.getLogger("stemwright")


@dataclass(frozen=True, kw_only=True)
class AudioFile:
    """A file that can be read. `name` is its path inside the folder that was given, `samples` count at 48 kHz."""

    path: Path
    name: str
    samples: int


@dataclass(frozen=True, kw_only=True, eq=False)
class AudioClip:
    """A stretch of audio_SN under a name that is fit for a file."""

    name: str
    audio_SN: NDArray[np.float32]


def audio_files(places: Sequence[Path]) -> list[AudioFile]:
    """The readable audio files among and below `places`, by name; what cannot be read is logged and left out.

    Raises ValueError where there is none.
    """
    found: list[AudioFile] = []
    for path, name in _candidates(places):
        try:
            told = probe(path)
        except UnreadableAudio as error:
            logger.warning("left out: %s", error)
            continue
        found.append(AudioFile(path=path, name=name, samples=-(-told.frames * RATE_HZ // told.rate_hz)))
    if not found:
        named = ", ".join(map(str, places))
        raise ValueError(f"{named}: no readable audio; give files or folders of {', '.join(sorted(AUDIO_SUFFIXES))}")
    return found


def random_windows(files: Sequence[AudioFile], samples: int, *, seed: int) -> Iterator[NDArray[np.float32]]:
    """Endless windows (2, `samples`) from anywhere: a minute of a long file is heard as often as one of a short file.

    The same windows again for the same files and seed. A file shorter than a window is heard whole, then silence.
    """
    random = np.random.default_rng(seed)
    share = np.array([file.samples for file in files], dtype=np.float64)
    while True:
        file = files[int(random.choice(len(files), p=share / share.sum()))]
        yield read_window(file.path, _start(file, samples, random), samples)


def clips_of(files: Sequence[AudioFile], *, clips: int, samples: int, seed: int) -> list[AudioClip]:
    """Different clips (2, `samples`) that are not quiet, the files taking turns in a drawn order.

    Fewer where the files have no more; raises ValueError where all that is heard is quiet.
    """
    random = np.random.default_rng(seed)
    order = cycle([files[place] for place in random.permutation(len(files))])
    found: dict[str, AudioClip] = {}
    for file in islice(order, FILE_TURNS * max(clips, len(files))):
        clip = _loud_clip(file, samples, random) if len(found) < clips else None
        if clip is not None:
            found[clip.name] = clip
    if not found:
        raise ValueError(f"{len(files)} files, and no clip in them is above RMS {QUIET_RMS}; give audio that sounds")
    return list(found.values())


def _loud_clip(file: AudioFile, samples: int, random: np.random.Generator) -> AudioClip | None:
    for _ in range(CLIP_DRAWS):
        start = _start(file, samples, random)
        audio_SN = read_window(file.path, start, samples)
        if float(np.sqrt(np.mean(audio_SN**2))) >= QUIET_RMS:
            stem = Path(file.name).with_suffix("").as_posix().replace("/", "_").replace(" ", "_")
            return AudioClip(name=f"{stem}_{start / RATE_HZ:06.1f}s", audio_SN=audio_SN)
    return None


def _start(file: AudioFile, samples: int, random: np.random.Generator) -> int:
    return int(random.integers(max(file.samples - samples, 0) + 1))


def _candidates(places: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Paths and names of all that may be audio; a file that was named itself is tried whatever it is called."""
    for place in places:
        if place.is_file():
            yield place, place.name
            continue
        for name in corpus_files(place):
            if name.rpartition(".")[2].lower() in AUDIO_SUFFIXES:
                yield place / name, name
