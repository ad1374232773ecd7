"""The players: each turns the shared plan of a song into the notes of one role, with a human's timing and touch.

Every player follows the plan's bars, chords and groove, which is what makes a target inferable from its context.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from data_manifests.arrangement import HELD_CHORDS, MELODIES, SEATS
from data_manifests.harmony import chord_classes, lead_voices, nearest, scale_semitones
from data_manifests.notation import MotifNote, Note, SongPlan
from data_manifests.styles import Figure

PERCUSSION_KEYS = {
    "kick": 36, "rim": 37, "snare": 38, "clap": 39, "hat": 42, "low tom": 45, "ohat": 46, "tom": 47, "crash": 49,
    "high tom": 50, "ride": 51, "conga": 63, "shaker": 82,
}  # fmt: skip
"""General MIDI keys of the pieces of the kit."""

TIMING_S = 0.006  # reference/datasets.md C.2: humans are this far off the grid
STRUM_S = 0.009
ARTICULATION = 0.92
"""A note lasts this share of its written length: the hand has to move. A muted one (`m`) is cut at the half."""
TOUCH = {"X": 1.0, "C": 1.0, "x": 0.72, "c": 0.75, "m": 0.5, "g": 0.35}


class Stroke(NamedTuple):
    """One symbol of a figure with the sixteenths it is held."""

    step: int
    length: int
    symbol: str


def write_notes(
    plan: SongPlan, role: str, figure: Figure, active: Sequence[bool], rng: np.random.Generator
) -> tuple[Note, ...]:
    """The notes of one role over the whole song, in order of time; silent in the sections that are not active."""
    bars = [bar for bar in range(plan.bars) if active[plan.section_of(bar)]]
    player = _player(role)
    notes = (note for note in player(plan, role, figure, bars, rng) if note.start_s < plan.seconds - 0.05)
    return tuple(sorted(notes))


def _player(role: str) -> Callable[[SongPlan, str, Figure, list[int], np.random.Generator], Iterator[Note]]:
    if role == "drums":
        return _drum
    if role == "bass":
        return _walk
    if role in HELD_CHORDS:
        return _hold
    return _sing if role in MELODIES else _comp


def swung(step: float, *, swing: float, unit: int) -> float:
    """A place in sixteenths moved by swing: of each pair of 1/`unit` notes, the second falls at `swing` of the pair."""
    pair = 32 / unit
    start, phase = step // pair * pair, step % pair / pair
    moved = phase * 2 * swing if phase < 0.5 else swing + (phase - 0.5) * 2 * (1 - swing)
    return start + pair * moved


def time_s(plan: SongPlan, bar: int, step: float) -> float:
    """When a sixteenth of a bar falls, in seconds, with the style's swing and without human error."""
    place = swung(step, swing=plan.style.swing, unit=plan.style.swing_unit)
    return bar * plan.bar_s + place * 15.0 / plan.bpm


def draw_motif(bar_steps: int, notes: int, rng: np.random.Generator) -> tuple[MotifNote, ...]:
    """A melodic idea of two bars: onsets mostly on eighths, a walk in scale steps, chord tones on the beats."""
    grid = np.arange(2 * bar_steps)
    weight = np.where(grid % 4 == 0, 4.0, np.where(grid % 2 == 0, 2.0, 0.4))
    onsets = np.sort(rng.choice(grid, size=notes, replace=False, p=weight / weight.sum()))
    ends = np.append(onsets[1:], 2 * bar_steps)
    height = int(rng.choice([0, 2, 4]))
    motif = []
    for onset, end in zip(onsets, ends, strict=True):
        height = int(np.clip(height + rng.choice([-2, -1, 1, 2]), -3, 7))
        snapped = height - height % 2 if onset % 4 == 0 else height
        motif.append(MotifNote(int(onset), int(min(end - onset, 8)), snapped))
    return tuple(motif)


