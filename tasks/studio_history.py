"""What the studio keeps on disk: the files that were dropped, and every playing with what it was asked for."""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from tasks.audio import probe, read_window
from tasks.audio_bytes import headroom_gain, write_flac
from tasks.play import TOLD
from tasks.play_audio import loudness_lufs, read_music
from tasks.whole_files import file_sha256

HEARD, ABOUT = "heard.flac", "studio.json"
NUMBER = r"\d{8}-\d{6}-[0-9a-f]{6}"  # of a playing: when it was asked for, to the microsecond
SOUND = r"[0-9a-f]{64}"  # of a dropped file: a digest of its name and its bytes
PART = r"(?:variation|mix)-\d{1,2}\.wav"
LONGEST_NAME = 60  # characters, of at most four bytes: file systems take 255


class History:
    """A folder of `sounds` and `playings`. Each entry is a folder that is moved into place when it is complete."""

    def __init__(self, folder: Path) -> None:
        self._sounds, self._playings, self._scratch = folder / "sounds", folder / "playings", folder / "scratch"
        for place in (self._sounds, self._playings):
            place.mkdir(parents=True, exist_ok=True)
        self._lock = (folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"{folder} is kept by another studio that still runs; give another --history") from error
        shutil.rmtree(self._scratch, ignore_errors=True)  # what a studio that was killed had begun
        self._scratch.mkdir()
        self._drop_unused_sounds()

    def close(self) -> None:
        """Let another studio have the folder."""
        self._lock.close()

    @contextmanager
    def making(self) -> Iterator[Path]:
        """A new scratch folder, of which nothing is left afterwards but what was moved away."""
        made = self._scratch / secrets.token_hex(8)
        made.mkdir()
        try:
            yield made
        finally:
            shutil.rmtree(made, ignore_errors=True)

    def keep_sound(self, given: Path, name: str) -> dict[str, Any]:
        """Keep a dropped file and what can be heard of it; what the page shows of it.

        Raises ValueError, in which the file goes by `name`, where it is no music.
        """
        shown = file_name(name)
        sound = hashlib.sha256(f"{shown}/{file_sha256(given)}".encode()).hexdigest()
        if (self._sounds / sound).exists():
            return self.about_sound(sound)
        with self.making() as made:
            (made / "given").mkdir()
            file = given.rename(made / "given" / shown)
            try:
                music = read_music(file, "the recording")
            except ValueError as error:
                raise ValueError(str(error).replace(str(file), shown)) from error
            write_flac(made / HEARD, music.audio_2N * np.float32(headroom_gain(music.audio_2N)))
            told = {"sound": sound, "name": shown, "seconds": music.told["seconds"], "notes": music.notes}
            (made / ABOUT).write_text(json.dumps(told), encoding="utf-8")
            made.rename(self._sounds / sound)
        return told

    def take_up(self, number: str, name: str) -> dict[str, Any]:
        """Keep a stem of a playing as if it had been saved and dropped again: its name tells where it is from."""
        with self.making() as scratch:
            shutil.copyfile(self.part(number, name), scratch / "stem")
            return self.keep_sound(scratch / "stem", download_name(number, name))

    def sound_file(self, sound: str) -> Path:
        """A dropped file as it came, under its own name. Raises LookupError."""
        return next((_known(self._sounds / sound, sound, SOUND) / "given").iterdir())

    def heard(self, sound: str) -> Path:
        """What can be heard of it, which any browser plays. Raises LookupError."""
        return _known(self._sounds / sound, sound, SOUND) / HEARD

    def about_sound(self, sound: str) -> dict[str, Any]:
        """What the page shows of a dropped file. Raises LookupError."""
        return _read(_known(self._sounds / sound, sound, SOUND) / ABOUT)

    def keep_playing(self, number: str, made: Path, asked: dict[str, Any], sounds: Iterable[str]) -> None:
        """Move what `play_along` left in `made` into place, with what was asked for and how loud each part is.

        `sounds` are all that it was asked for with: they are kept as long as it is.
        """
        record = _read(made / TOLD)
        context = asked["context"]
        context_lufs = _lufs(self.heard(context)) if context else None
        levels = [_level(made / played["stem"], context_lufs) for played in record["variations"]]
        about = {
            "number": number,
            "asked": asked,
            "sounds": {sound: self.about_sound(sound) for sound in sounds},
            "levels": levels,
        }
        (made / ABOUT).write_text(json.dumps(about, ensure_ascii=False), encoding="utf-8")
        made.rename(self._playings / number)

    def playings(self) -> list[dict[str, Any]]:
        """All of them, the last first."""
        told = []
        for folder in sorted(self._playings.iterdir(), reverse=True):
            with suppress(FileNotFoundError):  # forgotten by another request meanwhile
                told.append(self._about(folder))
        return told

    def part(self, number: str, name: str) -> Path:
        """A stem or a mix of a playing. Raises LookupError."""
        return _known(self._playings / number / name, f"{number}/{name}", f"{NUMBER}/{PART}")

    def forget(self, number: str) -> None:
        """Remove a playing, at once for whoever looks. Raises LookupError."""
        with self.making() as made:
            _known(self._playings / number, number, NUMBER).rename(made / number)

    @staticmethod
    def _about(folder: Path) -> dict[str, Any]:
        about, record = _read(folder / ABOUT), _read(folder / TOLD)
        variations = [
            {"stem": played["stem"], "mix": played.get("mix"), "scores": played["scores"], "level": level}
            for played, level in zip(record["variations"], about["levels"], strict=True)
        ]
        return about | {"state": "done", "notes": record["notes"], "variations": variations}

    def _drop_unused_sounds(self) -> None:
        """Files that were dropped and never played with, or whose playings were all forgotten."""
        used = {sound for playing in self.playings() for sound in playing["sounds"]}
        for folder in self._sounds.iterdir():
            if folder.name not in used:
                shutil.rmtree(folder)


def new_number() -> str:
    """A name for a playing; names sort by time."""
    now = datetime.now(UTC)
    return f"{now:%Y%m%d-%H%M%S}-{now.microsecond:06x}"


def download_name(number: str, part: str) -> str:
    """What a stem or a mix is called wherever it is saved."""
    return f"{number}-{part}"


def file_name(name: str) -> str:
    """A name that is only a name, whatever came: no folders, nothing hidden, no control characters."""
    last = re.split(r"[/\\]", name)[-1]
    clean = re.sub(r"[^\w .()+-]", "_", last).strip(" .")
    stem, dot, suffix = clean.rpartition(".")
    return f"{(stem or suffix)[: LONGEST_NAME - 10]}{dot if stem else ''}{suffix[:9] if stem else ''}" or "recording"


def _known(path: Path, name: str, pattern: str) -> Path:
    """The path, where the name is of the kind and something is there."""
    if not (re.fullmatch(pattern, name, flags=re.ASCII) and path.exists()):
        raise LookupError("this is not in the history, or not any more; load the page again")
    return path


def _level(stem: Path, context_lufs: float | None) -> float:
    """The gain at which a part is as loud as its context; 1 without one, and where either is silent."""
    if context_lufs is None:
        return 1.0
    difference = context_lufs - _lufs(stem)
    return float(10 ** (difference / 20)) if np.isfinite(difference) else 1.0


def _lufs(path: Path) -> float:
    return loudness_lufs(read_window(path, 0, probe(path).frames))


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
