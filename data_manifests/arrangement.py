"""Who plays when: the seats of the band, and the sections in which each player is heard."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

MINIMUM_SECTIONS = 4.75
"""A song has at least this many sections, so that even a melody that rests half of the time enters twice."""


class Seat(NamedTuple):
    """A place in the band: register centre (MIDI pitch), share of sections played, loudness (RMS), pan, reverb."""

    centre: float
    density: tuple[float, float]
    level: float
    pan: float
    wet: tuple[float, float]


SEATS = {
    "drums": Seat(0, (0.84, 0.92), 0.07, 0.0, (0.03, 0.25)),
    "bass": Seat(35, (0.80, 0.92), 0.07, 0.0, (0.0, 0.1)),
    "guitar": Seat(56, (0.62, 0.85), 0.044, 0.7, (0.05, 0.5)),
    "keys": Seat(62, (0.62, 0.85), 0.044, 0.5, (0.05, 0.5)),
    "strings": Seat(66, (0.55, 0.8), 0.036, 0.25, (0.2, 0.7)),
    "pad": Seat(60, (0.55, 0.8), 0.036, 0.15, (0.2, 0.7)),
    "lead": Seat(76, (0.5, 0.62), 0.044, 0.4, (0.1, 0.6)),
    "vocal": Seat(66, (0.5, 0.65), 0.046, 0.1, (0.1, 0.5)),
}
"""One mix for all songs: a level belongs to its seat, so that no stem depends on who else plays. With these levels the
sum of a whole band peaks below 0.9: 0.77 is the highest of 80 songs."""

MELODIES = ("lead", "vocal")
HELD_CHORDS = ("strings", "pad")
OPTIONAL = ("guitar", "keys", "held", "lead", "vocal")


def section_bars(seconds: float, bar_s: float) -> int:
    """Bars per section: the longest of 8, 4, 2 that still gives enough sections, else 1."""
    return next((bars for bars in (8, 4, 2) if seconds / (bars * bar_s) >= MINIMUM_SECTIONS), 1)


def choose_roles(rng: np.random.Generator) -> tuple[str, ...]:
    """The five to seven roles of a song. Drums and bass always play; up to two of the others stay at home."""
    absent = rng.choice(OPTIONAL, size=rng.integers(0, 3), replace=False)
    held = HELD_CHORDS[rng.integers(2)]
    others = tuple(held if role == "held" else role for role in OPTIONAL if role not in absent)
    return ("drums", "bass", *others)


def choose_sections(role: str, sections: int, rng: np.random.Generator) -> tuple[bool, ...]:
    """One truth value per section: does this role play?

    As many sections as the seat's density asks for, shuffled until the role enters at least twice and is heard in
    both halves of the song, so that a target window and a style window can come from different places.
    """
    if sections < 3:
        return (True,) * sections
    share = rng.uniform(*SEATS[role].density)
    played = int(np.clip(round(share * sections), 2, sections - 1))
    active = np.arange(sections) < played
    half = sections // 2
    while True:
        rng.shuffle(active)
        entries = int(active[0]) + int(np.sum(active[1:] & ~active[:-1]))
        if entries >= 2 and active[:half].any() and active[-half:].any():
            return tuple(bool(plays) for plays in active)
