"""Does an arm listen? Candidates of the same noise with their own context, another track's and silence."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from data_manifests.adherence_check import features, scores
from metrics.adherence import audio_prompt_adherence, derangement
from models.batch import LatentSet
from models.clap import Clap
from models.codec import Codec, LatentClip
from models.conditioning import Conditioning
from models.sampling import Guidance, Sampler
from tasks.artifact import Artifact
from tasks.audio_bytes import decode_flac
from tasks.clap import load_clap
from tasks.embed import Mixing, embed_mixture
from tasks.embeddings import load_embeddings, window_row
from tasks.fit_codec import load_codec
from tasks.generate import GenerateCandidates, Player, generators
from tasks.pack import load_keys, load_latents, load_text
from tasks.runtime import Runtime, use_threads
from tasks.shard_folder import shards_of
from tasks.shards import read_shard
from tasks.step import Step

# Shapes: N candidates, C latent width, T latent frames, S audio channels, K samples of a window, W windows of a
# mixture, E CLAP width.

Audio = NDArray[np.float32]

LISTENING = "listening.json"
OWN, SWAPPED, SILENT = "their own context", "another track's context", "silence"
REAL_STEM, OTHER_STEM = "real stem", "real stem of another track"
DEAF = 1e-5
"""A change of context that moves latents less than this share of what another prompt does is rounding."""


class ContextIgnored(ValueError):
    """A denoiser whose candidates do not depend on the context at all."""


class Listening(NamedTuple):
    """How stems fit the contexts they are judged beside, which are always the prompts' own.

    `moved` is how far the latents lie from those of the own context, in units of the distance between candidates of
    different tracks. `onset` and `chroma` are mean similarities in [-1, 1] (shared rhythm, shared harmony).
    """

    stems: str
    moved: float | None
    apa: float
    onset: float
    chroma: float


@dataclass(frozen=True, kw_only=True)
class MeasureContext(Step):
    """What hearing another context, or silence, changes; and both bounds, real stems, on the same prompts.

    Raises ContextIgnored where it changes nothing: the context does not reach the network.
    """

    stage: ClassVar[str] = "listening"

    denoiser: Artifact
    codec: Artifact
    prompts: Artifact
    windows: Artifact
    references: Artifact
    mispaired: Artifact
    clap: Artifact
    sampler: Sampler
    guidance: Guidance
    mixing: Mixing
    samples: int
    count: int
    seed: int

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        use_threads(runtime)
        prompts, keys = load_latents(self.prompts), load_keys(self.prompts)[: self.count]
        asked = _Asked.of(self.windows, keys)
        codec = load_codec(self.codec.location)
        judge = _Judge(self, asked, load_clap(self.clap.location, runtime.local_files, runtime.device))
        contexts = self._contexts(prompts, asked, codec)
        latents = self._played(prompts, contexts, keys, runtime)
        moved = moved_by_context(latents, asked.partner_N)
        told = []
        for name, raw_NVCT in latents.items():
            stems = self._decoded(codec, raw_NVCT, keys)
            told.append(judge.listening(f"candidates that heard {name}", stems, moved=moved[name]))
        told += [
            judge.listening(REAL_STEM, asked.targets),
            judge.listening(OTHER_STEM, [asked.targets[row] for row in asked.partner_N]),
        ]
        (out / LISTENING).write_text(json.dumps([row._asdict() for row in told], indent=1), encoding="utf-8")
        return {row.stems: row._asdict() for row in told}

    def _contexts(self, prompts: LatentSet, asked: _Asked, codec: Codec) -> Mapping[str, NDArray[Any]]:
        """Raw context latents (N, C, T) by what they are of."""
        own_NCT = np.array(prompts.context_NCT[: self.count], dtype=np.float32)
        with torch.inference_mode():
            silence_CT = codec.encode(torch.zeros(1, 2, self.samples)).latent_BCT[0].numpy()
        return {OWN: own_NCT, SWAPPED: own_NCT[asked.partner_N], SILENT: np.broadcast_to(silence_CT, own_NCT.shape)}

    def _played(
        self, prompts: LatentSet, contexts: Mapping[str, NDArray[Any]], keys: list[str], runtime: Runtime
    ) -> dict[str, NDArray[np.float32]]:
        """Raw latents (N, 1, C, T) of candidates that share their noise, by the context they heard."""
        player = Player(self._asking(), runtime)
        text_NE, size = torch.from_numpy(load_text(self.prompts)), runtime.generation_batch
        parts = [range(first, min(first + size, len(keys))) for first in range(0, len(keys), size)]
        made = {}
        for name, heard_NCT in contexts.items():
            asked = _with_contexts(prompts, heard_NCT)
            made[name] = np.concatenate([player.play(asked, text_NE, part, keys) for part in parts])
        return made

    def _asking(self) -> GenerateCandidates:
        return GenerateCandidates(
            denoiser=self.denoiser,
            bridge=None,
            codec=self.codec,
            prompts=self.prompts,
            windows=self.windows,
            conditioning=Conditioning(clap=None, context=True),
            sampler=self.sampler,
            guidance=self.guidance,
            pseudo_stereo=None,
            samples=self.samples,
            count=self.count,
            seed=self.seed,
        )

    def _decoded(self, codec: Codec, raw_NVCT: NDArray[np.float32], keys: list[str]) -> list[Audio]:
        """The candidates' audio (S, K), with the noise that the decoder gives each of them in the table."""
        made = []
        for raw_VCT, key in zip(raw_NVCT, keys, strict=True):
            clip = LatentClip(torch.from_numpy(raw_VCT), self.samples)
            with torch.inference_mode():
                made.append(codec.decode(clip, generators=generators(self.seed, [f"{key}/0"], "decode"))[0].numpy())
        return made


