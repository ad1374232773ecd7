"""The style table of the embedded corpus: what each style fixes, as data.

Figures and grooves are written in sixteenths; spaces only group them. In a drum line `X` is an accent, `x` a hit,
`g` a ghost note, `o` a hit that half of the songs have. In a chord figure `C` is an accented chord, `c` a chord, `m` a
muted one and `1`..`4` a single voice from below; in a bass figure `1 3 5 8` are chord tones, `a` leads into the next
root and the word `kick` puts the root on every kick. `-` holds, `.` rests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Figure(NamedTuple):
    """A rhythm that one player repeats, and the words people have for playing so."""

    steps: str
    words: tuple[str, ...]


class Groove(NamedTuple):
    """A drum pattern: one line of steps per piece of the kit."""

    lines: Mapping[str, str]
    words: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Style:
    """What all songs of one style have in common.

    `swing` is where the off-beat falls between two beats (0.5 straight, 0.67 triplet), counted in notes of
    1/`swing_unit`. `loops` are chord progressions of one degree (1..7) per bar. `instruments` lists, per role, what
    may play it; each instrument and each mood occurs in several styles, so that no word gives the style away.
    """

    name: str
    genres: tuple[str, ...]
    moods: tuple[str, ...]
    bpm: tuple[float, float]
    mode: str
    loops: tuple[str, ...]
    grooves: tuple[Groove, ...]
    bass: tuple[Figure, ...]
    guitar: tuple[Figure, ...]
    keys: tuple[Figure, ...]
    instruments: Mapping[str, tuple[str, ...]]
    beats_per_bar: int = 4
    sevenths: bool = False
    swing: float = 0.5
    swing_unit: int = 16


STRUM = Figure("C.c.c.mc C.c.c.mc", ("strummed", "strumming"))
EIGHTHS = Figure("C.c.c.c. C.c.c.c.", ("eighth notes", "driving"))
ARPEGGIO = Figure("1.2.3.4. 3.2.3.2.", ("arpeggio", "picked", "fingerpicked"))
FAST_ARPEGGIO = Figure("1213 1213 2324 2324", ("arpeggio", "sequenced"))
HELD = Figure("C------- c-------", ("chords", "sustained"))
BROKEN = Figure("1.2.3.4. 3.2.3.2.", ("arpeggio", "broken chords"))
OFFBEAT = Figure("..C- ..C- ..C- ..C-", ("offbeat", "stabs"))
CHARLESTON = Figure("C--. ..C. .... ....", ("comping", "syncopated"))
PULSE = Figure("C--- c--- c--- c---", ("quarter notes", "comping"))
PUSHED = Figure("C--- ..c- ---- c-..", ("syncopated", "chords"))
ON_THE_KICK = Figure("kick", ("tight", "locked with the kick"))
BASS_EIGHTHS = Figure("1-1-1-1- 1-1-1-a-", ("driving", "eighth notes"))
BASS_OCTAVES = Figure("1.8.1.8. 1.8.1.8.", ("octaves", "bouncing"))
BASS_LONG = Figure("1------- 5---1---", ("long notes", "simple"))
WALKING = Figure("1---3--- 5---a---", ("walking bass", "walking"))


# A table: one value per line would hide the styles from each other.
# fmt: off
STYLES = (
    Style(
        name="rock", genres=("rock", "classic rock", "indie rock", "alternative"),
        moods=("energetic", "powerful", "happy"),
        bpm=(112, 146), mode="mixolydian", loops=("1 7 4 1", "1 4 7 4", "1 5 4 4", "6 4 1 7"),
        grooves=(
            Groove({"kick": "X... ..o. X.x. ....", "snare": ".... X... .... X...", "hat": "X.x. X.x. X.x. X.x."},
                   ("straight beat", "backbeat")),
            Groove({"kick": "X..x ..x. ..X. ..o.", "snare": ".... X... .... X..g", "ride": "X.x. x.x. X.x. x.x."},
                   ("driving beat", "backbeat")),
        ),
        bass=(ON_THE_KICK, BASS_EIGHTHS),
        guitar=(EIGHTHS, STRUM),
        keys=(HELD, PULSE),
        instruments={
            "drums": ("acoustic kit",), "bass": ("picked bass", "fingered bass"),
            "guitar": ("distorted guitar", "clean guitar"), "keys": ("organ", "piano"),
            "strings": ("string ensemble",), "pad": ("warm pad",), "lead": ("synth lead", "trumpet"),
            "vocal": ("male voice", "female voice"),
        },
    ),
    Style(
        name="pop", genres=("pop", "dance pop", "indie pop"), moods=("happy", "uplifting", "romantic"),
        bpm=(94, 122), mode="major", loops=("1 5 6 4", "6 4 1 5", "1 6 4 5", "4 1 5 6"),
        grooves=(
            Groove({"kick": "X... ..x. ..x. ....", "clap": ".... X... .... X...", "hat": "x.x. x.x. x.xx x.x."},
                   ("pop beat", "backbeat")),
            Groove({"kick": "X... X... X... X.o.", "snare": ".... X... .... X...", "shaker": "xgxg xgxg xgxg xgxg"},
                   ("four on the floor", "dance beat")),
        ),
        bass=(ON_THE_KICK, BASS_EIGHTHS, BASS_OCTAVES),
        guitar=(STRUM, ARPEGGIO, Figure("m.m. C.m. m.m. C.mm", ("muted", "rhythmic"))),
        keys=(PULSE, PUSHED, BROKEN),
        instruments={
            "drums": ("acoustic kit", "drum machine"), "bass": ("fingered bass", "synth bass"),
            "guitar": ("acoustic guitar", "clean guitar"), "keys": ("piano", "electric piano"),
            "strings": ("string ensemble",), "pad": ("warm pad", "glass pad"), "lead": ("synth lead", "marimba"),
            "vocal": ("female voice", "male voice"),
        },
    ),
    Style(
        name="funk", genres=("funk", "soul", "disco"), moods=("groovy", "happy", "energetic"),
        bpm=(94, 116), mode="dorian", sevenths=True, swing=0.54, loops=("1 4 1 4", "1 1 4 4", "1 7 4 1", "2 5 1 1"),
        grooves=(
            Groove({"kick": "X..x ..x. ..x. .o..", "snare": ".... X..g .g.. X..g", "hat": "xxxx xxxx xxxx xx.x",
                    "ohat": ".... .... .... ..x."}, ("funky drummer", "syncopated")),
            Groove({"kick": "X.x. .... ..xx ....", "snare": ".g.. X.g. .g.x X...", "hat": "x.x. x.x. x.x. x.x."},
                   ("funk beat", "broken beat")),
        ),
        bass=(ON_THE_KICK, Figure("1..1 ..8. 1.5. 8.a.", ("slap bass", "syncopated"))),
        guitar=(Figure("mmC. mmC. mCm. mmC.", ("funky", "muted", "scratching")),
                Figure("..C. ..m. C..m ..C.", ("stabs",))),
        keys=(Figure("C..c ..c. .c.. c...", ("clav riff", "syncopated")), CHARLESTON),
        instruments={
            "drums": ("acoustic kit",), "bass": ("fingered bass", "picked bass"),
            "guitar": ("clean guitar", "muted guitar"), "keys": ("clavinet", "electric piano", "organ"),
            "strings": ("string ensemble",), "pad": ("warm pad",), "lead": ("trumpet", "synth lead"),
            "vocal": ("female voice", "male voice"),
        },
    ),
    Style(
        name="house", genres=("house", "deep house", "electronic", "edm"), moods=("energetic", "groovy", "dreamy"),
        bpm=(118, 128), mode="minor", sevenths=True, loops=("1 6 3 7", "1 4 6 5", "6 7 1 1", "1 3 4 6"),
        grooves=(
            Groove({"kick": "X... X... X... X...", "clap": ".... X... .... X...", "ohat": "..x. ..x. ..x. ..x.",
                    "shaker": "xgxg xgxg xgxg xgxg"}, ("four on the floor", "house beat")),
            Groove({"kick": "X... X... X... X..o", "rim": "...x ..x. ...x ..x.", "hat": "xxXx xxXx xxXx xxXx"},
                   ("four on the floor", "club beat")),
        ),
        bass=(Figure("..1. ..1. ..1. ..8.", ("offbeat", "bouncing")), BASS_OCTAVES,
              Figure("1..1 ..1. .1.. 1.8.", ("rolling",))),
        guitar=(Figure("m.mC m.m. m.mC m.C.", ("muted", "rhythmic")), OFFBEAT),
        keys=(OFFBEAT, CHARLESTON, PUSHED),
        instruments={
            "drums": ("drum machine",), "bass": ("synth bass", "sub bass"),
            "guitar": ("muted guitar", "clean guitar"), "keys": ("piano", "organ", "electric piano"),
            "strings": ("string ensemble",), "pad": ("warm pad", "glass pad"),
            "lead": ("synth lead", "marimba", "flute"), "vocal": ("female voice",),
        },
    ),
    Style(
        name="ballad", genres=("ballad", "soft rock", "singer songwriter"), moods=("sad", "romantic", "calm"),
        bpm=(64, 84), mode="major", loops=("1 5 6 4", "6 4 1 5", "1 3 4 4", "4 5 3 6"),
        grooves=(
            Groove({"kick": "X... ...x x... ....", "snare": ".... X... .... X...", "hat": "x.x. x.x. x.x. x.x."},
                   ("slow beat", "soft")),
            Groove({"kick": "X... .... x.x. ....", "rim": ".... X... .... X...", "ride": "x.x. x.x. x.x. x.x."},
                   ("sparse beat", "soft")),
        ),
        bass=(BASS_LONG, ON_THE_KICK),
        guitar=(ARPEGGIO, STRUM),
        keys=(PULSE, Figure("1-2-3-4- 3-2-3-2-", ("arpeggio", "broken chords")), HELD),
        instruments={
            "drums": ("acoustic kit", "brush kit"), "bass": ("fingered bass", "upright bass"),
            "guitar": ("acoustic guitar", "nylon guitar", "clean guitar"), "keys": ("piano", "electric piano"),
            "strings": ("string ensemble",), "pad": ("warm pad", "glass pad"), "lead": ("flute", "vibraphone"),
            "vocal": ("female voice", "male voice"),
        },
    ),
    Style(
        name="reggae", genres=("reggae", "dub", "ska"), moods=("relaxed", "groovy", "uplifting"),
        bpm=(70, 92), mode="mixolydian", swing=0.56, loops=("1 4 1 4", "1 7 1 7", "1 5 4 4", "2 1 2 5"),
        grooves=(
            Groove({"kick": ".... .... X... ....", "rim": ".... .... X... ...g", "hat": "x.xx x.x. x.xx x.x."},
                   ("one drop", "reggae beat")),
            Groove({"kick": "X... X... X... X...", "snare": ".... .... X... ....", "hat": "x.x. x.xx x.x. x.xx"},
                   ("steppers", "four on the floor")),
        ),
        bass=(Figure("1--. 1.3. 5--. ....", ("dub bass", "melodic")),
              Figure("..1. 1--- 5-3- 1---", ("deep", "melodic"))),
        guitar=(Figure("..C. ..C. ..C. ..C.", ("skank", "offbeat", "chops")),
                Figure("..Cm ..C. ..Cm ..C.", ("skank", "offbeat"))),
        keys=(Figure("..c. ..cc ..c. ..cc", ("bubble", "offbeat")), OFFBEAT),
        instruments={
            "drums": ("acoustic kit",), "bass": ("fingered bass", "sub bass"),
            "guitar": ("muted guitar", "clean guitar"), "keys": ("organ", "piano", "clavinet"),
            "strings": ("string ensemble",), "pad": ("warm pad",), "lead": ("trumpet", "flute"),
            "vocal": ("male voice", "female voice"),
        },
    ),
    Style(
        name="jazz", genres=("jazz", "swing", "bebop"), moods=("relaxed", "romantic", "playful"),
        bpm=(116, 164), mode="major", sevenths=True, swing=0.66, swing_unit=8,
        loops=("2 5 1 1", "1 6 2 5", "3 6 2 5", "4 7 3 6"),
        grooves=(
            Groove({"ride": "X... x.x. X... x.x.", "hat": ".... X... .... X...", "kick": "g... g... g... g.o.",
                    "snare": ".... ..g. .o.. ...."}, ("swing", "ride pattern")),
            Groove({"snare": "x... X.x. x... X.x.", "hat": ".... X... .... X...", "kick": "x... .... x... ...."},
                   ("brushes", "swing")),
        ),
        bass=(WALKING, Figure("1---5--- 8---a---", ("walking bass", "walking"))),
        guitar=(PULSE, CHARLESTON),
        keys=(CHARLESTON, Figure("..C. .... ..c- ....", ("comping", "syncopated"))),
        instruments={
            "drums": ("brush kit", "acoustic kit"), "bass": ("upright bass",),
            "guitar": ("clean guitar", "nylon guitar"), "keys": ("piano", "organ"), "strings": ("string ensemble",),
            "pad": ("warm pad",), "lead": ("trumpet", "vibraphone", "flute"), "vocal": ("female voice", "male voice"),
        },
    ),
    Style(
        name="synthwave", genres=("synthwave", "retrowave", "80s", "electronic"),
        moods=("dreamy", "dark", "powerful"),
        bpm=(82, 112), mode="minor", loops=("1 6 3 7", "1 7 6 7", "6 7 1 1", "1 3 7 6"),
        grooves=(
            Groove({"kick": "X... .... X... ....", "snare": ".... X... .... X...", "hat": "x.x. x.x. x.x. x.xx"},
                   ("gated drums", "backbeat")),
            Groove({"kick": "X... X... X... X...", "snare": ".... X... .... X...", "hat": "xxxx xxxx xxxx xxxx",
                    "tom": ".... .... .... ..oo"}, ("four on the floor", "retro beat")),
        ),
        bass=(Figure("1111 1111 1111 1111", ("sixteenth notes", "pulsing")), BASS_OCTAVES),
        guitar=(Figure("mmmm mmmm mmmm mmmm", ("palm muted", "chugging")), HELD),
        keys=(FAST_ARPEGGIO, HELD, PUSHED),
        instruments={
            "drums": ("drum machine",), "bass": ("synth bass", "sub bass"),
            "guitar": ("distorted guitar", "clean guitar", "muted guitar"), "keys": ("electric piano", "organ"),
            "strings": ("string ensemble",), "pad": ("warm pad", "glass pad"), "lead": ("synth lead",),
            "vocal": ("female voice", "male voice"),
        },
    ),
    Style(
        name="hip-hop", genres=("hip hop", "boom bap", "lo-fi", "trap"), moods=("dark", "relaxed", "groovy"),
        bpm=(76, 98), mode="minor", sevenths=True, swing=0.58, loops=("1 4 1 4", "1 6 4 5", "2 5 1 1", "1 1 6 7"),
        grooves=(
            Groove({"kick": "X..o ..x. .xX. ....", "snare": ".... X..g .... X...", "hat": "x.x. x.x. x.x. x.x."},
                   ("boom bap", "laid back")),
            Groove({"kick": "X... ...x ..x. ....", "clap": ".... .... X... ....", "hat": "x.xx x.x. xxx. xxxx"},
                   ("trap beat", "half time")),
        ),
        bass=(ON_THE_KICK, Figure("1--. .... ..1. 1-a.", ("deep", "sparse"))),
        guitar=(ARPEGGIO, CHARLESTON),
        keys=(HELD, Figure("C--. ..c- --.. ....", ("sampled chords", "sparse")), BROKEN),
        instruments={
            "drums": ("drum machine", "acoustic kit"), "bass": ("sub bass", "fingered bass", "upright bass"),
            "guitar": ("nylon guitar", "clean guitar"), "keys": ("electric piano", "piano"),
            "strings": ("string ensemble",), "pad": ("warm pad", "glass pad"),
            "lead": ("vibraphone", "flute", "synth lead"), "vocal": ("male voice", "female voice"),
        },
    ),
    Style(
        name="bossa", genres=("bossa nova", "latin", "brazilian"), moods=("romantic", "relaxed", "calm"),
        bpm=(108, 138), mode="major", sevenths=True, loops=("1 2 5 1", "2 5 1 6", "1 4 3 6", "6 2 5 1"),
        grooves=(
            Groove({"kick": "X..x X..x X..x X..x", "rim": "X..x ..x. ..x. .x..", "shaker": "xgxg xgxg xgxg xgxg"},
                   ("bossa beat", "clave")),
            Groove({"kick": "X... x..x X... x..x", "rim": "x... ..x. ..x. ..x.", "hat": "x.x. x.x. x.x. x.x.",
                    "conga": "..o. ...x ..o. ..xx"}, ("latin groove", "syncopated")),
        ),
        bass=(Figure("1--5 5--5 1--5 5--a", ("root and fifth", "syncopated")), BASS_LONG),
        guitar=(Figure("C..C ..C. ..C. C...", ("bossa rhythm", "fingerpicked")),
                Figure("1.c. .1c. 1.c. .1c.", ("fingerpicked",))),
        keys=(CHARLESTON, Figure("..C- ..c- .c-- ....", ("comping", "syncopated"))),
        instruments={
            "drums": ("brush kit", "acoustic kit"), "bass": ("upright bass", "fingered bass"),
            "guitar": ("nylon guitar", "acoustic guitar"), "keys": ("electric piano", "piano"),
            "strings": ("string ensemble",), "pad": ("warm pad",), "lead": ("flute", "vibraphone", "marimba"),
            "vocal": ("female voice",),
        },
    ),
    Style(
        name="metal", genres=("metal", "heavy metal", "hard rock"), moods=("dark", "powerful", "energetic"),
        bpm=(128, 164), mode="minor", loops=("1 6 7 1", "1 1 6 7", "1 4 6 5", "1 7 6 5"),
        grooves=(
            Groove({"kick": "XxXx ..Xx XxXx ..Xx", "snare": ".... X... .... X...", "ride": "x.x. x.x. x.x. x.x."},
                   ("double kick", "heavy")),
            Groove({"kick": "X.xx ..xx X.xx ..xx", "snare": ".... .... X... ....", "ohat": "X... x... X... x..."},
                   ("half time", "breakdown")),
        ),
        bass=(ON_THE_KICK, BASS_EIGHTHS),
        guitar=(Figure("Cmmm C.mm Cmmm C.c.", ("palm muted", "riff")), EIGHTHS),
        keys=(HELD, FAST_ARPEGGIO),
        instruments={
            "drums": ("acoustic kit",), "bass": ("picked bass",), "guitar": ("distorted guitar",),
            "keys": ("organ", "piano"), "strings": ("string ensemble",), "pad": ("glass pad", "warm pad"),
            "lead": ("synth lead",), "vocal": ("male voice",),
        },
    ),
    Style(
        name="waltz", genres=("folk", "waltz", "acoustic"), moods=("calm", "playful", "sad"),
        beats_per_bar=3, bpm=(92, 132), mode="major", loops=("1 5 1 4", "1 6 4 5", "6 3 4 5", "1 4 5 1"),
        grooves=(
            Groove({"kick": "X... .... ....", "rim": ".... x... x...", "hat": "x.x. x.x. x.x."},
                   ("waltz", "three four")),
            Groove({"kick": "X... .... ..o.", "snare": ".... x... x..g", "shaker": "x.xg x.xg x.xg"},
                   ("waltz", "brushes")),
        ),
        bass=(Figure("1------- ....", ("simple", "long notes")), Figure("1--- ---- 5---", ("long notes",))),
        guitar=(Figure("1... c... c...", ("oom pah pah", "fingerpicked")),
                Figure("1.2. 3.4. 3.2.", ("arpeggio", "picked"))),
        keys=(Figure(".... c--- c---", ("waltz chords", "offbeat")),
              Figure("C--- ---- ----", ("long chords", "sustained"))),
        instruments={
            "drums": ("brush kit", "acoustic kit"), "bass": ("upright bass", "fingered bass"),
            "guitar": ("acoustic guitar", "nylon guitar"), "keys": ("piano", "organ"),
            "strings": ("string ensemble",), "pad": ("warm pad",), "lead": ("flute", "marimba"),
            "vocal": ("female voice", "male voice"),
        },
    ),
)
# fmt: on
