"""Standard MIDI Files: any file becomes its parts, and a composed part becomes a file.

A tick is the file's unit of time, a tempo is microseconds per beat. Sound comes later: nothing here is heard.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Sequence
from io import BytesIO
from itertools import pairwise
from typing import Any, NamedTuple

import mido

from data_manifests.general_midi import Program, general_midi
from data_manifests.notation import Note, Part
from data_manifests.tags import tempo_words

DRUM_CHANNEL = 9
"""Channel 10 of people, who count from 1."""
DRUMS = -1
"""Stands for the drum channel where a program number is expected."""
TICKS_PER_BEAT = 9600
"""Of the files we write: a tick is below 0.1 ms at 64 beats per minute, far below human timing of 6 ms."""
DEFAULT_TEMPO = 500_000  # Standard MIDI File specification: 120 beats per minute until told otherwise
LONGEST_S = 3600.0
"""No song is longer; a broken delta time easily is, and would be rendered for days."""


class MidiPart(NamedTuple):
    """All that one General MIDI sound plays in a song; `data` is a MIDI file of this part alone.

    Its notes end where the key is let go: a pedal may hold them longer.
    """

    id: str
    role: str
    is_vocal: bool
    tags: tuple[str, ...]
    notes: tuple[Note, ...]
    data: bytes


class MidiSong(NamedTuple):
    """The parts of a MIDI file, drums first, then by program; `bpm` is the tempo that it keeps longest.

    `music_digest` is the same for two files that play the same notes, whatever else they hold.
    """

    parts: tuple[MidiPart, ...]
    bpm: float
    seconds: float
    tags: tuple[str, ...]
    music_digest: str


class _Event(NamedTuple):
    tick: int
    message: Any


class _Clock(NamedTuple):
    """Where tempi change, in ticks and in seconds, and the seconds that a tick lasts from there on."""

    ticks: tuple[int, ...]
    seconds: tuple[float, ...]
    tick_s: tuple[float, ...]

    def time_s(self, tick: int) -> float:
        place = bisect_right(self.ticks, tick) - 1
        return self.seconds[place] + (tick - self.ticks[place]) * self.tick_s[place]


def read_midi(data: bytes, name: str) -> MidiSong:
    """The parts of a Standard MIDI File of type 0 or 1. Drums are channel 10; the rest is divided by program.

    A note belongs to the program that its channel has when it starts; what several channels play with one program is
    one part. System exclusive messages are not understood. ValueError names the file and what is wrong with it.
    """
    file = _parse(data, name)
    events = _merge(file)
    clock = _clock(events, file.ticks_per_beat, name)
    owners, notes = _divide(events, clock)
    if not notes:
        raise ValueError(f"{name}: a MIDI file without a note; expected a song, remove the file")
    seconds = max(note.start_s + note.duration_s for part_notes in notes.values() for note in part_notes)
    if seconds > LONGEST_S:
        raise ValueError(f"{name}: its last note ends at {seconds:.0f} s; expected at most {LONGEST_S:.0f} s; cut it")
    bpm = _main_bpm(clock, seconds, file.ticks_per_beat)
    end_s = seconds + 1e-6  # the last note's own end is not lost to rounding
    played = [pair for pair in zip(events, owners, strict=True) if clock.time_s(pair[0].tick) <= end_s]
    programs = sorted(notes)  # DRUMS is below all programs
    parts = [_part(program, notes[program], played, file.ticks_per_beat) for program in programs]
    return MidiSong(tuple(parts), bpm, seconds, (tempo_words(bpm)[0], tempo_words(bpm)[2]), _music_digest(parts))


def _parse(data: bytes, name: str) -> mido.MidiFile:
    try:
        file = mido.MidiFile(file=BytesIO(data), clip=True)
    except Exception as error:  # mido raises whatever the bytes lead it to: EOFError, IndexError, its own, ...
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{name}: not a whole Standard MIDI File ({reason}); export it again or remove it") from error
    if file.type not in (0, 1):
        raise ValueError(f"{name}: a MIDI file of type {file.type}; expected 0 or 1, one song; export it as type 1")
    if file.ticks_per_beat <= 0:
        raise ValueError(f"{name}: its times count film frames (SMPTE); expected beats; export it with a tempo")
    return file


def _merge(file: mido.MidiFile) -> list[_Event]:
    """All messages of all tracks in order of time; those of one tick in order of their tracks."""
    events: list[_Event] = []
    for track in file.tracks:
        tick = 0
        for message in track:
            tick += message.time
            events.append(_Event(tick, message))
    return sorted(events, key=lambda event: event.tick)


def _clock(events: Sequence[_Event], ticks_per_beat: int, name: str) -> _Clock:
    tempi = {0: DEFAULT_TEMPO}
    for tick, message in events:
        if message.type == "set_tempo":
            if message.tempo <= 0:
                raise ValueError(f"{name}: a tempo of {message.tempo} µs per beat; expected more than 0; correct it")
            tempi[tick] = message.tempo
    ticks, seconds = tuple(tempi), [0.0]
    tick_s = tuple(tempo / 1e6 / ticks_per_beat for tempo in tempi.values())
    for (first, last), length_s in zip(pairwise(ticks), tick_s, strict=False):
        seconds.append(seconds[-1] + (last - first) * length_s)
    return _Clock(ticks, tuple(seconds), tick_s)


def _divide(events: Sequence[_Event], clock: _Clock) -> tuple[list[int | None], dict[int, list[Note]]]:
    """For every event the program that owns it as a note, or None; and the notes of every program.

    A key struck twice is let go in the order in which it was struck; what is never let go sounds to the end.
    """
    owners: list[int | None] = [None] * len(events)
    notes: defaultdict[int, list[Note]] = defaultdict(list)
    program = [0] * 16
    program[DRUM_CHANNEL] = DRUMS
    sounding: defaultdict[tuple[int, int], deque[tuple[int, _Event]]] = defaultdict(deque)
    for place, (tick, message) in enumerate(events):
        if message.type == "program_change" and message.channel != DRUM_CHANNEL:
            program[message.channel] = message.program
        elif message.type == "note_on" and message.velocity > 0:
            owners[place] = program[message.channel]
            sounding[message.channel, message.note].append((program[message.channel], events[place]))
        elif message.type in ("note_on", "note_off") and sounding[message.channel, message.note]:
            owner, start = sounding[message.channel, message.note].popleft()
            owners[place] = owner
            notes[owner].append(_note(start, tick, clock))
    for held in sounding.values():
        for owner, start in held:
            notes[owner].append(_note(start, events[-1].tick, clock))
    return owners, {owner: sorted(part_notes) for owner, part_notes in notes.items()}


def _note(start: _Event, end_tick: int, clock: _Clock) -> Note:
    start_s = clock.time_s(start.tick)
    return Note(start_s, clock.time_s(end_tick) - start_s, start.message.note, touch(start.message.velocity))


def touch(velocity: int) -> float:
    """How hard a note of a MIDI velocity 1..127 is played, 0..1: synthesizers sound its square as amplitude."""
    return float((velocity / 127) ** 2)


def velocity_of(touched: float) -> int:
    """The MIDI velocity of a touch, 1..127."""
    return min(max(round(127 * max(touched, 0.0) ** 0.5), 1), 127)


def _part(
    program: int, notes: Sequence[Note], played: Sequence[tuple[_Event, int | None]], ticks_per_beat: int
) -> MidiPart:
    """One part, and its own file: its notes, all that is said to its channels, and the tempi."""
    channels = {event.message.channel for event, owner in played if owner == program}
    kept = [event for event, owner in played if owner == program or _serves(event, channels)]
    sound = _kit_of(kept) if program == DRUMS else general_midi().programs[program]
    return MidiPart(
        id=sound.name.replace(" ", "_") if program != DRUMS else "drums",
        role=sound.role,
        is_vocal=sound.is_vocal,
        tags=tuple(dict.fromkeys((sound.name, sound.family))),
        notes=tuple(notes),
        data=_file(kept, ticks_per_beat),
    )


def _serves(event: _Event, channels: set[int]) -> bool:
    message = event.message
    if message.type in ("note_on", "note_off"):
        return False
    return message.type == "set_tempo" or (not message.is_meta and getattr(message, "channel", None) in channels)


def _kit_of(events: Iterable[_Event]) -> Program:
    """The kit that most of the strokes are played on."""
    strokes: Counter[int] = Counter()
    program = 0
    for _, message in events:
        if message.type == "program_change":
            program = message.program
        elif message.type == "note_on" and message.velocity > 0:
            strokes[program] += 1
    return general_midi().kit(strokes.most_common(1)[0][0])


def _main_bpm(clock: _Clock, seconds: float, ticks_per_beat: int) -> float:
    lasting: defaultdict[float, float] = defaultdict(float)
    for start, end, tick_s in zip(clock.seconds, (*clock.seconds[1:], seconds), clock.tick_s, strict=True):
        lasting[tick_s] += max(min(end, seconds) - start, 0.0)
    return 60.0 / (max(lasting, key=lasting.__getitem__) * ticks_per_beat)


def _music_digest(parts: Sequence[MidiPart]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.id.encode())
        for note in part.notes:
            digest.update(f"\n{note.pitch} {round(note.start_s * 1000)} {round(note.duration_s * 1000)}".encode())
    return digest.hexdigest()


def write_part(part: Part, bpm: float) -> bytes:
    """A composed part as a MIDI file of its own: program, pan, tempo and notes, each within 0.05 ms.

    A key that is struck again before it was let go is let go first: MIDI cannot tell two notes of one key apart.
    Brightness and reverb are not written, as General MIDI has no dependable words for them.
    """
    channel = DRUM_CHANNEL if part.role == "drums" else 0
    tempo = round(60e6 / bpm)
    ticks_per_s = 1e6 / tempo * TICKS_PER_BEAT
    head = [
        mido.MetaMessage("set_tempo", tempo=tempo),
        mido.Message("program_change", channel=channel, program=general_midi().house_instruments[part.instrument]),
        mido.Message("control_change", channel=channel, control=10, value=round(64 + 63 * part.timbre.pan)),
    ]
    events = [_Event(0, message) for message in head]
    for start, end, note in _strikes(part.notes, ticks_per_s):
        velocity = velocity_of(note.velocity)
        events.append(_Event(start, mido.Message("note_on", channel=channel, note=note.pitch, velocity=velocity)))
        events.append(_Event(end, mido.Message("note_off", channel=channel, note=note.pitch)))
    return _file(sorted(events, key=lambda event: (event.tick, event.message.type == "note_on")), TICKS_PER_BEAT)


def _strikes(notes: Iterable[Note], ticks_per_s: float) -> list[tuple[int, int, Note]]:
    """Start and end tick of every note; a note ends at the latest where its key is struck again."""
    keys: defaultdict[int, dict[int, Note]] = defaultdict(dict)
    for note in notes:
        keys[note.pitch][round(note.start_s * ticks_per_s)] = note
    strikes = []
    for struck in keys.values():
        starts = sorted(struck)
        for start, following in zip(starts, [*starts[1:], None], strict=True):
            end = max(round((struck[start].start_s + struck[start].duration_s) * ticks_per_s), start + 1)
            strikes.append((start, end if following is None else min(end, following), struck[start]))
    return strikes


def _file(events: Sequence[_Event], ticks_per_beat: int) -> bytes:
    """A MIDI file of one track with these events, which are in order of time."""
    track, tick = mido.MidiTrack(), 0
    for event in events:
        track.append(event.message.copy(time=event.tick - tick))
        tick = event.tick
    buffer = BytesIO()
    mido.MidiFile(type=0, ticks_per_beat=ticks_per_beat, tracks=[track]).save(file=buffer)
    return buffer.getvalue()
