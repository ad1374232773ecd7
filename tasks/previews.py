"""What a training sounds like on the way: a few held-out prompts, the same ones with the same noise each time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from models.batch import LatentSet, StyleSource
from models.codec import LatentClip
from models.consistency import ConsistencyObjective
from models.denoiser import NetworkRecipe, Objective
from models.denoiser_telemetry import watched_windows
from models.denoiser_training import load_denoiser
from models.sampling import ConsistencySampler, Guidance, HeunSampler, sample_latents
from tasks.artifact import Artifact
from tasks.audio_bytes import flac_bytes
from tasks.fit_codec import load_codec
from tasks.pack import load_keys, load_latents
from tasks.plots import spectrogram_plot

# Shapes: B prompts, C latent width, T latent frames, S audio channels, N samples.

PROMPTS = 3
PICTURE = "spectrograms.png"


class Previews:
    """Makes files of a training's weights: what they play to the first held-out prompts, given all conditions.

    Networks are built anew and noise comes from generators of their own: nothing of the training is touched.
    """

    def __init__(
        self,
        network: NetworkRecipe,
        objective: Objective,
        *,
        prompts: Artifact,
        data: LatentSet,
        codec: Artifact,
        device: str,
    ) -> None:
        self._network, self._objective, self._device, self._data = network, objective, device, data
        self._keys = load_keys(prompts)[:PROMPTS]
        watched = watched_windows(load_latents(prompts), data, StyleSource.OTHER_SEGMENT, count=len(self._keys))
        self._conditions = watched.to(torch.device(device)).conditions
        self._codec = load_codec(codec.location)

    def __call__(self, weights: Mapping[str, Tensor]) -> dict[str, bytes]:
        """A FLAC for each prompt under its key, and a picture of them all."""
        raw_BCT = self._data.restore(self._played(weights).cpu())
        spec = self._codec.spec
        clip = LatentClip(raw_BCT, raw_BCT.shape[2] // spec.tokens_per_chunk * spec.chunk_samples)
        with torch.inference_mode():
            audio_BSN = self._codec.decode(clip, generators=self._generators()).cpu().numpy()
        clips = {key: _not_clipping(audio_SN) for key, audio_SN in zip(self._keys, audio_BSN, strict=True)}
        audio = {f"{key}.flac": flac_bytes(audio_SN) for key, audio_SN in clips.items()}
        return audio | {PICTURE: spectrogram_plot(clips, rate_hz=spec.rate_hz)}

    def _played(self, weights: Mapping[str, Tensor]) -> Tensor:
        """Standardised latents (B, C, T), sampled as the arms of this objective are."""
        denoiser = load_denoiser(
            self._network,
            self._objective,
            clap_width=self._data.clap_width,
            weights=weights,
            device=self._device,
        )
        few_steps = isinstance(self._objective, ConsistencyObjective)
        return sample_latents(
            denoiser,
            self._conditions,
            sampler=ConsistencySampler() if few_steps else HeunSampler(),
            guidance=Guidance(context=1.0, clap=1.0) if few_steps else Guidance(),
            generators=self._generators(),
        )

    def _generators(self) -> list[torch.Generator]:
        """One a prompt, seeded by its place."""
        return [torch.Generator().manual_seed(place) for place in range(len(self._keys))]


def _not_clipping(audio_SN: np.ndarray) -> np.ndarray:
    """A preview is to be heard, not measured: what would clip is scaled down."""
    peak = max(float(np.abs(audio_SN).max()), 1.0)
    return audio_SN / np.float32(peak)
