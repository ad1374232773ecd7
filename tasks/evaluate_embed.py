"""Any folders of audio as embeddings: clips of each file alone and, where it has a context, mixed with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from data_manifests.schema import RATE_HZ, Quarantined
from metrics.adherence import derangement
from models.clap import Clap
from tasks.artifact import Artifact
from tasks.audio import UnreadableAudio, read_window
from tasks.clap import clap_and_cache_resident, clap_space
from tasks.cluster import fan_out, resident_model
from tasks.embed import Mixing, embed_mixture, embed_one
from tasks.embedding_cache import EmbeddingCache
from tasks.embeddings import Row, load_embeddings, merge_parts, part_path, write_part
from tasks.evaluate_clips import Clip, ClipRule, Listed, listed_clips, without_folder
from tasks.evaluate_prompts import read_prompts
from tasks.runtime import Runtime
from tasks.step import Step
from tasks.whole_files import file_sha256

# Shapes: S channels (2), N samples at 48 kHz, E embedding width, W windows of a mixture.

HEARD = "heard.json"
PIECE_CLIPS = 32


@dataclass(frozen=True, kw_only=True)
class EmbedFolder(Step):
    """Embeddings of a folder's clips: `stem_NE`, with contexts `mixture_NWE`, with prompts `text_NE`.

    A stem without its context or prompt, and one that cannot be read, is left out and named in `heard.json`.
    """

    stage: ClassVar[str] = "given"

    stems: Artifact
    contexts: Artifact | None
    prompts: Artifact | None
    clap: Artifact
    rule: ClipRule
    mixing: Mixing | None

    def describe(self) -> str:
        return f"embed {self.stems.path.name}"

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        listed = self._listed()
        unread = _embedded(listed.clips, self, out, runtime, with_text=self.prompts is not None)
        left_out = [*listed.left_out, *unread]
        if not list(out.glob("part-*")):
            reason = f"; the first: {left_out[0].path}: {left_out[0].reason}" if left_out else ""
            raise ValueError(f"no file of {self.stems.location} can be judged{reason}")
        told = {"left_out": [asdict(one) for one in left_out], "shorter": listed.shorter, "longer": listed.longer}
        (out / HEARD).write_text(json.dumps(told, indent=1, ensure_ascii=False), encoding="utf-8")
        return merge_parts(out, clap_space(self.clap)) | {"left_out": len(left_out)}

    def _listed(self) -> Listed:
        contexts = self.contexts.path if self.contexts else None
        prompts = read_prompts(self.prompts.path) if self.prompts else None
        return listed_clips(self.stems.path, contexts, prompts, self.rule)


@dataclass(frozen=True, kw_only=True)
class EmbedFolderMispaired(Step):
    """Every context of the references with the stem of another song: `stem_NE` (that stem) and `mixture_NWE`."""

    stage: ClassVar[str] = "given-mispaired"

    references: Artifact
    stems: Artifact
    contexts: Artifact
    clap: Artifact
    rule: ClipRule
    mixing: Mixing
    seed: int

    def describe(self) -> str:
        return f"embed {self.stems.path.name} with contexts of other songs"

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        clips = {
            clip.row.key: clip for clip in listed_clips(self.stems.path, self.contexts.path, None, self.rule).clips
        }
        own = [clips[row.key] for row in load_embeddings(self.references).rows]
        partner = derangement([clip.row.track for clip in own], seed=self.seed)
        pairs = [
            clip._replace(stem=own[other].stem, stem_start_samples=own[other].stem_start_samples)
            for clip, other in zip(own, partner, strict=True)
        ]
        for one in _embedded(pairs, self, out, runtime, with_text=False):
            raise ValueError(f"{one.path} was read before and cannot be now: {one.reason}; run again")
        return merge_parts(out, clap_space(self.clap))


class HeardFolder(NamedTuple):
    """What a finished `EmbedFolder` says of its files."""

    left_out: tuple[Quarantined, ...]
    shorter: int
    longer: int

    def notes(self, what: str, rule: ClipRule) -> list[str]:
        """A line for each kind of file that is not one clip long."""
        judged_s = rule.clips_per_file * rule.clip_s
        lines = {
            f"{what}: {self.shorter} files are shorter than {rule.clip_s:g} s; silence follows them, and is heard": (
                self.shorter
            ),
            f"{what}: {self.longer} files are longer than the {judged_s:g} s from their start that are judged; "
            "clips_per_file says how much that is": self.longer,
        }
        return [line for line, count in lines.items() if count]


def read_heard(artifact: Artifact) -> HeardFolder:
    """What a finished folder of embeddings left out, and the lengths of its files."""
    told = json.loads((artifact.path / HEARD).read_text(encoding="utf-8"))
    left_out = tuple(Quarantined(**one) for one in told["left_out"])
    return HeardFolder(left_out, told["shorter"], told["longer"])


def _embedded(
    clips: Sequence[Clip],
    step: EmbedFolder | EmbedFolderMispaired,
    out: Path,
    runtime: Runtime,
    *,
    with_text: bool,
) -> list[Quarantined]:
    """Write the embeddings of clips in parts, and say which of them could not be read."""
    name = f"clap-{step.key()}"
    pieces = [
        (name, tuple(clips[first : first + PIECE_CLIPS]), step.rule, step.mixing, with_text, str(part_path(out, first)))
        for first in range(0, len(clips), PIECE_CLIPS)
    ]
    resident = clap_and_cache_resident(name, step.clap, runtime)
    return list(chain.from_iterable(fan_out(runtime, _embed_piece, pieces, title=step.describe(), resident=resident)))


def _embed_piece(piece: tuple[str, tuple[Clip, ...], ClipRule, Mixing | None, bool, str]) -> list[Quarantined]:
    name, clips, rule, mixing, with_text, part = piece
    clap, cache = resident_model(name)
    rows: list[Row] = []
    stems, mixtures, left_out = [], [], []
    for clip in clips:
        try:
            stem_E = _stem(clap, cache, clip, rule)
            mixed = [_mixture(clap, cache, clip, rule, mixing)] if mixing else []
        except (UnreadableAudio, FileNotFoundError, PermissionError) as error:
            left_out.append(Quarantined(path=clip.row.key, reason=without_folder(error, Path(clip.stem))))
            continue
        rows.append(clip.row)
        stems.append(stem_E)
        mixtures.extend(mixed)
    if rows:
        arrays = {"stem_NE": np.stack(stems)}
        arrays |= {"mixture_NWE": np.stack(mixtures)} if mixing else {}
        arrays |= {"text_NE": clap.embed_text([row.text for row in rows]).cpu().numpy()} if with_text else {}
        write_part(Path(part), arrays, rows)
    return left_out


def _stem(clap: Clap, cache: EmbeddingCache, clip: Clip, rule: ClipRule) -> np.ndarray:
    def embed() -> np.ndarray:
        return embed_one(clap, read_window(clip.stem, clip.stem_start_samples, rule.stem_samples))

    return _kept(cache, [(clip.stem, clip.stem_start_samples)], f"stem of {rule.stem_samples}", embed)


def _mixture(clap: Clap, cache: EmbeddingCache, clip: Clip, rule: ClipRule, mixing: Mixing) -> np.ndarray:
    context = str(clip.context)

    def embed() -> np.ndarray:
        return embed_mixture(
            clap,
            read_window(context, clip.context_start_samples, rule.clip_samples),
            read_window(clip.stem, clip.stem_start_samples, rule.clip_samples),
            mixing,
        )

    places = [(context, clip.context_start_samples), (clip.stem, clip.stem_start_samples)]
    return _kept(cache, places, f"mixture of {rule.clip_samples}, {mixing!r}", embed)


def _kept(
    cache: EmbeddingCache, places: Sequence[tuple[str, int]], how: str, embed: Callable[[], np.ndarray]
) -> np.ndarray:
    """The embedding of stretches of files: found again by the files' bytes, whatever they are called."""
    heard = [file_sha256(Path(path)).encode() for path, _ in places]
    starts = " ".join(str(start) for _, start in places)
    return cache.found_or_made(heard, f"{how} samples at {RATE_HZ} Hz from {starts}", embed)
