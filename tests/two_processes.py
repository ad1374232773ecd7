"""What each of two training processes does: a module of its own, because spawned processes must import it."""

from dataclasses import replace
from itertools import cycle

import torch
from micro_codecs import STEREO
from safetensors.torch import save_file
from torch import distributed

from models.codec_training import fit_codec
from models.codecs import untrained

MICRO = replace(STEREO, steps=2, batch=1, learning_rate=1e-2)
SEED = 3


def windows() -> list[torch.Tensor]:
    """Four batches of one loud window each."""
    generator = torch.Generator().manual_seed(0)
    return [0.1 * torch.randn(1, 2, 70_000, generator=generator) for _ in range(4)]


def train_one_of_two(rank: int, folder: str) -> None:
    """What a process does that torchrun started."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    codec = untrained(MICRO, SEED + rank)  # other first weights: those of process 0 count
    state = fit_codec(codec, cycle(windows()), steps=MICRO.steps, learning_rate=MICRO.learning_rate, seed=SEED)
    save_file(dict(state), f"{folder}/{rank}.safetensors")
    distributed.destroy_process_group()