def _note(
    plan: SongPlan, bar: int, stroke: Stroke, pitch: int, touch: float, rng: np.random.Generator, late_s: float = 0.0
) -> Note:
    """A note on the grid, made human: a few milliseconds off, a little louder on the beat, never quite the same."""
    start = time_s(plan, bar, stroke.step)
    share = 0.5 if stroke.symbol == "m" else ARTICULATION
    duration = share * (time_s(plan, bar, stroke.step + stroke.length) - start)
    accent = 1.0 if stroke.step % 4 == 0 else 0.88
    velocity = float(np.clip(touch * accent + rng.normal(0, 0.05), 0.1, 1.0))
    return Note(max(0.0, start + late_s + rng.normal(0, TIMING_S)), duration, pitch, velocity)


def strokes(steps: str) -> Iterator[Stroke]:
    """The symbols of one bar of a figure; dashes after a symbol hold it."""
    for step, symbol in enumerate(steps):
        if symbol not in "-.":
            held = len(steps[step + 1 :]) - len(steps[step + 1 :].lstrip("-"))
            yield Stroke(step, 1 + held, symbol)


def bar_of(steps: str, bar: int, bar_steps: int) -> str:
    """The bar of a repeating figure that falls on bar `bar` of the song."""
    compact = steps.replace(" ", "")
    start = bar % (len(compact) // bar_steps) * bar_steps
    return compact[start : start + bar_steps]


def _drum(plan: SongPlan, role: str, figure: Figure, bars: list[int], rng: np.random.Generator) -> Iterator[Note]:
    """The groove, a fill at the end of every eighth bar (fourth in a short song) and a crash after it."""
    period = 8 if plan.bars > 8 else 4
    for bar in bars:
        fill = (bar + 1) % period == 0
        for piece, line in plan.groove.lines.items():
            for stroke in strokes(bar_of(line, bar, 4 * plan.style.beats_per_bar)):
                if not (fill and stroke.step >= plan.style.beats_per_bar * 2 and piece != "kick"):
                    yield _note(plan, bar, stroke, PERCUSSION_KEYS[piece], TOUCH[stroke.symbol], rng)
        if fill:
            yield from _fill(plan, bar, rng)
        if bar % period == 0 or bar - 1 not in bars:
            yield _note(plan, bar, Stroke(0, 4, "x"), PERCUSSION_KEYS["crash"], 0.6, rng)


def _fill(plan: SongPlan, bar: int, rng: np.random.Generator) -> Iterator[Note]:
    """Sixteenths from the snare down the toms over the second half of a bar, rising in force."""
    first, last = plan.style.beats_per_bar * 2, plan.style.beats_per_bar * 4
    for step in range(first, last):
        progress = (step - first) / (last - first)
        piece = ("snare", "high tom", "tom", "low tom")[int(4 * progress)]
        if step % 2 == 0 or rng.random() < 0.7:
            yield _note(plan, bar, Stroke(step, 1, "x"), PERCUSSION_KEYS[piece], 0.55 + 0.4 * progress, rng)


def _walk(plan: SongPlan, role: str, figure: Figure, bars: list[int], rng: np.random.Generator) -> Iterator[Note]:
    """The bass: roots on the kick or a figure of chord tones, leading into the next chord."""
    for bar in bars:
        root = _degree_pitch(plan, plan.degrees[bar], SEATS[role].centre)
        following = _degree_pitch(plan, plan.degrees[(bar + 1) % plan.bars], SEATS[role].centre)
        tones = {"1": root, "8": root + 12, "a": following + int(rng.choice([-1, 1, -2]))}
        for symbol, third in (("3", 2), ("5", 4)):
            tones[symbol] = root + (_degree_pitch(plan, plan.degrees[bar] + third, root + 5) - root) % 12
        for stroke in _bass_bar(plan, figure, bar):
            yield _note(plan, bar, stroke, tones[stroke.symbol], 0.9, rng)


def _bass_bar(plan: SongPlan, figure: Figure, bar: int) -> Iterator[Stroke]:
    bar_steps = 4 * plan.style.beats_per_bar
    if figure.steps != "kick":
        yield from strokes(bar_of(figure.steps, bar, bar_steps))
        return
    kicks = [stroke.step for stroke in strokes(bar_of(plan.groove.lines["kick"], bar, bar_steps))]
    for step, following in zip(kicks, [*kicks[1:], bar_steps], strict=True):
        yield Stroke(step, min(following - step, 6), "1")


def _comp(plan: SongPlan, role: str, figure: Figure, bars: list[int], rng: np.random.Generator) -> Iterator[Note]:
    """Guitar and keys: the chord of each bar in a rhythm, voices led from bar to bar; guitars strum and ring on."""
    rings = role == "guitar"
    voicing: tuple[int, ...] = ()
    for bar in bars:
        voicing = lead_voices(_chord(plan, bar), voicing, SEATS[role].centre)
        bar_strokes = list(strokes(bar_of(figure.steps, bar, 4 * plan.style.beats_per_bar)))
        ends = [stroke.step for stroke in bar_strokes[1:]] + [4 * plan.style.beats_per_bar]
        for stroke, end in zip(bar_strokes, ends, strict=True):
            length = end - stroke.step if rings and stroke.symbol != "m" else stroke.length
            yield from _chord_notes(plan, bar, stroke._replace(length=length), voicing, rng, strum=rings)


def _chord_notes(
    plan: SongPlan, bar: int, stroke: Stroke, voicing: tuple[int, ...], rng: np.random.Generator, *, strum: bool
) -> Iterator[Note]:
    if stroke.symbol.isdigit():
        octave, voice = divmod(int(stroke.symbol) - 1, len(voicing))
        yield _note(plan, bar, stroke._replace(length=stroke.length + 1), voicing[voice] + 12 * octave, 0.8, rng)
        return
    for place, pitch in enumerate(voicing):
        yield _note(plan, bar, stroke, pitch, TOUCH[stroke.symbol], rng, late_s=place * STRUM_S if strum else 0.0)


def _hold(plan: SongPlan, role: str, figure: Figure, bars: list[int], rng: np.random.Generator) -> Iterator[Note]:
    """Strings and pads: each chord held for its bar, with its root doubled an octave above now and then."""
    voicing: tuple[int, ...] = ()
    bar_steps = 4 * plan.style.beats_per_bar
    for bar in bars:
        voicing = lead_voices(_chord(plan, bar), voicing, SEATS[role].centre)
        top = (voicing[0] + 12,) if rng.random() < 0.4 else ()
        for pitch in (*voicing, *top):
            yield _note(plan, bar, Stroke(0, bar_steps, "c"), pitch, 0.8, rng)


def _sing(plan: SongPlan, role: str, figure: Figure, bars: list[int], rng: np.random.Generator) -> Iterator[Note]:
    """A melody: the motif moved onto each chord. The singer has an own, calmer motif; the lead plays the song's."""
    bar_steps = 4 * plan.style.beats_per_bar
    motif = plan.motif if role == "lead" else draw_motif(bar_steps, int(rng.integers(5, 9)), rng)
    for bar in bars:
        for note in motif:
            step = note.step - bar % 2 * bar_steps
            if 0 <= step < bar_steps:
                root = plan.degrees[bar] if plan.degrees[bar] < 4 else plan.degrees[bar] - 7
                tonic = nearest(plan.tonic, SEATS[role].centre - 3)
                pitch = tonic + scale_semitones(plan.style.mode, root + note.scale_steps)
                yield _note(plan, bar, Stroke(step, note.length, "x"), pitch, 0.85, rng)


def _chord(plan: SongPlan, bar: int) -> tuple[int, ...]:
    voices = 4 if plan.style.sevenths else 3
    return chord_classes(plan.tonic, plan.style.mode, plan.degrees[bar], voices)


def _degree_pitch(plan: SongPlan, scale_step: int, centre: float) -> int:
    return nearest((plan.tonic + scale_semitones(plan.style.mode, scale_step)) % 12, centre)
