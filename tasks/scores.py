"""Corpora played from scores by a soundfont: the embedded corpus' own songs, and a user's folder of MIDI files."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from data_manifests.composer import EmbeddedCorpus, compose, song_record
from data_manifests.midi import MidiPart, MidiSong, read_midi, write_part
from data_manifests.notation import Song, Timbre
from data_manifests.schema import RATE_HZ, Quarantined
from data_manifests.tags import timbre_words
from tasks.artifact import Artifact
from tasks.audio_bytes import headroom_gain, write_flac
from tasks.cluster import fan_out
from tasks.corpus import CorpusError
from tasks.runtime import Runtime
from tasks.soundfont import find_soundfont, fluidsynth, fluidsynth_version, play
from tasks.step import Step
from tasks.walk import corpus_files
from tasks.whole_files import write_whole

SONG_FILE = "song.json"
MIDI_SUFFIXES = (".mid", ".midi", ".smf", ".kar")
END_FADE_SAMPLES = RATE_HZ // 50
LOUD_BLOCK_SAMPLES = RATE_HZ // 10
AUDIBLE_DB = -30.0
"""Blocks this far below a stem's loudest are its rests, as for the house renderer."""
CREST = 5.0
"""A stem is limited at this multiple of its loudness, as by the house renderer, so that the band never clips."""


@dataclass(frozen=True, kw_only=True)
class RenderScores(Step):
    """The embedded corpus as RenderCorpus gives it, its notes played by a soundfont instead of equations.

    Words about brightness and reverb are left out of the tags: General MIDI does not make them true.
    """

    stage: ClassVar[str] = "corpus"
    resumable: ClassVar[bool] = True

    corpus: EmbeddedCorpus
    soundfont_sha256: str

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        fluidsynth()
        font = str(find_soundfont(self.soundfont_sha256, runtime.local_files))
        wanted = [(self.corpus, index, str(out / f"song_{index:04d}"), font) for index in range(self.corpus.songs)]
        missing = [piece for piece in wanted if not Path(piece[2], SONG_FILE).exists()]
        fan_out(runtime, _render_score, missing, title="play the embedded corpus")
        return {"songs": self.corpus.songs, "seconds_each": self.corpus.seconds, "program": fluidsynth_version()}


def _render_score(piece: tuple[EmbeddedCorpus, int, str, str]) -> None:
    """Write one song; its `song.json` comes last and marks it whole."""
    corpus, index, location, font = piece
    folder = Path(location)
    folder.mkdir(exist_ok=True)
    song = compose(corpus, index)
    samples = round(song.plan.seconds * RATE_HZ)
    with _scratch(folder) as scratch:
        for part in song.parts:
            score, name = write_part(part, song.plan.bpm), f"{song.id}/{part.id}"
            audio_SN = _ending(play(score, Path(font), name=name, scratch=scratch), samples)
            write_flac(folder / f"{part.id}.flac", levelled(audio_SN, part.level))
    _write_record(folder, _score_record(song))


def _score_record(song: Song) -> dict[str, Any]:
    """The song.json of a song without what the soundfont does not make true: words and labels of timbre."""
    untrue = {word for brightness in (0, 1) for word in timbre_words(Timbre(brightness, 1.0, 0.0))}
    record = song_record(song)
    for stem in record["stems"]:
        kept = [tag for tag in stem["tags"] if tag.lower() not in untrue]
        stem["tags"] = kept or [record["labels"]["stems"][stem["role"]]["instrument"]]
    for labels in record["labels"]["stems"].values():
        del labels["timbre"]
    return record


def _ending(audio_SN: NDArray[np.float32], samples: int) -> NDArray[np.float32]:
    """The audio at this length, faded out over 20 ms at its end."""
    found = min(audio_SN.shape[1], samples)
    ended_SN = np.zeros((2, samples), np.float32)
    ended_SN[:, :found] = audio_SN[:, :found]
    ended_SN[:, -END_FADE_SAMPLES:] *= np.linspace(1, 0, END_FADE_SAMPLES, dtype=np.float32)
    return ended_SN


def levelled(audio_SN: NDArray[np.float32], level: float) -> NDArray[np.float32]:
    """The stem at RMS `level` where it plays, softly limited to `CREST` times that; silence stays silence."""
    blocks_SBN = audio_SN[:, : audio_SN.shape[1] // LOUD_BLOCK_SAMPLES * LOUD_BLOCK_SAMPLES].reshape(
        2, -1, LOUD_BLOCK_SAMPLES
    )
    power_B = np.mean(np.square(blocks_SBN), axis=(0, 2))
    if not power_B.any():
        return audio_SN
    playing = float(np.sqrt(np.mean(power_B[power_B > power_B.max() * 10 ** (AUDIBLE_DB / 10)])))
    ceiling = np.float32(CREST * level)
    limited_SN: NDArray[np.float32] = np.tanh(audio_SN * np.float32(level / playing) / ceiling) * ceiling
    return limited_SN


