"""The style a part is asked for in: of a prompt, of a recording, or between two; and how alike a part is to it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from models.accompanist import Accompanist
from tasks.play_ask import LONGEST_PROMPT, Ask, Between
from tasks.play_audio import Music, read_music

# Shapes: N samples, B variations, E CLAP width.


@dataclass(frozen=True, kw_only=True)
class Style:
    """Where a style comes from: its embedding (B, E) for the model, and what a part is compared with."""

    style_BE: Tensor | None
    text_1E: Tensor | None = None
    references: tuple[Tensor, ...] = ()
    told: list[dict[str, Any]] = field(default_factory=list)


def style_of(player: Accompanist, ask: Ask) -> Style:
    """The style of prompt, reference or two recordings; none of them is any style."""
    if ask.between and (ask.prompt is not None or ask.reference):
        raise ValueError("a style between two recordings has no prompt and no reference beside it; leave them out")
    if ask.between:
        return _style_between(player, ask.between)
    style = Style(style_BE=None)
    if ask.prompt is not None:
        text_1E = _known(player, ask.prompt)
        style_BE = player.style_of_text(ask.prompt, variations=ask.variations, seed=ask.seed)
        style = Style(style_BE=style_BE, text_1E=text_1E)
    if ask.reference:
        music = read_music(ask.reference, "the reference")
        reference_1E = _audible_style(player, music, "the reference")
        halfway_BE = reference_1E if style.style_BE is None else player.interpolate(style.style_BE, reference_1E, 0.5)
        style = replace(style, style_BE=halfway_BE, references=(reference_1E,), told=[music.told])
    return style


def _style_between(player: Accompanist, between: Between) -> Style:
    music = [read_music(path, "a recording of the style") for path in (between.first, between.second)]
    first_1E, second_1E = (_audible_style(player, one, "a recording of the style") for one in music)
    style_1E = player.interpolate(first_1E, second_1E, between.ratio)
    return Style(style_BE=style_1E, references=(first_1E, second_1E), told=[one.told for one in music])


def _audible_style(player: Accompanist, music: Music, what: str) -> Tensor:
    if music.silent:
        raise ValueError(f"{music.told['file']}: {what} is silent, and silence has no style; give one that sounds")
    return player.style_of_audio(torch.from_numpy(music.audio_2N))


def _known(player: Accompanist, prompt: str) -> Tensor:
    """The embedding (1, E) of a prompt of which the model knows something."""
    if not prompt.strip():
        raise ValueError("the prompt is empty; describe the part in a few words, or leave the prompt out")
    if len(prompt) > LONGEST_PROMPT:
        raise ValueError(
            f"a prompt of {len(prompt):,} characters; describe the part in at most {LONGEST_PROMPT}: a few words, with "
            "commas between them"
        )
    clap = player.clap
    try:
        return clap.embed_text([prompt])
    except ValueError as error:
        raise ValueError(
            f"this model knows no word of the prompt {prompt!r}; describe instrument and sound in English words, such "
            "as 'warm electric bass, slow'"
        ) from error


def likeness(player: Accompanist, stem_2N: Tensor, asked: list[Tensor]) -> list[float]:
    """How alike a part is to each of the embeddings (1, E), by the model's own CLAP on its first 10 s."""
    if not asked:
        return []
    made_1E = player.clap.embed_audio(stem_2N[None]).cpu()
    return [float((made_1E * one_1E.cpu()).sum()) for one_1E in asked]