class _Asked(NamedTuple):
    """The prompts' windows: contexts and real stems (2, K) in the prompts' order, and a partner of another track."""

    contexts: list[Audio]
    targets: list[Audio]
    partner_N: NDArray[np.intp]

    @classmethod
    def of(cls, windows: Artifact, keys: Sequence[str]) -> _Asked:
        wanted = set(keys)
        every = chain.from_iterable(map(read_shard, shards_of(windows)))
        samples = list(islice((sample for sample in every if sample["__key__"] in wanted), len(keys)))
        tracks = [window_row(sample).track for sample in samples]
        return cls(
            [decode_flac(sample["context.flac"]) for sample in samples],
            [decode_flac(sample["target.flac"]) for sample in samples],
            derangement(tracks, seed=0),
        )


@dataclass(frozen=True)
class _Judge:
    """Stems beside the prompts' own contexts."""

    step: MeasureContext
    asked: _Asked
    clap: Clap

    def listening(self, stems: str, audio: Sequence[Audio], *, moved: float | None = None) -> Listening:
        """The row of stems (S, K), one for each prompt."""
        pairs = list(zip(self.asked.contexts, audio, strict=True))
        alike_N2 = np.array([scores(features(context_SN), features(stem_SN)) for context_SN, stem_SN in pairs])
        onset, chroma = alike_N2.mean(axis=0)
        return Listening(stems, moved, self._adherence(pairs), float(onset), float(chroma))

    def _adherence(self, pairs: Sequence[tuple[Audio, Audio]]) -> float:
        mixtures_NWE = np.stack([embed_mixture(self.clap, *pair, self.step.mixing) for pair in pairs])
        sets = (*self._references, mixtures_NWE)
        return audio_prompt_adherence(*(vectors.reshape(-1, vectors.shape[-1]) for vectors in sets))

    @cached_property
    def _references(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        true, wrong = (load_embeddings(artifact) for artifact in (self.step.references, self.step.mispaired))
        return true.arrays["mixture_NWE"], wrong.arrays["mixture_NWE"]


def moved_by_context(latents: Mapping[str, NDArray[np.float32]], partner_N: NDArray[np.intp]) -> dict[str, float]:
    """How far each set lies from that of the own context, relative to candidates of other tracks among themselves.

    Raises ContextIgnored where another track's context moves nothing.
    """
    own = latents[OWN]
    apart = _rms(own - own[partner_N])
    moved = {name: _rms(other - own) / apart if apart > 0 else 0.0 for name, other in latents.items()}
    if moved[SWAPPED] < DEAF:
        raise ContextIgnored(
            f"candidates that heard another track's context are those that heard their own (moved by "
            f"{moved[SWAPPED]:.1e} of the distance between prompts): the context does not reach the denoiser. "
            "Look at how its conditions are wired and whether its training gave it any context"
        )
    return moved


def _rms(values: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def _with_contexts(prompts: LatentSet, context_NCT: NDArray[Any]) -> LatentSet:
    """The first prompts, each with the context that is given for it."""
    count = len(context_NCT)
    return replace(
        prompts,
        target_NCT=prompts.target_NCT[:count],
        context_NCT=context_NCT,
        clap_audio_NKE=prompts.clap_audio_NKE[:count],
        clap_leak_NE=prompts.clap_leak_NE[:count],
    )


def load_listening(artifact: Artifact) -> tuple[Listening, ...]:
    """The rows of a finished measurement."""
    return tuple(Listening(**told) for told in json.loads((artifact.path / LISTENING).read_text(encoding="utf-8")))