@dataclass(frozen=True, kw_only=True)
class RenderMidi(Step):
    """A folder of MIDI files as FLAC stems with a `song.json` a song: the layout of any user's folder.

    A file that cannot be read or played is left out, with the reason in the record and the log.
    """

    stage: ClassVar[str] = "midi"
    resumable: ClassVar[bool] = True

    folder: Artifact
    soundfont_sha256: str

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        fluidsynth()
        font = str(find_soundfont(self.soundfont_sha256, runtime.local_files))
        songs = midi_songs(corpus_files(self.folder.path))
        if not songs:
            raise CorpusError(f"{self.folder.path} holds no MIDI file; expected files that end in {MIDI_SUFFIXES}")
        wanted = [(str(self.folder.path / path), str(out / song), font) for song, path in songs.items()]
        missing = [piece for piece in wanted if not Path(piece[1], SONG_FILE).exists()]
        left_out = [item for item in fan_out(runtime, _render_midi, missing, title="play the MIDI files") if item]
        for item in left_out:
            logging.getLogger("stemwright").warning("left out: %s", item.reason)
        if len(left_out) == len(songs):
            raise CorpusError(f"none of {len(songs)} MIDI files could be played; the first: {left_out[0].reason}")
        return {
            "songs": len(songs) - len(left_out),
            "left_out": [{"path": Path(item.path).name, "reason": item.reason} for item in left_out],
            "program": fluidsynth_version(),
        }


def midi_songs(paths: list[str]) -> dict[str, str]:
    """The MIDI files among paths, each by the name of its song: its path without the suffix where that is its alone."""
    found = [PurePosixPath(path) for path in paths if PurePosixPath(path).suffix.lower() in MIDI_SUFFIXES]
    visible = [path for path in found if not any(part.startswith((".", "__MACOSX")) for part in path.parts)]
    short = [str(path.with_suffix("")) for path in visible]
    return {name if short.count(name) == 1 else str(path): str(path) for name, path in zip(short, visible, strict=True)}


def _render_midi(piece: tuple[str, str, str]) -> Quarantined | None:
    """Write one song of a MIDI file; its `song.json` comes last. What is wrong with the file comes back."""
    path, location, font = piece
    folder = Path(location)
    try:
        song = read_midi(Path(path).read_bytes(), Path(path).name)
        folder.mkdir(parents=True, exist_ok=True)
        _play_parts(song, folder, Path(font), Path(path).name)
    except (ValueError, PermissionError) as error:
        for stem in folder.glob("*.flac"):
            stem.unlink()
        with suppress(OSError):  # absent, or it holds the folders of other songs
            folder.rmdir()
        return Quarantined(path=path, reason=str(error))
    _write_record(folder, midi_record(song, Path(path).stem))
    return None


def _play_parts(song: MidiSong, folder: Path, font: Path, name: str) -> None:
    """The stems of a song, as long as the longest, with one common gain so that none clips.

    They wait on the disk until that gain is known, so that one stem at a time is in memory.
    """
    samples, gain = 0, 1.0
    with _scratch(folder) as waiting:
        for part in song.parts:
            audio_SN = play(part.data, font, name=f"{name}, {part.id}", scratch=waiting)
            np.save(waiting / f"{part.id}.npy", audio_SN)
            samples, gain = max(samples, audio_SN.shape[1]), min(gain, headroom_gain(audio_SN))
        for part in song.parts:
            audio_SN = np.load(waiting / f"{part.id}.npy", allow_pickle=False) * np.float32(gain)
            padded_SN = np.pad(audio_SN, ((0, 0), (0, samples - audio_SN.shape[1])))
            write_flac(folder / f"{part.id}.flac", padded_SN)


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A folder inside the song's for what is in work: what a killed worker left there goes before and after."""
    scratch = folder / ".playing"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def midi_record(song: MidiSong, title: str) -> dict[str, Any]:
    """The song.json of a MIDI song. Songs of the same notes are one group, whatever their files are called."""
    return {
        "title": title,
        "group": f"midi-{song.music_digest[:16]}",
        "bpm": round(song.bpm, 2),
        "tags": list(song.tags),
        "stems": [_stem_record(part) for part in song.parts],
    }


def _stem_record(part: MidiPart) -> dict[str, Any]:
    return {"file": f"{part.id}.flac", "role": part.role, "is_vocal": part.is_vocal, "tags": list(part.tags)}


def _write_record(folder: Path, record: dict[str, Any]) -> None:
    write_whole(folder / SONG_FILE, json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False).encode())
