"""Claims about training one codec in several processes."""

import copy
from itertools import cycle, islice
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import multiprocessing
from two_processes import MICRO, SEED, train_one_of_two, windows

from models.codec_training import second_moment_memory, training_crops
from models.codecs import untrained
from models.data_parallel import processes
from models.training import State, TrainingRecipe, fit
from models.training_draws import step_generator


@pytest.fixture(scope="module")
def trained_by_two(tmp_path_factory: pytest.TempPathFactory) -> list[State]:
    """The averaged weights that each of two processes ended with."""
    folder: Path = tmp_path_factory.mktemp("two")
    multiprocessing.start_processes(train_one_of_two, args=(str(folder),), nprocs=2, start_method="spawn")
    return [load_file(folder / f"{rank}.safetensors") for rank in range(2)]


def test_all_processes_end_with_the_same_weights(trained_by_two: list[State]) -> None:
    first, second = trained_by_two
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_two_processes_take_the_mean_of_their_gradients_on_their_own_shares(trained_by_two: list[State]) -> None:
    codec = untrained(MICRO, SEED)
    shares = [training_crops(codec, islice(cycle(windows()), rank, None, 2), 2 * SEED + rank) for rank in range(2)]
    recipe = TrainingRecipe(
        steps=MICRO.steps,
        batch_size=1,
        learning_rate=MICRO.learning_rate,
        betas=(0.9, second_moment_memory(MICRO.steps)),
        warmup_steps=10,
        weight_decay=0.0,
        seed=SEED,
    )

    def loss(step: int) -> torch.Tensor:
        own = [step_generator(2 * SEED + rank, step, torch.device("cpu")) for rank in range(2)]
        losses = [codec.loss(next(crops), step / MICRO.steps, noise) for crops, noise in zip(shares, own, strict=True)]
        return torch.stack(losses).mean()

    expected = fit(
        codec,
        loss,
        recipe,
        optimizer_of=lambda module, told: torch.optim.RAdam(
            module.parameters(), lr=told.learning_rate, betas=told.betas
        ),
    )
    start = copy.deepcopy(untrained(MICRO, SEED)).state_dict()
    for name, weight in expected.items():
        assert torch.allclose(trained_by_two[0][name], weight, atol=1e-5), name
    assert any(not torch.allclose(start[name], weight, atol=1e-4) for name, weight in expected.items())


def test_a_process_alone_is_the_first_of_one() -> None:
    assert processes() == (0, 1)
