"""A trainable stereo codec of the Music2Latent2 type: summary embeddings and a two-chunk consistency decoder.

Its code, weights and sizes were never published. The docstrings of its parts therefore say of every choice whether it
is *stated* (in a text of its authors), *drawn* (in their two figures), *borrowed* (from CoDiCodec, its successor, or
from Music2Latent) or *ours* (codecs.md A.1 to A.4, E.1 to E.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from models.chunk_consistency import ChunkConsistencyModel
from models.codec import CHUNK_SAMPLES, CodecSpec, LatentClip, checked_latents, whole_chunks
from models.codec_consistency import ConsistencySchedule, NoiseLevels
from models.codec_stream import DecodingStream, EncodingStream
from models.consistency_codec import ConsistencyCodec, joined
from models.parallel_decoding import decoded_in_parallel
from models.patchifier import PatchShape
from models.stft import PowerStft
from models.summary_embeddings import ChunkGeometry, SummaryEncoder, Upsampler
from models.training import Precision

# Shapes: B batch, G chunks, S audio channels, N samples, P real and imaginary parts per channel, K frequency bins,
# F frames of a chunk, Q summaries of a chunk, C latent width, T = G Q latent frames.

CHUNKS_PER_PASS = 16  # encoding takes this many chunks at once, so that memory does not grow with the clip


@dataclass(frozen=True, kw_only=True)
class Music2Latent2Recipe:
    """All that determines a trained Music2Latent2-type codec, apart from its data. `batch` counts crops of 2 chunks.

    Stated: stereo, 128 times fewer numbers, 64 a latent vector, two chunks a crop. Borrowed (CoDiCodec): chunk, window
    and hop, all sizes of BASE, steps, batch, rate, exponent. Following from both: 8 vectors a chunk. Ours: the other
    presets, and `noise_levels` as a choice.
    """

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
    noise_levels: NoiseLevels = NoiseLevels.TIME_GRID
    precision: Precision = Precision.FLOAT32

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
    """Stereo codec: 32,768 samples to an unordered set of 8 bounded vectors of 64, and back in two steps.

    Stated: encoder, decoder and consistency model in three parts; summaries without order; one loss. Borrowed: the
    power law acts on real and imaginary parts each.
    """

    def __init__(self, recipe: Music2Latent2Recipe, weights_sha256: str = "") -> None:
        stft = PowerStft(window_samples=recipe.window_samples, hop_samples=recipe.hop_samples, of_modulus=False)
        schedule = ConsistencySchedule(final_exponent=recipe.final_exponent, noise_levels=recipe.noise_levels)
        super().__init__(stft, schedule, crop_chunks=2)
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
    def decode(
        self, clip: LatentClip, *, generators: list[torch.Generator], parallel_steps: int | None = None
    ) -> Tensor:
        """Audio (B, S, samples) in [-1, 1]: each chunk in two steps, at one network pass per chunk.

        With `parallel_steps`, all chunks together in so many steps, see `models.parallel_decoding`: about as many
        times the arithmetic, but no chunk waits for another. Its sound is another one from the same seeds.
        """
        latent_BCT = checked_latents(clip, self.spec, generators)
        chunks = latent_BCT.split(self.recipe.summaries, dim=2)
        if parallel_steps is not None:
            parts = decoded_in_parallel(self, chunks, generators=generators, steps=parallel_steps)
            return self.stft.audio(joined(parts))[..., : clip.samples].clamp(-1, 1)
        stream = self.stream(generators=generators)
        audio = [stream.push(latent_BCQ) for latent_BCQ in chunks]
        return torch.cat([*audio, stream.flush()], dim=-1)[..., : clip.samples]

    def stream(self, *, generators: list[torch.Generator]) -> DecodingStream:
        """Decoding of latents as they come; one generator per item, and the same audio as from `decode`."""
        return DecodingStream(self, generators=generators)

    def encoding_stream(self) -> EncodingStream:
        """Encoding of audio as it comes."""
        return EncodingStream(self)


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
BASE = Music2Latent2Recipe(  # the sizes of CoDiCodec (codecs.md A.3), whose predecessor this is
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
PRESETS = MappingProxyType({"tiny": TINY, "small": SMALL, "base": BASE})
