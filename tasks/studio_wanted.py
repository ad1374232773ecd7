"""What the studio's page asks for: `tasks.play_ask` with dropped files in the place of paths. The bounds are ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from tasks.play_ask import LONGEST_PROMPT, Ask, Between, Edit, GoOn, Inpaint, Loop, Vary
from tasks.play_audio import LONGEST_S, SHORTEST_S
from tasks.studio_history import SOUND

Sound = Annotated[str, Field(pattern=f"^{SOUND}$")]
FileOf = Callable[[str], Path]


class _Wanted(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class WantedInpaint(_Wanted):
    """A part of a stem made anew."""

    kind: Literal["inpaint"]
    stem: Sound
    start_s: float = Field(ge=0, le=LONGEST_S)
    stop_s: float = Field(ge=0, le=LONGEST_S)


class WantedVary(_Wanted):
    """A stem played a little differently."""

    kind: Literal["vary"]
    stem: Sound
    strength: float = Field(ge=0, le=1)


class WantedGoOn(_Wanted):
    """A stem continued to the end of the music."""

    kind: Literal["continue"]
    stem: Sound


class WantedLoop(_Wanted):
    """A loop of so many bars, repeated over the music."""

    kind: Literal["loop"]
    bars: float = Field(gt=0, le=64)
    tempo: float = Field(ge=20, le=400)


class WantedBetween(_Wanted):
    """A style on the way from one recording to another."""

    first: Sound
    second: Sound
    ratio: float = Field(ge=0, le=1)


WantedEdit = Annotated[WantedInpaint | WantedVary | WantedGoOn | WantedLoop, Field(discriminator="kind")]


class Wanted(_Wanted):
    """As `tasks.play_ask.Ask`."""

    context: Sound | None = None
    prompt: str | None = Field(None, max_length=LONGEST_PROMPT)
    reference: Sound | None = None
    between: WantedBetween | None = None
    edit: WantedEdit | None = None
    seconds: float | None = Field(None, ge=SHORTEST_S, le=LONGEST_S)
    variations: int = Field(4, ge=1, le=8)
    seed: int = Field(0, ge=0, lt=2**53)  # a browser's whole numbers end there
    steps: int | None = Field(None, ge=1, le=200)
    guide_context: float | None = Field(None, ge=0, le=20)
    guide_clap: float | None = Field(None, ge=0, le=20)
    stereo_width: float | None = Field(None, ge=0, le=1)

    @property
    def sounds(self) -> tuple[str, ...]:
        """Every dropped file it is about."""
        stem = None if self.edit is None or isinstance(self.edit, WantedLoop) else self.edit.stem
        between = (self.between.first, self.between.second) if self.between else ()
        return tuple(sound for sound in (self.context, self.reference, *between, stem) if sound)

    def ask(self, file_of: FileOf) -> Ask:
        """The same with the files' paths."""
        return Ask(
            context=file_of(self.context) if self.context else None,
            prompt=self.prompt,
            reference=file_of(self.reference) if self.reference else None,
            between=_between(self.between, file_of) if self.between else None,
            edit=_edit(self.edit, file_of) if self.edit else None,
            seconds=self.seconds,
            variations=self.variations,
            seed=self.seed,
            steps=self.steps,
            guide_context=self.guide_context,
            guide_clap=self.guide_clap,
            stereo_width=self.stereo_width,
        )


def _between(between: WantedBetween, file_of: FileOf) -> Between:
    return Between(first=file_of(between.first), second=file_of(between.second), ratio=between.ratio)


def _edit(edit: WantedInpaint | WantedVary | WantedGoOn | WantedLoop, file_of: FileOf) -> Edit:
    match edit:
        case WantedInpaint():
            return Inpaint(stem=file_of(edit.stem), start_s=edit.start_s, stop_s=edit.stop_s)
        case WantedVary():
            return Vary(stem=file_of(edit.stem), strength=edit.strength)
        case WantedGoOn():
            return GoOn(stem=file_of(edit.stem))
        case WantedLoop():
            return Loop.of_bars(edit.bars, edit.tempo)
