"""A trainable stereo codec of the Music2Latent2 type: summary embeddings and a two-chunk consistency decoder.

Its structure is that of the paper's figures where they show it and of CoDiCodec where they do not (codecs.md A.2,
A.3, E.1): chunk, widths, steps and the prompt's noise level of Music2Latent2 itself were never published.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from models.chunk_consistency import ChunkConsistencyModel
from models.codec import CHUNK_SAMPLES, CodecSpec, LatentClip, checked_latents, seeded_noise, whole_chunks
from models.codec_consistency import PROMPT_TIME, SIGMA_MAX, ConsistencySchedule, renoised, sigma_of
from models.consistency_codec import ConsistencyCodec, joined
from models.patchifier import PatchShape
from models.stft import PowerStft
from models.summary_embeddings import ChunkGeometry, SummaryEncoder, Upsampler

# Shapes: B batch, G chunks, S audio channels, N samples, P real and imaginary parts per channel, K frequency bins,
# F frames of a chunk, Q summaries of a chunk, C latent width, T = G Q latent frames.

CHUNKS_PER_PASS = 16  # encoding takes this many chunks at once, so that memory does not grow with the clip


@dataclass(frozen=True, kw_only=True)
class Music2Latent2Recipe:
    """All that determines a trained Music2Latent2-type codec, apart from its data. `batch` counts crops of 2 chunks."""

    channels: tuple[int, ...]
    depths: tuple[int, ...]
    strides: tuple[tuple[int, int], ...]
    layers: int
    heads: int
    registers: int
    condition_width: int
    steps: int
    batch: int
    learning_rate: float
    audio_channels: int = 2
    window_samples: int = 2048
    hop_samples: int = 1024
    summaries: int = 8
    latent_width: int = 64
    final_exponent: float = 2.0

    @property
    def geometry(self) -> ChunkGeometry:
        """The levels, tokens and latents shared by encoder, upsampler and consistency model."""
        return ChunkGeometry(
            patch=PatchShape(
                parts=2 * self.audio_channels, channels=self.channels, depths=self.depths, strides=self.strides
            ),
            size=(self.window_samples // 2, CHUNK_SAMPLES // self.hop_samples),
            layers=self.layers,
            heads=self.heads,
            summaries=self.summaries,
            latent_width=self.latent_width,
            registers=self.registers,
        )


class Music2Latent2(ConsistencyCodec):
    """Stereo codec: 32,768 samples to an unordered set of 8 bounded vectors of 64, and back in two steps."""

    def __init__(self, recipe: Music2Latent2Recipe, weights_sha256: str = "") -> None:
        stft = PowerStft(window_samples=recipe.window_samples, hop_samples=recipe.hop_samples, of_modulus=False)
        super().__init__(stft, ConsistencySchedule(final_exponent=recipe.final_exponent), crop_chunks=2)
        self.recipe = recipe
        self.spec = _spec(recipe, weights_sha256)
        self.encoder = SummaryEncoder(recipe.geometry)
        self.upsampler = Upsampler(recipe.geometry)
        self.model = ChunkConsistencyModel(recipe.geometry, condition_width=recipe.condition_width)

    def latents(self, clean_BGPKF: Tensor) -> Tensor:
        """Latents (B, C, T): the summaries of consecutive chunks, slot by slot; no chunk sees another."""
        summaries = [self.encoder(part) for part in clean_BGPKF.flatten(0, 1).split(CHUNKS_PER_PASS)]
        return torch.cat(summaries).unflatten(0, clean_BGPKF.shape[:2]).flatten(1, 2).transpose(1, 2)

    def features(self, latent_BCT: Tensor) -> list[Tensor]:
        """The summaries (B, G, Q, C), then the feature map of every block (B, G, ...), shallowest first."""
        summaries_BGQC = latent_BCT.transpose(1, 2).unflatten(1, (-1, self.recipe.summaries))
        maps = self.upsampler(summaries_BGQC.flatten(0, 1))
        return [summaries_BGQC, *(level.unflatten(0, summaries_BGQC.shape[:2]) for level in maps)]

    def denoise(self, noisy_BGPKF: Tensor, sigma_BG: Tensor, features: list[Tensor]) -> Tensor:
        """One or two chunks denoised together; the left one never depends on the right one."""
        crosses = [level.flatten(0, 1) for level in features[1:]]
        denoised: Tensor = self.model(noisy_BGPKF, sigma_BG, summaries_BGQC=features[0], crosses=crosses)
        return denoised

    @torch.no_grad()
    def encode(self, audio_BSN: Tensor) -> LatentClip:
        """Latents (B, 64, 8 per chunk) of audio padded to whole chunks."""
        clean_BGPKF = self.chunks(whole_chunks(audio_BSN, self.spec), padded=True)
        return LatentClip(self.latents(clean_BGPKF).contiguous(), audio_BSN.shape[-1])

    @torch.no_grad()
    def decode(self, clip: LatentClip, *, generators: list[torch.Generator]) -> Tensor:
        """Audio (B, S, samples) in [-1, 1]: each chunk in two steps, at one network pass per chunk."""
        latent_BCT = checked_latents(clip, self.spec, generators)
        pairs = latent_BCT.unfold(2, self.recipe.summaries, self.recipe.summaries).permute(2, 0, 1, 3)
        features = [self.features(chunk_BCQ) for chunk_BCQ in pairs]
        geometry = self.recipe.geometry
        shape = (2, len(features), geometry.patch.parts, *geometry.size)
        first_BGPKF, second_BGPKF = seeded_noise(shape, generators, latent_BCT).unbind(1)
        chunks_BGPKF = self._two_steps(features, first_BGPKF, second_BGPKF)
        return self.stft.audio(joined(chunks_BGPKF))[..., : clip.samples].clamp(-1, 1)

    def _two_steps(self, features: list[list[Tensor]], first_BGPKF: Tensor, second_BGPKF: Tensor) -> Tensor:
        """All chunks (B, G, P, K, F): while a chunk is first drawn from noise, the one before it is refined.

        codecs.md E.3: [s_max] gives p0; then [p(i-1) + s_prompt e | s_max e] gives the final chunk i-1 and p(i).
        The left half never sees the right one, so the first and the last pass need no dummy on the right.
        """
        batch, final = len(first_BGPKF), []
        prompt_sigma = float(sigma_of(torch.tensor(PROMPT_TIME)))
        levels = first_BGPKF.new_tensor([prompt_sigma, SIGMA_MAX]).expand(batch, -1)
        start = SIGMA_MAX * first_BGPKF
        drawn = self.denoise(start[:, :1], levels[:, 1:], features[0])
        for chunk in range(len(features)):
            prompt = renoised(drawn, prompt_sigma, second_BGPKF[:, chunk : chunk + 1])
            window = slice(chunk, chunk + 2)
            noisy = torch.cat([prompt, start[:, chunk + 1 : chunk + 2]], dim=1)
            told = [torch.cat(level, dim=1) for level in zip(*features[window], strict=True)]
            both = self.denoise(noisy, levels[:, : noisy.shape[1]], told)
            final.append(both[:, :1])
            drawn = both[:, 1:]
        return torch.cat(final, dim=1)


def _spec(recipe: Music2Latent2Recipe, weights_sha256: str) -> CodecSpec:
    return CodecSpec(
        name="music2latent2" if recipe.audio_channels == 2 else "music2latent2-mono",
        audio_channels=recipe.audio_channels,
        ordering="set",
        licence="Apache-2.0",
        noncommercial=False,
        weights_sha256=weights_sha256,
        tokens_per_chunk=recipe.summaries,
        latent_width=recipe.latent_width,
    )


TINY = Music2Latent2Recipe(
    channels=(8, 16, 32, 64),
    depths=(1, 1, 1, 1),
    strides=((4, 2), (4, 1), (2, 2)),
    layers=2,
    heads=2,
    registers=4,
    condition_width=64,
    steps=30,
    batch=4,
    learning_rate=1e-3,
)
SMALL = Music2Latent2Recipe(
    channels=(32, 64, 128, 256),
    depths=(2, 2, 2, 1),
    strides=((2, 2), (4, 1), (2, 2)),
    layers=6,
    heads=4,
    registers=8,
    condition_width=256,
    steps=20_000,
    batch=16,
    learning_rate=1e-4,
)
PAPER = Music2Latent2Recipe(
    channels=(64, 128, 256, 512),
    depths=(3, 3, 3, 1),
    strides=((2, 2), (4, 1), (2, 2)),
    layers=12,
    heads=4,
    registers=8,
    condition_width=512,
    steps=2_000_000,  # CoDiCodec's run; Music2Latent2's is not known
    batch=20,
    learning_rate=1e-4,
)
PRESETS = MappingProxyType({"tiny": TINY, "small": SMALL, "paper": PAPER})
