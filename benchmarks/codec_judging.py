"""Judges a trained codec on held-out stems, with nothing but torch, numpy, scipy and safetensors."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metrics.frechet import frechet_distance
from models.codec import Codec, in_codec_channels
from models.codec_quality import log_mel_distance_db
from models.mel import LogMel, MelRecipe
from models.small_clap import SmallClap, SmallClapRecipe
from models.weights import load_weights

# Shapes: S audio channels, N samples, W windows, E embedding width.

SHIPPED_CLAP = Path(__file__).resolve().parent.parent / "models" / "shipped" / "small_clap"
QUIET_RMS = 1e-3


def heldout_windows(songs: list[list[np.ndarray]], *, samples: int, count: int) -> Tensor:
    """Windows (W, 2, N) of held-out stems that sound, in a random order."""
    random = np.random.default_rng(0)
    stems = [stem_SN for song in songs for stem_SN in song]
    starts = random.integers(stems[0].shape[1] - samples, size=len(stems))
    cut = [stem_SN[:, start : start + samples] for stem_SN, start in zip(stems, starts, strict=True)]
    windows_WSN = torch.from_numpy(np.stack(cut)).float() / 32_768
    loud = windows_WSN[windows_WSN.square().mean(dim=(1, 2)).sqrt() >= QUIET_RMS]
    return loud[random.permutation(len(loud))[:count]]


@torch.no_grad()
def judged(codec: Codec, real_WSN: Tensor, *, batch: int, device: torch.device, out: Path) -> dict[str, Any]:
    """Round trips of held-out stems beside white noise of the same RMS: log-mel distance, and FAD in the shipped CLAP.

    Leaves the log-mel pictures of four originals and round trips, to be looked at, in `pictures.npz`.
    """
    real_WSN = in_codec_channels(real_WSN, codec.spec)
    started = time.perf_counter()
    copies = [
        _round_trip(codec, part.to(device), first * batch).cpu() for first, part in enumerate(real_WSN.split(batch))
    ]
    taken_s, copy_WSN = time.perf_counter() - started, torch.cat(copies)
    noise_WSN = torch.randn(real_WSN.shape, generator=torch.Generator().manual_seed(1))
    noise_WSN *= real_WSN.square().mean(dim=(1, 2), keepdim=True).sqrt()
    clap = shipped_clap(device)
    real_WE, copy_WE, noise_WE = (
        np.concatenate([clap.embed_audio(row[None].to(device)).cpu().numpy() for row in audio])
        for audio in (real_WSN, copy_WSN, noise_WSN)
    )
    mel = LogMel(MelRecipe())
    np.savez_compressed(out / "pictures.npz", original=mel(real_WSN[:4].mean(1)), round_trip=mel(copy_WSN[:4].mean(1)))
    mel_db, noise_mel_db = (log_mel_distance_db(real_WSN, audio).mean().item() for audio in (copy_WSN, noise_WSN))
    fad, noise_fad = (frechet_distance(real_WE, other_WE) for other_WE in (copy_WE, noise_WE))
    return {
        "heldout_windows": len(real_WSN),
        "log_mel_db": {"round_trip": mel_db, "white_noise": noise_mel_db, "ratio": mel_db / noise_mel_db, "gate": 0.1},
        "fad_small_clap": {"round_trip": fad, "white_noise": noise_fad, "ratio": fad / noise_fad, "gate": 0.15},
        "round_trip_times_real_time": real_WSN.shape[0] * real_WSN.shape[2] / codec.spec.rate_hz / taken_s,
    }


def _round_trip(codec: Codec, audio_WSN: Tensor, first: int) -> Tensor:
    generators = [torch.Generator().manual_seed(first + row) for row in range(len(audio_WSN))]
    return codec.decode(codec.encode(audio_WSN), generators=generators)


def shipped_clap(device: torch.device) -> SmallClap:
    """The small CLAP of the package, read without the tasks that usually do it."""
    stated = json.loads((SHIPPED_CLAP / "recipe.json").read_text(encoding="utf-8"))
    mel = MelRecipe(**{name: value for name, value in stated.pop("mel").items() if name != "type"})
    channels, _ = tuple(stated.pop("channels")), stated.pop("type")
    recipe = SmallClapRecipe(**stated, mel=mel, channels=channels)
    state, digest = load_weights(SHIPPED_CLAP / "clap.safetensors")
    return SmallClap(recipe, state, digest, device=device)
