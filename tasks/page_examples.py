"""The report's candidates to hear: with their context, soloed or muted in time with it, and beside the real stem.

A window that several arms answered is one player in which all of them are tracks: its context and its real stem lie in
the page once, and context and candidate together are no clip of their own. The player is the studio's. Where no script
runs, the same clips are plain <audio> elements.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from tasks.page_figure import figure
from tasks.plots import Audio, spectrogram_plot

ASSETS = Path(__file__).with_name("studio_assets")


@dataclass(frozen=True, kw_only=True)
class Example:
    """One candidate to listen to and look at, with what it was made for.

    Audio is audio_SN at `rate_hz` for the pictures and MP3 bytes for the players. `context_*` are None in rows that are
    given no context. `real_*` is the stem that really belongs there. `place` is why it is shown, and `told` what it
    scored, in words.
    """

    arm: str
    inputs: str
    place: str
    told: str
    window: str
    tags: str
    rate_hz: int
    context_SN: Audio | None
    candidate_SN: Audio
    real_SN: Audio
    context_mp3: bytes | None
    candidate_mp3: bytes
    real_mp3: bytes

    @property
    def name(self) -> str:
        """Its arm, its row, and why it is shown."""
        return f"{self.arm} / {self.inputs}, {self.place}"

    @property
    def clips(self) -> dict[str, Audio]:
        """What there is to look at, by name."""
        named = {"context": self.context_SN, "candidate": self.candidate_SN, "real stem": self.real_SN}
        return {name: audio_SN for name, audio_SN in named.items() if audio_SN is not None}


def example_articles(examples: Sequence[Example]) -> str:
    """An article for each window, in the order in which they are first shown."""
    windows: dict[str, list[Example]] = {}
    for example in examples:
        windows.setdefault(example.window, []).append(example)
    return "".join(_article(window, answers) for window, answers in windows.items())


def player_style() -> str:
    """The style of the players."""
    return (ASSETS / "player.css").read_text(encoding="utf-8")


def player_script() -> str:
    """All that the players run, with the licence of what is not ours."""
    licence, *scripts = (
        (ASSETS / name).read_text(encoding="utf-8")
        for name in ("wavesurfer.LICENSE.txt", "wavesurfer.min.js", "player.js", "report_players.js")
    )
    return "\n".join((f"/*! wavesurfer.js\n{licence}*/", *scripts))


def script_digest(script: str) -> str:
    """The digest by which the page lets this one script run and no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _article(window: str, answers: Sequence[Example]) -> str:
    first = answers[0]
    context_mp3 = next((one.context_mp3 for one in answers if one.context_mp3 is not None), None)
    clips = [
        *([_clip("context", context_mp3, window)] if context_mp3 is not None else []),
        *(_clip(answer.name, answer.candidate_mp3, window, choice=True) for answer in answers),
        _clip("real stem", first.real_mp3, window, choice=True),
    ]
    return (
        f'<article><h3>Window {escape(window)}</h3><p class="soft">tags: {escape(first.tags)}</p>'
        f'<div class="players">{"".join(clips)}</div>{"".join(map(_seen, answers))}</article>'
    )


def _clip(name: str, mp3: bytes, window: str, *, choice: bool = False) -> str:
    """One clip; of the choices one at a time is heard with the context."""
    data = base64.b64encode(mp3).decode("ascii")
    told = f'aria-label="{escape(f"{name}, window {window}")}" data-name="{escape(name)}"'
    kind = " data-choice" if choice else ""
    audio = f'<audio controls preload="none" {told}{kind} src="data:audio/mpeg;base64,{data}"></audio>'
    return f"<div><span>{escape(name)}</span>{audio}</div>"


def _seen(example: Example) -> str:
    clips = example.clips
    alternative = f"Spectrograms for {example.name}, window {example.window}: {', '.join(clips)}"
    told = f'<p class="soft"><strong>{escape(example.name)}.</strong> {escape(example.told)}</p>'
    return told + figure(spectrogram_plot(clips, rate_hz=example.rate_hz), alternative, "")
