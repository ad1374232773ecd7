"""The composer of the embedded corpus: from a seed and an index to a written song with tags, labels and split."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from data_manifests.arrangement import SEATS, choose_roles, choose_sections, section_bars
from data_manifests.harmony import PITCH_NAMES
from data_manifests.notation import Part, Room, Song, SongPlan, Timbre
from data_manifests.players import draw_motif, write_notes
from data_manifests.streams import stream
from data_manifests.styles import STYLES, Figure, Groove, Style
from data_manifests.tags import INSTRUMENT_WORDS, human_tags, tempo_words, timbre_words

LICENCE = "CC0-1.0"
ARTIST = "The Stemwright House Band"
MELODY_FIGURE = Figure("", ("melody", "melodic", "riff"))
SINGING_FIGURE = Figure("", ("singing", "melody", "vocalise"))
HELD_FIGURE = Figure("", ("sustained", "long chords", "legato"))
TITLE_WORDS = (
    ("Amber", "Paper", "Northern", "Quiet", "Electric", "Salt", "Second", "Velvet", "Hollow", "Golden"),
    ("Harbour", "Letters", "Machines", "Summer", "Orchard", "Signals", "Morning", "Bridges", "Lanterns", "Weather"),
)

HARD_NEGATIVES_FROM = 1_000_000
"""Hard negatives draw as if they were the songs from this number on, which no corpus reaches."""

HARD_TEMPO_BPM = 2.9


@dataclass(frozen=True, kw_only=True)
class EmbeddedCorpus:
    """All that determines the embedded corpus. `heldout` of its `songs` are set aside, spread evenly over styles."""

    songs: int
    seconds: float
    seed: int
    heldout: int

    def __post_init__(self) -> None:
        if self.songs < 1 or not 0 <= self.heldout < max(self.songs, 2):
            raise ValueError(f"{self.heldout} held-out songs of {self.songs}: expected 0 <= heldout < songs; lower it")
        if not 4.0 <= self.seconds <= 3600.0:
            raise ValueError(f"songs of {self.seconds} s: expected 4 to 3600 s, enough for a few bars")


def compose(corpus: EmbeddedCorpus, index: int) -> Song:
    """Song `index` of the corpus, a pure function of both; only its split depends on the corpus' size."""
    if not 0 <= index < corpus.songs:
        raise ValueError(f"song {index} of a corpus of {corpus.songs}: expected 0 <= index < songs")
    return _written(corpus, index, plan_song(corpus, index), f"song_{index:04d}")


def compose_hard_negative(corpus: EmbeddedCorpus, index: int) -> Song:
    """The hard negative of song `index`: its style and key, its tempo within 3 BPM, and all else its own.

    The named evaluation subset of datasets.md C.3: its stems fit the song's context by everything but the music.
    """
    song = compose(corpus, index)
    plan = plan_song(corpus, HARD_NEGATIVES_FROM + index, like=song.plan)
    return replace(_written(corpus, plan.index, plan, f"{song.id}_hard"), split=song.split)


def _written(corpus: EmbeddedCorpus, index: int, plan: SongPlan, song_id: str) -> Song:
    """The song of a plan: its parts written out, with a title and tags."""
    words = stream(corpus.seed, index, "words")
    return Song(
        id=song_id,
        title=f"{words.choice(TITLE_WORDS[0])} {words.choice(TITLE_WORDS[1])}",
        split=split_of(corpus, index),
        plan=plan,
        parts=tuple(write_part(plan, role) for role in plan.roles),
        tags=human_tags([(plan.genres, 1.0), (plan.moods, 0.8), (tempo_words(plan.bpm), 0.6)], words),
    )


def style_of(corpus: EmbeddedCorpus, index: int) -> Style:
    """Styles take turns in an order drawn once per seed, so any run of songs has all styles about equally often."""
    order = stream(corpus.seed, "styles").permutation(len(STYLES))
    return STYLES[order[index % len(STYLES)]]


def split_of(corpus: EmbeddedCorpus, index: int) -> str:
    """`heldout` for the last songs of the corpus, else `train`: as styles take turns, each style gives its share."""
    return "heldout" if index >= corpus.songs - corpus.heldout else "train"


def plan_song(corpus: EmbeddedCorpus, index: int, like: SongPlan | None = None) -> SongPlan:
    """What the players of a song agree on: tempo, key, chords, sections, groove, motif, room, and who plays.

    A song `like` another has its style, its key, and its tempo within `HARD_TEMPO_BPM`.
    """
    style = like.style if like else style_of(corpus, index)
    harmony, words = stream(corpus.seed, index, "harmony"), stream(corpus.seed, index, "mood")
    slowest, fastest = (like.bpm - HARD_TEMPO_BPM, like.bpm + HARD_TEMPO_BPM) if like else style.bpm
    bpm = round(float(harmony.uniform(slowest, fastest)), 1)
    tonic = int(harmony.integers(12))
    bar_s = style.beats_per_bar * 60.0 / bpm
    bars_per_section = section_bars(corpus.seconds, bar_s)
    bars = int(np.ceil(corpus.seconds / bar_s - 1e-9))
    return SongPlan(
        seed=corpus.seed,
        index=index,
        seconds=corpus.seconds,
        style=style,
        bpm=bpm,
        tonic=like.tonic if like else tonic,
        degrees=_chord_form(style, bars, harmony),
        bars_per_section=bars_per_section,
        sections=max(1, round(corpus.seconds / (bars_per_section * bar_s))),
        groove=_settle(style.grooves, stream(corpus.seed, index, "groove")),
        motif=draw_motif(4 * style.beats_per_bar, int(harmony.integers(7, 12)), harmony),
        roles=choose_roles(stream(corpus.seed, index, "roles")),
        genres=tuple(str(word) for word in words.choice(style.genres, size=2, replace=False)),
        moods=tuple(str(word) for word in words.choice(style.moods, size=2, replace=False)),
        room=Room(decay_s=float(words.uniform(0.5, 1.6)), damping_hz=float(words.uniform(2500, 8000))),
    )


