"""The clips of any folder of audio: which stretch of which file, with what context and prompt.

A file is known by its path below its folder without the extension; files of different folders belong together by that
name. Files of one subfolder are of one song.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from data_manifests.roles import AUDIO_SUFFIXES
from data_manifests.schema import RATE_HZ, Quarantined
from metrics.protocol import Protocol
from tasks.audio import UnreadableAudio, probe
from tasks.embeddings import Row
from tasks.walk import walk_corpus


@dataclass(frozen=True, kw_only=True)
class ClipRule:
    """How a file becomes clips: its first `clips_per_file` whole stretches of `clip_s`, `stem_s` of each heard alone.

    A file that is shorter than one clip is followed by silence; what lies beyond the last clip is not heard.
    Departure: audio-metrics 1.0 embeds every 5-s window of a stem; here a clip gives one embedding, of its first 5 s.
    """

    clip_s: float
    stem_s: float
    clips_per_file: int

    @classmethod
    def of(cls, protocol: Protocol) -> ClipRule:
        """The slice of a protocol that determines clips: long enough for the stem's window and for all mixtures."""
        mixtures_s = protocol.mixture_windows * protocol.mixture_window_s
        return cls(
            clip_s=max(protocol.window_s, mixtures_s),
            stem_s=protocol.window_s,
            clips_per_file=protocol.windows_per_track,
        )

    @property
    def clip_samples(self) -> int:
        return round(self.clip_s * RATE_HZ)

    @property
    def stem_samples(self) -> int:
        return round(self.stem_s * RATE_HZ)


class Clip(NamedTuple):
    """A stretch of a stem's file and, where there is one, of its context's, both from their own start on."""

    row: Row
    stem: str
    stem_start_samples: int
    context: str | None
    context_start_samples: int


class Listed(NamedTuple):
    """The clips of a folder, what was left out of them and why, and how many files are not one clip long."""

    clips: list[Clip]
    left_out: list[Quarantined]
    shorter: int
    longer: int


def named_files(folder: Path) -> dict[str, str]:
    """The audio files below a folder by name. Raises ValueError where there is none, or where two have one name."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; give a folder of audio files")
    found: dict[str, str] = {}
    for path in walk_corpus(folder).files:
        if path.rpartition(".")[2].lower() not in AUDIO_SUFFIXES or any(part[0] == "." for part in path.split("/")):
            continue
        name = PurePosixPath(path).with_suffix("").as_posix()
        if name in found:
            raise ValueError(
                f"{folder}: {found[name]} and {path} are both called {name!r}; files are paired by that name, so rename"
                " one or move it away"
            )
        found[name] = path
    if not found:
        raise ValueError(f"{folder} holds no audio file; known are {', '.join(sorted(AUDIO_SUFFIXES))}")
    return found


def listed_clips(stems: Path, contexts: Path | None, prompts: Mapping[str, str] | None, rule: ClipRule) -> Listed:
    """The clips of a folder by name; a stem without what was given for the others is left out."""
    context_of = named_files(contexts) if contexts else None
    clips, left_out, shorter, longer = [], [], 0, 0
    for name, path in named_files(stems).items():
        missing = without(name, {"context": context_of, "prompt": prompts})
        if missing:
            left_out.append(missing)
            continue
        try:
            samples = _samples(stems / path)
        except UnreadableAudio as error:
            left_out.append(Quarantined(path=name, reason=without_folder(error, stems / path)))
            continue
        count = min(rule.clips_per_file, max(1, samples // rule.clip_samples))
        for start in range(0, count * rule.clip_samples, rule.clip_samples):
            row = Row(_key(name, start), track_of(name), "other", prompts[name] if prompts else "")
            context = str(contexts / context_of[name]) if contexts and context_of else None
            clips.append(Clip(row, str(stems / path), start, context, start))
        shorter += samples < rule.clip_samples
        longer += samples > count * rule.clip_samples
    return Listed(clips, left_out, shorter, longer)


def without(name: str, partners: Mapping[str, Mapping[str, Any] | None]) -> Quarantined | None:
    """Why a file is left out that lacks a partner of its name among those given (None: not asked for)."""
    for what, known in partners.items():
        if known is not None and name not in known:
            some = ", ".join(sorted(known)[:3]) + (" …" if len(known) > 3 else "")
            return Quarantined(path=name, reason=f"no {what} bears its name; there are {some}")
    return None


def track_of(name: str) -> str:
    """The song of a file: its subfolder, or the file itself where it lies in none."""
    folder = PurePosixPath(name).parent.as_posix()
    return name if folder == "." else folder


def _key(name: str, start_samples: int) -> str:
    return f"{name} from {start_samples / RATE_HZ:g} s" if start_samples else name


def _samples(path: Path) -> int:
    told = probe(path)
    return -(-told.frames * RATE_HZ // told.rate_hz)


def without_folder(error: Exception, path: Path) -> str:
    """A reader's message without the file's folder, which the reader of a table knows."""
    return str(error).replace(str(path), path.name)
