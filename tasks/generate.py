"""Candidates: what an arm plays to each prompt under one conditioning, as FLAC shards."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from models.batch import LatentSet, restore, standardise
from models.codec import Codec, LatentClip
from models.conditioning import ClapSource, Conditioning, Conditions
from models.device_memory import within_memory
from models.sampling import Guidance, Sampler, pseudo_stereo, sample_latents
from tasks.artifact import Artifact
from tasks.audio_bytes import flac_bytes
from tasks.cluster import Resident, fan_out, resident_model
from tasks.fit_codec import load_codec
from tasks.latent_origin import require_one_codec
from tasks.lost_shards import hand_on_lost
from tasks.pack import load_keys, load_latents, load_text
from tasks.progress import Progress
from tasks.runtime import Runtime, use_threads
from tasks.shard_folder import shards_of
from tasks.shards import BrokenShard, read_index, shard_is_whole, write_shard
from tasks.step import Step
from tasks.storage import name_of
from tasks.train import load_trained_bridge, load_trained_denoiser

LATENTS = "latents_NVCT.npy"
FEWER = "lower the runtime's `generation_batch`, or sample with --device cpu"


@dataclass(frozen=True, kw_only=True)
class GenerateCandidates(Step):
    """One candidate for each of the first `count` prompts, seeded by (seed, prompt), whatever the batch.

    Fewer where prompts were lost with their shards.
    """

    stage: ClassVar[str] = "candidates"

    denoiser: Artifact
    bridge: Artifact | None
    codec: Artifact
    prompts: Artifact
    windows: Artifact
    conditioning: Conditioning
    sampler: Sampler
    guidance: Guidance
    pseudo_stereo: float | None
    samples: int
    count: int
    seed: int

    def describe(self) -> str:
        return f"candidates {self.conditioning.label}"

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        use_threads(runtime)
        require_one_codec({"the denoiser": self.denoiser, "the prompts": self.prompts, "the decoder": self.codec})
        keys = load_keys(self.prompts)[: self.count]
        np.save(out / LATENTS, self._sample(keys, runtime).numpy())
        name = f"codec-{self.key()}"
        pieces = self._pieces(name, out, keys)
        resident = Resident(name, load_codec, self.codec.location)
        fan_out(runtime, _decode_shard, pieces, title=f"decode {self.conditioning.label}", resident=resident)
        return {"candidates": len(keys), "lost": hand_on_lost(out, self.prompts)}

    def _sample(self, keys: list[str], runtime: Runtime) -> Tensor:
        """Raw latents (N, V, C, T); V is 2 where a variation becomes the second channel."""
        prompts = load_latents(self.prompts)
        text_NE = torch.from_numpy(load_text(self.prompts))
        player = Player(self, runtime)
        batches = [
            range(first, min(first + runtime.generation_batch, len(keys)))
            for first in range(0, len(keys), runtime.generation_batch)
        ]
        made = []
        with Progress(self.describe(), total=len(keys), live=runtime.progress) as bar:
            for rows in batches:
                with within_memory(f"sampling {len(rows)} at once", runtime.device, remedy=FEWER):
                    made.append(player.play(prompts, text_NE, rows, keys))
                bar.advance(len(rows))
        return torch.cat(made)

    def _pieces(self, name: str, out: Path, keys: list[str]) -> list[tuple[Any, ...]]:
        """One piece a shard of windows, so that candidates and their contexts lie in shards of the same name.

        A shard that the prompts were made without has none. Raises ValueError where a prompt is of no shard.
        """
        rows = {key: row for row, key in enumerate(keys)}
        pieces: list[tuple[Any, ...]] = []
        for shard in shards_of(self.windows):
            asked = {key: rows.pop(key) for key in keys_of(shard) if key in rows}
            if asked:
                pieces.append((name, str(out / LATENTS), asked, self.samples, self.seed, str(out / name_of(shard))))
        if rows:
            raise ValueError(f"{len(rows)} of {len(keys)} prompts, such as {min(rows)}, are in no shard of the windows")
        return pieces


class Player:
    """An arm ready to play: networks loaded once, conditions made batch by batch."""

    def __init__(self, step: GenerateCandidates, runtime: Runtime) -> None:
        self._step, self._device = step, runtime.device
        self._denoiser = load_trained_denoiser(step.denoiser, runtime.device)
        self._bridge = load_trained_bridge(step.bridge, runtime.device) if step.bridge else None
        told = json.loads((step.denoiser.path / "statistics.json").read_text(encoding="utf-8"))
        self._mean_C, self._std_C = (np.array(told[name], dtype=np.float32) for name in ("mean_C", "std_C"))

    def play(self, prompts: LatentSet, text_NE: Tensor, rows: range, keys: list[str]) -> Tensor:
        """Raw latents (B, V, C, T) for these prompts."""
        batch = [keys[row] for row in rows]
        conditions = self._conditions(prompts, text_NE, rows, batch)
        standard_BCT = sample_latents(
            self._denoiser,
            conditions,
            sampler=self._step.sampler,
            guidance=self._step.guidance,
            generators=generators(self._step.seed, batch, "noise"),
        )
        variants = self._variants(standard_BCT, conditions, batch)
        raw_BVCT = [restore(variant_BCT, self._mean_C, self._std_C) for variant_BCT in variants]
        return torch.stack(raw_BVCT, dim=1).float().cpu()

    def _variants(self, standard_BCT: Tensor, conditions: Conditions, keys: list[str]) -> tuple[Tensor, ...]:
        """The candidate itself and, where it becomes stereo by variation, its other channel."""
        if self._step.pseudo_stereo is None:
            return (standard_BCT,)
        return pseudo_stereo(
            self._denoiser,
            standard_BCT,
            conditions,
            sampler=self._step.sampler,
            guidance=self._step.guidance,
            generators=generators(self._step.seed, keys, "variation"),
            strength=self._step.pseudo_stereo,
        )

    def _conditions(self, prompts: LatentSet, text_NE: Tensor, rows: range, keys: list[str]) -> Conditions:
        index = slice(rows.start, rows.stop)
        raw_BCT = torch.from_numpy(np.array(prompts.context_NCT[index], dtype=np.float32))
        context_BCT = standardise(raw_BCT, self._mean_C, self._std_C)
        audio_BE = torch.from_numpy(np.array(prompts.clap_audio_NKE[index, 0]))
        given = self._step.conditioning
        return Conditions(
            context_BCT.to(self._device),
            self._clap(audio_BE, text_NE[index], keys).to(self._device),
            torch.full((len(rows),), given.context, device=self._device),
            torch.full((len(rows),), given.clap is not None, device=self._device),
        )

    def _clap(self, audio_BE: Tensor, text_BE: Tensor, keys: list[str]) -> Tensor:
        match self._step.conditioning.clap:
            case ClapSource.TEXT:
                return self._bridged(text_BE, keys) if self._bridge else text_BE
            case ClapSource.BRIDGE:
                return self._bridged(None, keys)
        return audio_BE

    def _bridged(self, text_BE: Tensor | None, keys: list[str]) -> Tensor:
        if self._bridge is None:
            raise ValueError(f"{self._step.conditioning.label} needs a bridge, and this arm has none; use +CLAP_beta")
        given = text_BE.to(self._device) if text_BE is not None else None
        return self._bridge.sample(given, generators(self._step.seed, keys, "bridge"))


def generators(seed: int, keys: list[str], purpose: str) -> list[torch.Generator]:
    """One generator a candidate, seeded by its identity alone."""
    texts = (f"{seed}/{purpose}/{key}" for key in keys)
    seeds = (int.from_bytes(hashlib.sha256(text.encode()).digest()[:7]) for text in texts)
    return [torch.Generator().manual_seed(value) for value in seeds]


def keys_of(shard: str) -> tuple[str, ...]:
    """The windows of a shard by its index, or none where that is broken: no prompt was made of such a shard."""
    try:
        return read_index(shard).keys
    except BrokenShard:
        return ()


def _decode_shard(piece: tuple[str, str, dict[str, int], int, int, str]) -> None:
    """Decode the candidates of one shard; `asked` are their keys and, for each, the row of its latents."""
    name, latents, asked, samples, seed, destination = piece
    if shard_is_whole(destination):
        return
    codec: Codec = resident_model(name)
    raw_NVCT = np.load(latents, mmap_mode="r")
    write_shard(
        destination, (decoded_candidate(codec, raw_NVCT[row], key, samples, seed) for key, row in asked.items())
    )


def decoded_candidate(codec: Codec, raw_VCT: np.ndarray, key: str, samples: int, seed: int) -> dict[str, Any]:
    """One candidate as a FLAC member. What would clip is scaled down and the gain recorded, so nothing is lost."""
    clip = LatentClip(torch.from_numpy(np.array(raw_VCT)), samples)
    variants = [f"{key}/{index}" for index in range(len(raw_VCT))]
    with torch.inference_mode():
        audio_VSN = codec.decode(clip, generators=generators(seed, variants, "decode")).numpy()
    audio_SN = audio_VSN[0] if len(audio_VSN) == 1 else audio_VSN[:, 0]
    stereo_SN = np.repeat(audio_SN, 2, axis=0) if len(audio_SN) == 1 else audio_SN
    gain = min(1.0, 0.999 / max(float(np.abs(stereo_SN).max()), 1e-9))
    return {
        "__key__": key,
        "candidate.flac": flac_bytes(stereo_SN * np.float32(gain)),
        "json": json.dumps({"gain": gain}).encode(),
    }
