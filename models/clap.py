"""The CLAP interface: audio or text in, unit vectors of one shared space out, with the identity of that space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

# Shapes: B batch, S audio channels, N samples, E embedding width.


@dataclass(frozen=True, kw_only=True)
class ClapSpec:
    """What identifies an embedding space in every record and table; vectors of two spaces never compare.

    `window_samples` is how much of a clip is heard: its first 10.0 s at 48 kHz, or all of a shorter one.
    """

    name: str
    width: int
    licence: str
    weights_sha256: str
    rate_hz: int = 48_000
    window_samples: int = 480_000
    normalised: bool = True


@dataclass(frozen=True, kw_only=True)
class LaionClapRecipe:
    """LAION-CLAP by the digests of its checkpoint and of its tokenizer's vocabulary; the files stay the user's.

    Any unfused release will do, HTSAT-base or HTSAT-tiny: the checkpoint says which. `int16` hears audio cut to 16
    bits, as laion_clap reads files; the authors' code did not (reference/metrics.md A0).
    """

    checkpoint_sha256: str
    tokenizer_sha256: str
    int16: bool = False


class Clap(Protocol):
    """A frozen pair of towers that embed audio and text in one space."""

    spec: ClapSpec

    def embed_audio(self, audio_BSN: Tensor) -> Tensor:
        """Float32 unit vectors clap_BE of the mean of the channels, first `spec.window_samples` samples."""

    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """Float32 unit vectors clap_BE, one per text; a text is a list of tags joined by commas."""


def listening_window(audio_BSN: Tensor, window_samples: int) -> Tensor:
    """What an embedder hears of each clip: mono_BN float32, the mean of the channels, at most `window_samples`.

    The window always starts at sample 0: a random crop would give one clip many vectors (reference/metrics.md B).
    """
    if audio_BSN.dim() != 3 or 0 in audio_BSN.shape:
        raise ValueError(
            f"audio has shape {tuple(audio_BSN.shape)}; a Clap expects (batch, channels, samples), none of them zero"
        )
    mono_BN = audio_BSN[..., :window_samples].float().mean(dim=1)
    finite_B = torch.isfinite(mono_BN).all(dim=1)
    if not bool(finite_B.all()):
        rows = torch.nonzero(~finite_B).flatten().tolist()
        raise ValueError(f"audio rows {rows} hold NaN or infinite samples; leave them out before embedding")
    return mono_BN
