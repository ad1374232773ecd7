"""A trainable mono codec of the Music2Latent type: a consistency autoencoder over spectrograms (codecs.md A.1)."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from models.codec import CodecSpec, LatentClip, checked_latents, seeded_noise, whole_chunks
from models.codec_consistency import SIGMA_MAX, ConsistencySchedule, NoiseLevels, preconditioned
from models.consistency_codec import ConsistencyCodec, joined
from models.frequency_unet import ConsistencyUNet, LatentPyramid, PyramidShape, SpectrogramEncoder
from models.stft import PowerStft
from models.training import Precision

# Shapes: B batch, G chunks (always folded into one stretch here), P real and imaginary parts, K frequency bins,
# F frames, N samples, C latent width, T latent frames.


@dataclass(frozen=True, kw_only=True)
class Music2LatentRecipe:
    """All that determines a trained Music2Latent-type codec, apart from its data. `batch` counts crops of one chunk.

    Read in the released code: all sizes of BASE, steps, batch, rate, exponent. Ours: the other presets.
    """

    channels: tuple[int, ...]
    attends: tuple[bool, ...]
    depths: tuple[int, ...]
    inner_width: int
    inner_layers: int
    condition_width: int
    steps: int
    batch: int
    learning_rate: float
    strides: tuple[tuple[int, int], ...] = ((4, 1), (2, 2), (2, 2), (2, 2))
    window_samples: int = 2048
    hop_samples: int = 512
    latent_width: int = 64
    final_exponent: float = 3.0
    noise_levels: NoiseLevels = NoiseLevels.TIME_GRID
    precision: Precision = Precision.FLOAT32

    @property
    def pyramid_shape(self) -> PyramidShape:
        """The levels shared by encoder, pyramid and U-Net."""
        return PyramidShape(
            parts=2,
            bins=self.window_samples // 2,
            channels=self.channels,
            attends=self.attends,
            strides=self.strides,
        )


class Music2Latent(ConsistencyCodec):
    """Mono codec: one bounded vector of 64 per 4,096 samples, and back in one step.

    Departure: audio is padded to whole chunks where the released code crops it to whole latent frames, and the
    encoder's residual paths start non-zero (codecs.md E.3).
    """

    def __init__(self, recipe: Music2LatentRecipe, weights_sha256: str = "") -> None:
        stft = PowerStft(window_samples=recipe.window_samples, hop_samples=recipe.hop_samples, of_modulus=True)
        schedule = ConsistencySchedule(final_exponent=recipe.final_exponent, noise_levels=recipe.noise_levels)
        super().__init__(stft, schedule, crop_chunks=1)
        self.recipe = recipe
        self.spec = _spec(recipe, weights_sha256)
        bottleneck: dict[str, int] = {
            "latent_width": recipe.latent_width,
            "inner_width": recipe.inner_width,
            "inner_layers": recipe.inner_layers,
        }
        self.encoder = SpectrogramEncoder(recipe.pyramid_shape, **bottleneck)
        self.pyramid = LatentPyramid(recipe.pyramid_shape, **bottleneck)
        self.unet = ConsistencyUNet(recipe.pyramid_shape, depths=recipe.depths, condition_width=recipe.condition_width)
        # Channels last in memory: a CPU encodes a third and decodes a fifth faster, and trains as fast.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it

    def latents(self, clean_BGPKF: Tensor) -> Tensor:
        """Latents (B, C, T) of the whole stretch at once."""
        latent_BCT: Tensor = self.encoder(joined(clean_BGPKF))
        return latent_BCT

    def features(self, latent_BCT: Tensor) -> list[Tensor]:
        """The pyramid's maps, shallowest first."""
        levels: list[Tensor] = self.pyramid(latent_BCT)
        return levels

    def denoise(self, noisy_BGPKF: Tensor, sigma_BG: Tensor, features: list[Tensor]) -> Tensor:
        """A stretch (G = 1, any F) denoised."""

        def network(scaled_BGPKF: Tensor, levels_BG: Tensor) -> Tensor:
            out: Tensor = self.unet(scaled_BGPKF[:, 0], levels_BG[:, 0], features)
            return out[:, None]

        return preconditioned(network, noisy_BGPKF, sigma_BG)

    @torch.no_grad()
    def encode(self, audio_BSN: Tensor) -> LatentClip:
        """Latents (B, 64, 8 per chunk) of the channels' mean, padded to whole chunks."""
        clean_BGPKF = self.chunks(whole_chunks(audio_BSN, self.spec), padded=True)
        return LatentClip(self.latents(clean_BGPKF), audio_BSN.shape[-1])

    @torch.no_grad()
    def decode(self, clip: LatentClip, *, generators: list[torch.Generator]) -> Tensor:
        """Mono audio (B, 1, samples) in [-1, 1], in one step from pure noise."""
        latent_BCT = checked_latents(clip, self.spec, generators)
        features = self.features(latent_BCT)
        noise_BGPKF = seeded_noise((1, 2, *features[0].shape[2:]), generators, latent_BCT)
        sigma_BG = latent_BCT.new_full((len(latent_BCT), 1), SIGMA_MAX)
        parts_BPKF = self.denoise(SIGMA_MAX * noise_BGPKF, sigma_BG, features)[:, 0]
        return self.stft.audio(parts_BPKF)[..., : clip.samples].clamp(-1, 1)


def _spec(recipe: Music2LatentRecipe, weights_sha256: str) -> CodecSpec:
    return CodecSpec(
        name="music2latent",
        audio_channels=1,
        ordering="time",
        licence="Apache-2.0",
        noncommercial=False,
        weights_sha256=weights_sha256,
        latent_width=recipe.latent_width,
    )


TINY = Music2LatentRecipe(
    channels=(8, 16, 32, 32, 32),
    attends=(False, False, True, True, True),
    depths=(1, 1, 1, 1, 1),
    inner_width=64,
    inner_layers=1,
    condition_width=32,
    steps=30,
    batch=4,
    learning_rate=1e-3,
)
SMALL = Music2LatentRecipe(  # half the paper's widths: ours
    channels=(32, 64, 128, 128, 128),
    attends=(False, False, True, True, True),
    depths=(2, 2, 2, 2, 2),
    inner_width=256,
    inner_layers=4,
    condition_width=128,
    steps=20_000,
    batch=32,
    learning_rate=1e-4,
)
BASE = Music2LatentRecipe(  # Music2Latent's released code and its training branch (codecs.md A.1)
    channels=(64, 128, 256, 256, 256),
    attends=(False, False, True, True, True),
    depths=(2, 2, 2, 2, 2),
    inner_width=512,
    inner_layers=4,
    condition_width=256,
    steps=800_000,
    batch=16,
    learning_rate=1e-4,
)
PRESETS = MappingProxyType({"tiny": TINY, "small": SMALL, "base": BASE})
