"""The written music of the embedded corpus: notes, parts and songs, before anything sounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from data_manifests.styles import Figure, Groove, Style


class Note(NamedTuple):
    """One played note, already humanised. For drums `pitch` is the General MIDI percussion key of the piece."""

    start_s: float
    duration_s: float
    pitch: int
    velocity: float


class MotifNote(NamedTuple):
    """One note of a melodic idea: a place and length in sixteenths, and scale steps above the chord's root."""

    step: int
    length: int
    scale_steps: int


class Room(NamedTuple):
    """Where the band plays: reverberation time to -60 dB, and the frequency above which the walls absorb."""

    decay_s: float
    damping_hz: float


class Timbre(NamedTuple):
    """How one player sounds in one song: brightness and reverb share in 0..1, pan in -1 (left) .. 1 (right)."""

    brightness: float
    wet: float
    pan: float


@dataclass(frozen=True, kw_only=True)
class SongPlan:
    """What all players of one song share; every part is a function of this and of the part's own role alone.

    `degrees` has one chord root per bar, as a scale degree 0..6. `sections` of `bars_per_section` bars each cover
    the song; the last takes what remains, half to one and a half times as long.
    """

    seed: int
    index: int
    seconds: float
    style: Style
    bpm: float
    tonic: int
    degrees: tuple[int, ...]
    bars_per_section: int
    sections: int
    groove: Groove
    motif: tuple[MotifNote, ...]
    roles: tuple[str, ...]
    genres: tuple[str, ...]
    moods: tuple[str, ...]
    room: Room

    @property
    def bar_s(self) -> float:
        return self.style.beats_per_bar * 60.0 / self.bpm

    @property
    def bars(self) -> int:
        return len(self.degrees)

    def section_of(self, bar: int) -> int:
        return min(bar // self.bars_per_section, self.sections - 1)


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one player plays. `active_sections` has one truth value per section of the song.

    `level` is the RMS of the rendered stem where it plays.
    """

    id: str
    role: str
    is_vocal: bool
    instrument: str
    notes: tuple[Note, ...]
    figure: Figure
    timbre: Timbre
    level: float
    active_sections: tuple[bool, ...]
    tags: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Song:
    """A composed song: its plan, its players, and the words that people would put on it."""

    id: str
    title: str
    split: str
    plan: SongPlan
    parts: tuple[Part, ...]
    tags: tuple[str, ...]