def _chord_form(style: Style, bars: int, rng: np.random.Generator) -> tuple[int, ...]:
    """One chord degree (0..6) per bar: two loops of the style, verse and chorus, taking turns every four bars."""
    verse, chorus = rng.choice(len(style.loops), size=2, replace=False)
    loops = [[int(degree) - 1 for degree in style.loops[loop].split()] for loop in (verse, chorus)]
    return tuple(loops[bar // 4 % 2][bar % 4] for bar in range(bars))


def _settle(grooves: tuple[Groove, ...], rng: np.random.Generator) -> Groove:
    """One of the style's grooves, each optional hit decided once for the song."""
    groove = grooves[rng.integers(len(grooves))]
    lines = {
        piece: "".join(("x" if rng.random() < 0.5 else ".") if step == "o" else step for step in line)
        for piece, line in groove.lines.items()
    }
    return groove._replace(lines=lines)


def write_part(plan: SongPlan, role: str) -> Part:
    """One player's part: a function of the shared plan and the role, whoever else plays."""
    seat, rng = SEATS[role], stream(plan.seed, plan.index, "part", role)
    instrument = str(rng.choice(plan.style.instruments[role]))
    figure = _choose_figure(plan, role, rng)
    active = choose_sections(role, plan.sections, rng)
    timbre = Timbre(
        brightness=float(rng.uniform(0.0, 1.0)),
        wet=float(rng.uniform(*seat.wet)),
        pan=float(rng.uniform(-seat.pan, seat.pan)),
    )
    level = seat.level * float(rng.uniform(0.8, 1.0))
    notes = write_notes(plan, role, figure, active, stream(plan.seed, plan.index, "notes", role))
    tags = _stem_tags(plan, instrument, figure, timbre)
    return Part(
        id=role, role=role, is_vocal=role == "vocal", instrument=instrument, notes=notes, figure=figure,
        timbre=timbre, level=level, active_sections=active, tags=tags,
    )  # fmt: skip


def _choose_figure(plan: SongPlan, role: str, rng: np.random.Generator) -> Figure:
    match role:
        case "drums":
            return Figure("", plan.groove.words)
        case "bass" | "guitar" | "keys":
            figures: tuple[Figure, ...] = getattr(plan.style, role)
            return figures[rng.integers(len(figures))]
        case "vocal":
            return SINGING_FIGURE
        case "lead":
            return MELODY_FIGURE
        case _:
            return HELD_FIGURE


def _stem_tags(plan: SongPlan, instrument: str, figure: Figure, timbre: Timbre) -> tuple[str, ...]:
    """Tags of one stem, by how often people write them: instrument, then genre, playing, mood, timbre, tempo."""
    names = INSTRUMENT_WORDS[instrument]
    wishes = [(names, 1.0), (names, 0.5), (plan.genres, 0.7), (figure.words, 0.6), (plan.moods, 0.6)]
    wishes += [(timbre_words(timbre), 0.5), (tempo_words(plan.bpm), 0.4)]
    return human_tags(wishes, stream(plan.seed, plan.index, "tags", instrument))


def song_record(song: Song) -> dict[str, Any]:
    """The `song.json` of a song: what a person would know about it, and under `labels` what is true of it.

    Nothing reads `labels` as tags: they are the clean record that evaluation may compare with.
    """
    plan = song.plan
    return {
        "title": song.title,
        "artist": ARTIST,
        "group": song.id,
        "split": song.split,
        "licence": LICENCE,
        "bpm": plan.bpm,
        "key": f"{PITCH_NAMES[plan.tonic]} {plan.style.mode}",
        "style": plan.style.name,
        "tags": list(song.tags),
        "stems": [
            {"file": f"{part.id}.flac", "role": part.role, "is_vocal": part.is_vocal, "tags": list(part.tags)}
            for part in song.parts
        ],
        "labels": {
            "genres": list(plan.genres),
            "moods": list(plan.moods),
            "tempo": tempo_words(plan.bpm)[0],
            "beats_per_bar": plan.style.beats_per_bar,
            "chords": [degree + 1 for degree in plan.degrees],
            "bars_per_section": plan.bars_per_section,
            "stems": {part.id: _part_labels(part) for part in song.parts},
        },
    }


def _part_labels(part: Part) -> dict[str, Any]:
    return {
        "instrument": part.instrument,
        "playing": list(part.figure.words),
        "timbre": {name: round(value, 3) for name, value in part.timbre._asdict().items()},
        "active_sections": list(part.active_sections),
    }
