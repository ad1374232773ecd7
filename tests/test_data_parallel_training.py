"""Claims about training one denoiser, or one bridge, in several processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import multiprocessing
from two_trainers import STEPS, bridge, denoiser, train_as_one_of

from models.data_parallel import in_any_process, own_rows, processes, state_of_process_0, sum_of_processes

HALFWAY = 3


@pytest.fixture(scope="module")
def alone():
    """What one process makes: weights of both, the losses of the denoiser, and its state halfway."""
    losses, states = {}, []
    trained = denoiser(log=lambda step, values: losses.__setitem__(step, values["loss"]), log_every=1)
    denoiser(save=states.append, save_every=HALFWAY)
    return {"denoiser": trained, "bridge": bridge(), "losses": losses, "state": states[0]}


@pytest.fixture(scope="module")
def by_two(alone, tmp_path_factory):
    """What two processes leave in a folder."""
    folder: Path = tmp_path_factory.mktemp("two")
    save_file(alone["state"], folder / "state")
    multiprocessing.start_processes(train_as_one_of, args=(2, str(folder)), nprocs=2, start_method="spawn")
    return {path.name: load_file(path) for path in folder.iterdir() if path.name != "meeting"}


@pytest.mark.parametrize("what", ["denoiser", "bridge"])
def test_two_processes_train_what_one_does(alone, by_two, what):
    for name, weight in alone[what].items():
        torch.testing.assert_close(by_two[f"{what}-0"][name], weight, atol=2e-5, rtol=1e-4)
        assert torch.equal(by_two[f"{what}-1"][name], by_two[f"{what}-0"][name])


def test_the_loss_of_two_processes_is_that_of_the_whole_batch(alone, by_two):
    assert len(alone["losses"]) == STEPS
    for rank in range(2):
        found = {int(step): loss.item() for step, loss in by_two[f"losses-{rank}"].items()}
        assert found == pytest.approx(alone["losses"], rel=1e-4)


def test_a_training_of_one_process_goes_on_in_two(alone, by_two):
    """Process 0 alone reads the state; the other one is told it."""
    for name, weight in alone["denoiser"].items():
        torch.testing.assert_close(by_two["resumed-1"][name], weight, atol=2e-5, rtol=1e-4)


def test_a_process_alone_has_all_rows_and_agrees_with_itself():
    assert processes() == (0, 1)
    assert own_rows(5) == slice(0, 5)
    assert torch.equal(sum_of_processes(torch.ones(2)), torch.ones(2))
    assert in_any_process(True, torch.device("cpu")) and not in_any_process(False, torch.device("cpu"))
    assert state_of_process_0(None, {}, torch.device("cpu")) is None


def test_rows_are_dealt_out_in_order_and_a_batch_that_does_not_divide_is_refused(monkeypatch):
    monkeypatch.setattr("models.data_parallel.processes", lambda: (1, 3))
    assert own_rows(6) == slice(2, 4)
    with pytest.raises(ValueError, match="a batch of 7 does not divide among 3 processes"):
        own_rows(7)
