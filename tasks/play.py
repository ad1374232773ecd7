"""Playing along with files: a stem for each variation, a mix to listen to, and all that repeats it.

`play_along` is the whole of `stemwright play` but for its options; a page can call it just so.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from data_manifests.schema import RATE_HZ
from models.accompanist import Accompanist, Controls, Heard, Take, Wish
from tasks.audio_bytes import headroom_gain, wav_bytes
from tasks.fingerprint import canonical
from tasks.play_ask import Ask, Edit, GoOn, Inpaint, Loop, Vary
from tasks.play_audio import SHORTEST_S, Music, mixed, read_music
from tasks.play_style import Style, likeness, style_of
from tasks.runtime import package_versions
from tasks.whole_files import new_folder

# Shapes: N samples.

TOLD = "play.json"
NO_ADHERENCE = "adherence (APA) compares sets of mixtures: one part by itself has none"


class _Material(NamedTuple):
    """What was read: the music that is heard, the stem that is edited, and what is to be said of either."""

    heard: Heard
    context: Music | None
    stem: Music | None
    notes: list[str]


def play_along(
    player: Accompanist, ask: Ask, out: Path, told: Callable[[str, float], None] = lambda stage, share: None
) -> dict[str, Any]:
    """Play what was asked for into the new folder `out`; what is written into its `play.json`.

    `told` is given the stage, which is listening, playing or writing, and its done share. Raises ValueError in a
    musician's words, and FullDisk; nothing is left behind then.
    """
    with new_folder(out) as scratch:
        controls = _controls(player, ask)
        told("listening", 0.0)
        material = _material(player, ask, lambda share: told("listening", share))
        style = style_of(player, ask)
        wish = Wish(
            controls=controls,
            style_BE=style.style_BE,
            variations=ask.variations,
            seed=ask.seed,
            told=lambda share: told("playing", share),
        )
        take = _taken(player, ask.edit, material, wish)

        def writing(number: int) -> Callable[[float], None]:
            told("writing", number / ask.variations)
            return lambda share: told("writing", (number + share) / ask.variations)

        played = [  # one stem is in memory at a time
            _written(player, player.stem(take, number, writing(number)), number, material.context, style, scratch)
            for number in range(ask.variations)
        ]
        record = _record(player, ask, controls, material, style, take) | {"variations": played}
        (scratch / TOLD).write_text(json.dumps(record, indent=1, ensure_ascii=False), encoding="utf-8")
    told("writing", 1.0)
    return record


def _controls(player: Accompanist, ask: Ask) -> Controls:
    """The arm's controls with those that were asked for in their place."""
    controls = player.controls
    if ask.variations < 1:
        raise ValueError(f"{ask.variations} variations were asked for; at least one can be played")
    if ask.steps is not None:
        controls = controls.with_steps(ask.steps)
    guidance = controls.guidance
    if ask.guide_context is not None:
        guidance = replace(guidance, context=ask.guide_context)
    if ask.guide_clap is not None:
        guidance = replace(guidance, clap=ask.guide_clap)
    controls = replace(controls, guidance=guidance)
    if ask.stereo_width is None:
        return controls
    if controls.stereo_width is None or isinstance(ask.edit, Loop):
        what = "its loops are mono" if controls.stereo_width is not None else "this model plays stereo by itself"
        raise ValueError(f"a stereo width of {ask.stereo_width:g} was asked for, and {what}; leave it out")
    return replace(controls, stereo_width=ask.stereo_width)


def _material(player: Accompanist, ask: Ask, told: Callable[[float], None]) -> _Material:
    """The files, read, and the context encoded. A silent context is no context, as long as it is."""
    context = read_music(ask.context, "the context") if ask.context else None
    stem = None if ask.edit is None or isinstance(ask.edit, Loop) else read_music(ask.edit.stem, "the stem")
    notes = [note for music in (context, stem) if music for note in music.notes]
    if context is None:
        return _Material(player.hear_nothing(_samples(player, ask, stem)), None, stem, notes)
    if ask.seconds is not None:
        raise ValueError("the part is as long as the context; leave the seconds out, or the context")
    if context.silent:
        notes.append("as nothing is heard, the part is played without a context")
        return _Material(player.hear_nothing(context.audio_2N.shape[1]), context, stem, notes)
    return _Material(player.hear(torch.from_numpy(context.audio_2N), told), context, stem, notes)


