"""The report's candidates to hear: with their context, soloed or muted in time with it, and beside the real stem.

A window that several arms answered is one player in which all of them are tracks, in a section for each arm: its
context and its real stem lie in the page once, and context and candidate together are no clip of their own. The player
is the studio's. Where no script runs, the same clips are plain <audio> elements.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from pathlib import Path

from tasks.page_figure import figure
from tasks.plots import Audio, spectrogram_plot

ASSETS = Path(__file__).with_name("studio_assets")
ABREAST = 3  # spectrograms that a page is wide enough for
GIVEN = {
    "CLAP_A": "a recording",
    "CLAP_A*": "a drawn style",
    "CLAP_T": "words",
    "ctx": "the music",
    "uncond": "nothing",
}


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A clip to look at and to hear: audio_SN, and the same as MP3."""

    audio_SN: Audio
    mp3: bytes


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one row of the table plays to a window. `place` is why it is shown, and `told` what it scored, in words."""

    arm: str
    inputs: str
    place: str
    told: str
    clip: Clip

    @property
    def name(self) -> str:
        """What it was played from, in a musician's words."""
        return "from " + " and ".join(GIVEN[one] for one in self.inputs.split(","))

    @property
    def note(self) -> str:
        """Its row of the table, why it is shown, and what it scored."""
        return f"{self.inputs}, {self.place}. {self.told}"


@dataclass(frozen=True, kw_only=True)
class Example:
    """A window with what was played to it.

    `context` is None where no answer was given it; `real` is the stem that really belongs there.
    """

    window: str
    tags: str
    rate_hz: int
    context: Clip | None
    real: Clip
    answers: tuple[Answer, ...]


def example_articles(examples: Sequence[Example]) -> str:
    """An article for each window."""
    return "".join(map(_article, examples))


def player_style() -> str:
    """The style of the players."""
    return (ASSETS / "player.css").read_text(encoding="utf-8")


def player_script() -> str:
    """All that the players run, with the licence of what is not ours."""
    licence, *scripts = (
        (ASSETS / name).read_text(encoding="utf-8")
        for name in ("wavesurfer.LICENSE.txt", "wavesurfer.min.js", "clip.js", "player.js", "report_players.js")
    )
    return "\n".join((f"/*! wavesurfer.js\n{licence}*/", *scripts))


def script_digest(script: str) -> str:
    """The digest by which the page lets this one script run and no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _article(example: Example) -> str:
    window = f"window {example.window}"
    context = _clip("context", example.context.mp3, None, window) if example.context else ""
    real = _clip("real stem", example.real.mp3, "", window)
    played = [(arm, list(answers)) for arm, answers in groupby(example.answers, key=lambda answer: answer.arm)]
    arms = [_arm(arm, answers, window, opened=not place) for place, (arm, answers) in enumerate(played)]
    pictures = f"<details><summary>Spectrograms</summary>{_pictures(example)}</details>"
    return (
        f'<article><h3>Window {escape(example.window)}</h3><p class="soft">tags: {escape(example.tags)}</p>'
        f'<div class="players">{context}{real}{"".join(arms)}</div>{pictures}</article>'
    )


def _arm(arm: str, answers: Sequence[Answer], window: str, *, opened: bool) -> str:
    """What an arm's rows played, in a section that opens."""
    clips = "".join(_clip(one.name, one.clip.mp3, one.note, f"{arm}, {window}") for one in answers)
    return f"<details{' open' * opened}><summary>{escape(arm)}</summary>{clips}</details>"


def _clip(name: str, mp3: bytes, told: str | None, whose: str) -> str:
    """One clip; of those of which something is `told` one at a time is heard with the context."""
    data = base64.b64encode(mp3).decode("ascii")
    named = f'aria-label="{escape(f"{name}, {whose}")}" data-name="{escape(name)}"'
    choice = "" if told is None else f' data-told="{escape(told)}"'
    audio = f'<audio controls preload="none" {named}{choice} src="data:audio/mpeg;base64,{data}"></audio>'
    return f'<div><span>{escape(name)}</span>{audio}<p class="soft">{escape(told or "")}</p></div>'


def _pictures(example: Example) -> str:
    """A spectrogram of every clip, each once: what was given, what really belongs there, and the answers."""
    given = {"context": example.context} if example.context else {}
    shown = given | {"real stem": example.real} | {f"{one.arm} / {one.inputs}": one.clip for one in example.answers}
    names = list(shown)
    pictures = [names[place : place + ABREAST] for place in range(0, len(names), ABREAST)]
    return "".join(
        figure(
            spectrogram_plot({name: shown[name].audio_SN for name in abreast}, rate_hz=example.rate_hz),
            f"Spectrograms for window {example.window}: {', '.join(abreast)}",
            "",
        )
        for abreast in pictures
    )
