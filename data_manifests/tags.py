"""The words people write about stems: unordered, inconsistent, incomplete, now and then misspelt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from data_manifests.notation import Timbre

MISSING = 0.1
"""Share of tags that a person would have written and did not (reference/datasets.md C.2)."""
MISSPELT = 0.03

INSTRUMENT_WORDS = {
    "acoustic kit": ("drums", "drum kit", "acoustic drums", "live drums"),
    "brush kit": ("drums", "brushes", "brushed drums", "jazz drums"),
    "drum machine": ("drums", "drum machine", "electronic drums", "808", "beat"),
    "fingered bass": ("bass", "bass guitar", "electric bass", "fingered bass"),
    "picked bass": ("bass", "bass guitar", "picked bass", "electric bass"),
    "upright bass": ("bass", "upright bass", "double bass", "acoustic bass", "contrabass"),
    "synth bass": ("bass", "synth bass", "bass synth", "bassline"),
    "sub bass": ("bass", "sub bass", "sub", "808 bass"),
    "acoustic guitar": ("guitar", "acoustic guitar", "steel string guitar", "gtr"),
    "nylon guitar": ("guitar", "nylon guitar", "classical guitar", "spanish guitar"),
    "clean guitar": ("guitar", "electric guitar", "clean guitar", "gtr"),
    "muted guitar": ("guitar", "electric guitar", "muted guitar", "rhythm guitar"),
    "distorted guitar": ("guitar", "electric guitar", "distorted guitar", "overdriven guitar", "distortion"),
    "piano": ("piano", "grand piano", "keys", "acoustic piano"),
    "electric piano": ("electric piano", "rhodes", "keys", "e-piano"),
    "organ": ("organ", "hammond organ", "keys", "hammond"),
    "clavinet": ("clavinet", "clav", "keys"),
    "string ensemble": ("strings", "string section", "violins", "orchestral strings"),
    "warm pad": ("pad", "synth pad", "analog pad", "synth"),
    "glass pad": ("pad", "synth pad", "glass pad", "shimmering pad"),
    "synth lead": ("synth lead", "lead synth", "lead", "saw lead", "synth"),
    "flute": ("flute", "woodwind", "wind"),
    "trumpet": ("trumpet", "brass", "horn"),
    "vibraphone": ("vibraphone", "vibes", "mallets"),
    "marimba": ("marimba", "mallets", "mallet percussion"),
    "female voice": ("female vocals", "vocals", "singer", "voice"),
    "male voice": ("male vocals", "vocals", "singer", "voice"),
}
"""What people call each instrument; the first word is often the family's."""


def tempo_words(bpm: float) -> tuple[str, ...]:
    """Words for a tempo: slow below 86, fast from 120 beats per minute, mid-tempo between; then the number itself."""
    if bpm < 86:
        return ("slow", "downtempo", f"{bpm:.0f} bpm")
    if bpm < 120:
        return ("mid-tempo", "medium tempo", f"{bpm:.0f} bpm")
    return ("fast", "uptempo", f"{bpm:.0f} bpm")


def timbre_words(timbre: Timbre) -> tuple[str, ...]:
    """Words for what is heard of brightness and reverb; a sound in the middle gets none."""
    words: list[str] = []
    if timbre.brightness > 0.62:
        words += ["bright", "crisp"]
    elif timbre.brightness < 0.38:
        words += ["warm", "mellow"]
    if timbre.wet > 0.35:
        words += ["reverb", "spacious"]
    elif timbre.wet < 0.12:
        words += ["dry"]
    return tuple(words)


def human_tags(wishes: Iterable[tuple[Sequence[str], float]], rng: np.random.Generator) -> tuple[str, ...]:
    """A tag list as a person leaves it: from each group of words one with the given probability, in random order.

    About one in ten is missing, a list has its own habit of upper and lower case, a few words are misspelt. At least
    one tag is there: the first group's first word.
    """
    wishes = list(wishes)
    drawn = [str(rng.choice(words)) for words, probability in wishes if words and rng.random() < probability]
    kept = [tag for tag in dict.fromkeys(drawn) if rng.random() >= MISSING] or [wishes[0][0][0]]
    habit = (str.lower, str.title, str.upper)[rng.choice(3, p=[0.75, 0.18, 0.07])]
    return tuple(_misspell(habit(kept[place]), rng) for place in rng.permutation(len(kept)))


def _misspell(tag: str, rng: np.random.Generator) -> str:
    """The tag, rarely with two neighbouring letters swapped or one lost."""
    if len(tag) < 5 or rng.random() >= MISSPELT:
        return tag
    place = int(rng.integers(1, len(tag) - 2))
    if rng.random() < 0.5:
        return tag[:place] + tag[place + 1 :]
    return tag[:place] + tag[place + 1] + tag[place] + tag[place + 2 :]
