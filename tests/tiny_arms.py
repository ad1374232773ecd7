"""Arms that were trained for two steps on noise: all that an export needs, in a second."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from flows.scales import study_at
from models.codec import CHUNK_SAMPLES
from models.codecs import is_mono, untrained
from models.spectral import SpectralRecipe, fit_spectral
from models.weights import save_weights
from tasks import fit_codec
from tasks.artifact import Artifact
from tasks.clap import ImportShippedClap, shipped_clap
from tasks.export_model import TrainedArm
from tasks.recipes import dump_recipe
from tasks.runtime import Runtime
from tasks.store import Store
from tasks.train import TrainBridge, TrainDenoiser

WINDOW_SAMPLES = 3 * CHUNK_SAMPLES
WINDOWS, SEGMENTS, CLAP_WIDTH = 8, 2, 128
ABOUT = {
    "scale": "tiny",
    "seed": 0,
    "corpus": "the embedded corpus",
    "corpus_digest": "00",
    "train_windows": WINDOWS,
    "licence": "apache-2.0",
    "version": "0.1.0",
    "commit": "unknown",
}


def train_arm(name: str, workspace: Path) -> TrainedArm:
    """An arm of the tiny scale; the stereo ones with the closed-form codec, which is fitted on noise."""
    arm = next(arm for arm in study_at("tiny").arms if arm.name == name)
    mono = is_mono(arm.denoiser.codec)
    recipe = arm.denoiser.codec if mono else SpectralRecipe(audio_channels=2)
    steps = replace(arm.denoiser.training, steps=2)
    arm = replace(arm, denoiser=replace(arm.denoiser, codec=recipe, training=steps, start=None))
    runtime = Runtime(workspace=str(workspace), torch_threads=1, progress=False)
    store, packed = Store(workspace / "artifacts"), pack(workspace)
    bridge = replace(arm.bridge, training=replace(arm.bridge.training, steps=2)) if arm.bridge else None
    arm = replace(arm, bridge=bridge)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.training_session._tracked", lambda step, runtime: nullcontext(lambda at, values: None))
        return TrainedArm(
            arm=arm,
            denoiser=store.build(TrainDenoiser.of(arm.denoiser, data=packed, start=None), runtime),
            bridge=store.build(TrainBridge(data=packed, recipe=bridge), runtime) if bridge else None,
            codec=codec_of(recipe, workspace),
            clap=store.build(ImportShippedClap(recipe=shipped_clap()), runtime),
            window_samples=WINDOW_SAMPLES,
            about=ABOUT,
        )


def codec_of(recipe: fit_codec.CodecRecipe, workspace: Path) -> Artifact:
    """A codec as `codec fit` leaves it, untrained or fitted on noise."""
    folder = workspace / "codec"
    folder.mkdir()
    if isinstance(recipe, SpectralRecipe):
        noise_BSN = 0.1 * torch.randn(6, 2, WINDOW_SAMPLES, generator=torch.Generator().manual_seed(0))
        state = fit_spectral(recipe, [noise_BSN])
    else:
        state = untrained(recipe, 0).state_dict()
    save_weights(folder / fit_codec.WEIGHTS, state, {})
    (folder / fit_codec.RECIPE).write_text(dump_recipe(recipe))
    return Artifact(stage="codec", key=None, location=str(folder), digest="22")


def pack(workspace: Path) -> Artifact:
    """Packed latents and embeddings of eight windows of noise, as `PackLatents` leaves them."""
    folder = workspace / "packed"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    shapes = {
        "target_NCT": (WINDOWS, 64, 24),
        "context_NCT": (WINDOWS, 64, 24),
        "clap_audio_NKE": (WINDOWS, SEGMENTS, CLAP_WIDTH),
        "clap_leak_NE": (WINDOWS, CLAP_WIDTH),
        "clap_text_NE": (WINDOWS, CLAP_WIDTH),
    }
    for name, shape in shapes.items():
        values = random.standard_normal(shape, dtype=np.float32)
        unit = values / np.linalg.norm(values, axis=-1, keepdims=True) if "clap" in name else values
        np.save(folder / f"{name}.npy", unit)
    statistics = {"mean_C": random.normal(0, 0.1, 64).tolist(), "std_C": random.uniform(0.2, 0.4, 64).tolist()}
    (folder / "statistics.json").write_text(json.dumps(statistics))
    return Artifact(stage="pack", key="00", location=str(folder), digest="11")