def _samples(player: Accompanist, ask: Ask, stem: Music | None) -> int:
    """How long to play without a context: as asked, as the stem, or one window."""
    if ask.seconds is None:
        return stem.audio_2N.shape[1] if stem else player.model.window_samples
    if not ask.seconds >= SHORTEST_S:
        raise ValueError(f"{ask.seconds:g} s were asked for; a part lasts at least {SHORTEST_S:g} s")
    return round(ask.seconds * RATE_HZ)


def _taken(player: Accompanist, edit: Edit | None, material: _Material, wish: Wish) -> Take:
    heard = material.heard
    stem_2N = torch.from_numpy(material.stem.audio_2N) if material.stem else torch.zeros(2, 0)
    match edit:
        case None:
            return player.play(heard, wish)
        case Inpaint():
            start, stop = round(edit.start_s * RATE_HZ), round(edit.stop_s * RATE_HZ)
            return player.inpaint(stem_2N, heard, wish, start_samples=start, stop_samples=stop)
        case Vary():
            return player.vary(stem_2N, heard, wish, strength=edit.strength)
        case GoOn():
            return player.go_on(stem_2N, heard, wish)
        case Loop():
            return player.loop(heard, wish, period_samples=round(edit.period_s * RATE_HZ))


def _written(
    player: Accompanist, made_2N: Tensor, number: int, context: Music | None, style: Style, folder: Path
) -> dict[str, Any]:
    """Write one variation and its mix; their names and scores."""
    stem_2N = made_2N.numpy()
    gain = headroom_gain(stem_2N)
    names = {"stem": f"variation-{number + 1}.wav"}
    (folder / names["stem"]).write_bytes(wav_bytes(stem_2N * stem_2N.dtype.type(gain)))
    if context:
        names["mix"] = f"mix-{number + 1}.wav"
        (folder / names["mix"]).write_bytes(wav_bytes(mixed(context, stem_2N)))
    asked = [one for one in (style.text_1E, *style.references) if one is not None]
    cosines = [round(cosine, 4) for cosine in likeness(player, made_2N, asked)]
    prompt = cosines[0] if style.text_1E is not None else None
    references = cosines[1:] if style.text_1E is not None else cosines
    return names | {"gain": gain, "scores": {"prompt": prompt, "references": references, "adherence": None}}


def _record(
    player: Accompanist, ask: Ask, controls: Controls, material: _Material, style: Style, take: Take
) -> dict[str, Any]:
    """All that repeats it: the model, the files by their bytes, the options, the code."""
    edit = ask.edit and {"kind": type(ask.edit).__name__, **_told_fields(ask.edit)}
    return {
        "model": {"arm": player.model.arm.name, "sha256": player.model.digest},
        "code": {"stemwright": version("stemwright"), "packages": package_versions()},
        "context": material.context.told if material.context else None,
        "samples": material.heard.samples,
        "prompt": ask.prompt,
        "references": style.told,
        "ratio": ask.between.ratio if ask.between else None,
        "edit": edit,
        "stem": material.stem.told if material.stem else None,
        "changed_s": take.changed_s,
        "seed": ask.seed,
        "sampler": canonical(controls.sampler),
        "guidance": canonical(controls.guidance),
        "stereo_width": controls.stereo_width,
        "notes": material.notes,
        "adherence": NO_ADHERENCE,
    }


def _told_fields(edit: Edit) -> dict[str, Any]:
    """The numbers of an edit; its stem is told by its bytes."""
    return {name: value for name, value in asdict(edit).items() if name != "stem"}
