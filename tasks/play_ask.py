"""What a musician asks for: the music, the style, what is to be done with a stem, and the controls."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

LONGEST_PROMPT = 500
BEATS_OF_A_BAR = 4


@dataclass(frozen=True, kw_only=True)
class Inpaint:
    """A part of a stem made anew."""

    stem: Path
    start_s: float
    stop_s: float


@dataclass(frozen=True, kw_only=True)
class Vary:
    """A stem played a little differently."""

    stem: Path
    strength: float


@dataclass(frozen=True, kw_only=True)
class GoOn:
    """A stem continued to the end of the music."""

    stem: Path


@dataclass(frozen=True, kw_only=True)
class Loop:
    """A loop of so many seconds, repeated over the music."""

    period_s: float

    @classmethod
    def of_bars(cls, bars: float, tempo: float) -> Self:
        """A loop of so many bars at a tempo in beats a minute."""
        return cls(period_s=bars * BEATS_OF_A_BAR * 60 / tempo)


@dataclass(frozen=True, kw_only=True)
class Between:
    """A style on the way from one recording to another."""

    first: Path
    second: Path
    ratio: float


Edit = Inpaint | Vary | GoOn | Loop


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What a musician asks for. None is absent: no context, no prompt, nothing edited; of a control, the arm's own.

    `seconds` is how long to play where there is no context. A prompt and a reference together mean the style halfway
    between them (ours).
    """

    context: Path | None = None
    prompt: str | None = None
    reference: Path | None = None
    between: Between | None = None
    edit: Edit | None = None
    seconds: float | None = None
    variations: int = 1
    seed: int = 0
    steps: int | None = None
    guide_context: float | None = None
    guide_clap: float | None = None
    stereo_width: float | None = None
