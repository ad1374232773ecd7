"""Claims about folders of plain audio: which files are found, and which windows are cut from them."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from tasks.audio_bytes import write_flac
from tasks.audio_folder import audio_files, clips_of, random_windows


def write(path: Path, *, seconds: float, level: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(path.name)).standard_normal((2, int(48_000 * seconds)))
    write_flac(path, np.clip(level * noise, -1, 1).astype(np.float32))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "album" / "a song.flac", seconds=3.0, level=0.1)
    write(tmp_path / "short.flac", seconds=0.5, level=0.1)
    write(tmp_path / "silent.flac", seconds=2.0, level=0.0)
    (tmp_path / "broken.wav").write_bytes(b"RIFF and nothing else")
    (tmp_path / "cover.txt").write_text("no audio")
    return tmp_path


def test_every_readable_file_below_a_folder_is_found(folder: Path) -> None:
    found = {file.name: file.samples for file in audio_files([folder])}
    assert found == {"album/a song.flac": 144_000, "short.flac": 24_000, "silent.flac": 96_000}


def test_a_file_may_be_named_itself(folder: Path) -> None:
    assert [file.name for file in audio_files([folder / "short.flac"])] == ["short.flac"]


def test_a_folder_without_audio_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no readable audio"):
        audio_files([tmp_path])


def test_windows_are_endless_whole_and_the_same_for_the_same_seed(folder: Path) -> None:
    files = audio_files([folder])
    first, again = (list(islice(random_windows(files, 48_000, seed=3), 12)) for _ in range(2))
    assert all(window.shape == (2, 48_000) for window in first)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], next(random_windows(files, 48_000, seed=4)))


def test_clips_sound_and_the_files_take_turns(folder: Path) -> None:
    clips = clips_of(audio_files([folder]), clips=5, samples=24_000, seed=0)
    assert all(np.abs(clip.audio_SN).max() > 0.05 for clip in clips)
    assert {clip.name.rpartition("_")[0] for clip in clips} == {"album_a_song", "short"}
    assert all("/" not in clip.name and " " not in clip.name for clip in clips)


def test_no_clip_is_given_twice(folder: Path) -> None:
    clips = clips_of(audio_files([folder / "short.flac"]), clips=3, samples=48_000, seed=0)
    assert len(clips) == 1


def test_clips_of_silence_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="give audio that sounds"):
        clips_of(audio_files([folder / "silent.flac"]), clips=2, samples=24_000, seed=0)
