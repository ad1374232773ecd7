"""What each of several processes does that train a denoiser and a bridge: spawned processes must import it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import distributed

from models.batch import LatentSet, StyleSource
from models.bridge import BridgeRecipe, train_bridge
from models.denoiser_training import train_denoiser
from models.dit import DiTRecipe
from models.edm import EdmObjective
from models.training import State, TrainingRecipe

STEPS = 6
TRAINING = TrainingRecipe(steps=STEPS, batch_size=4, learning_rate=1e-2, warmup_steps=2)
DIT = DiTRecipe(width=32, layers=1, heads=2, noise_width=32, frames_per_token=2)
BRIDGE = BridgeRecipe(width=16, blocks=1, conditioning_width=16, training=TRAINING)
Heard = dict[int, dict[str, float]]


def latents() -> LatentSet:
    """Ten windows of noise."""
    random = np.random.default_rng(0)

    def noise(*shape: int) -> np.ndarray:
        return random.standard_normal(shape, dtype=np.float32)

    return LatentSet(
        target_NCT=noise(10, 4, 8),
        context_NCT=noise(10, 4, 8),
        clap_audio_NKE=noise(10, 2, 6),
        clap_leak_NE=noise(10, 6),
        mean_C=np.zeros(4, np.float32),
        std_C=np.ones(4, np.float32),
    )


def denoiser(**keywords) -> State:
    """The averaged weights of a short training."""
    return train_denoiser(DIT, EdmObjective(), TRAINING, latents(), style=StyleSource.OTHER_SEGMENT, **keywords)


def bridge(**keywords) -> State:
    """The averaged weights of a short training of a bridge."""
    data = latents()
    return train_bridge(BRIDGE, torch.from_numpy(data.clap_leak_NE), torch.from_numpy(data.clap_audio_NKE), **keywords)


def train_as_one_of(rank: int, size: int, folder: str) -> None:
    """Both trainings, and the denoiser's resumed from the state in the folder, which process 0 alone reads."""
    torch.set_num_threads(1)
    place = Path(folder)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
    heard: Heard = {}
    save_file(dict(denoiser(log=heard.__setitem__, log_every=1)), place / f"denoiser-{rank}")
    save_file(dict(bridge()), place / f"bridge-{rank}")
    resume = load_file(place / "state") if rank == 0 else None
    save_file(dict(denoiser(resume=resume)), place / f"resumed-{rank}")
    save_file({str(step): torch.tensor(values["loss"]) for step, values in heard.items()}, place / f"losses-{rank}")
    distributed.destroy_process_group()
