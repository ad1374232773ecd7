"""What a training tells of itself."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from two_trainers import DIT, TRAINING, bridge, denoiser, latents

from models.batch import StyleSource
from models.consistency import ConsistencyObjective
from models.denoiser_telemetry import watched_windows
from models.denoiser_training import train_denoiser
from models.rounding import LEVELS
from models.telemetry import FIXED_SIGMAS, LossByNoiseLevel, Pace, heldout_errors, relative_distance

CPU = torch.device("cpu")


def test_losses_are_averaged_by_the_range_of_their_noise_level_and_then_begun_anew():
    by_level = LossByNoiseLevel(CPU)
    by_level.hear(torch.tensor([[1.0, 3.0], [5.0, 7.0]]), torch.tensor([0.2, 50.0]))
    by_level.hear(torch.tensor([[8.0, 8.0]]), torch.tensor([0.25]))
    assert by_level.report() == {"loss/sigma_0.1_to_0.3": 5.0, "loss/sigma_above_3": 6.0}
    by_level.hear(torch.tensor([4.0]), torch.tensor([0.01]))
    assert by_level.report() == {"loss/sigma_0_to_0.1": 4.0}


def test_heldout_error_is_0_for_who_knows_and_1_for_who_says_the_mean():
    clean = 0.5 * torch.randn(200, 4, 8, generator=torch.Generator().manual_seed(0))
    told = {"sigma_data": 0.5, "seed": 3}
    assert set(heldout_errors(lambda noisy, sigma_B: clean, clean, **told).values()) == {0.0}
    for error in heldout_errors(lambda noisy, sigma_B: 0 * noisy, clean, **told).values():
        assert error == pytest.approx(1.0, abs=0.05)
    seen = heldout_errors(lambda noisy, sigma_B: noisy, clean, **told)
    assert seen == heldout_errors(lambda noisy, sigma_B: noisy, clean, **told)
    for sigma in FIXED_SIGMAS:
        assert seen[f"heldout/sigma_{sigma:g}"] == pytest.approx((sigma / 0.5) ** 2, rel=0.1)


def test_pace_is_that_since_the_last_report():
    times = iter((0.0, 2.0, 3.0))
    pace = Pace(10, clock=lambda: next(times))
    assert pace.report(20) == 5.0
    assert pace.report(21) == 1.0


def test_distance_is_relative_to_the_weights():
    assert relative_distance([torch.tensor([3.0, 0.0]), torch.tensor([4.0])], [torch.zeros(2), torch.ones(1)]) == (
        pytest.approx(math.sqrt(18))
    )


@pytest.mark.parametrize("train", [denoiser, bridge])
def test_a_log_is_told_levels_pace_and_the_lag_of_the_average(train):
    heard = []
    train(log=lambda step, values: heard.append(values), log_every=3)
    first, last = heard
    assert any(name.startswith("loss/sigma_") for name in first)
    assert last["samples_per_second"] == pytest.approx(4 * last["steps_per_second"])
    assert 0 < last["ema_distance"] < 1
    assert {"loss", "gradient_norm", "learning_rate", "skipped_steps"} <= last.keys()
    assert not any(name.startswith("heldout/") for name in last)


def test_heldout_windows_are_told_of_and_change_no_weight():
    heard = []
    watched = denoiser(heldout=latents(), log=lambda step, values: heard.append(values), log_every=1)
    unwatched = denoiser()
    assert {f"heldout/sigma_{sigma:g}" for sigma in FIXED_SIGMAS} <= heard[0].keys()
    assert heard[0]["heldout/sigma_2"] != heard[-1]["heldout/sigma_2"]
    assert all(torch.equal(watched[name], weight) for name, weight in unwatched.items())


def test_heldout_windows_are_told_in_the_units_of_the_training_set():
    trained, held = latents(), replace(latents(), mean_C=np.full(4, 3.0, np.float32), std_C=np.full(4, 9.0, np.float32))
    told = [watched_windows(data, trained, StyleSource.TARGET_WINDOW, count=2).target_BCT for data in (held, trained)]
    assert torch.equal(*told)


def test_a_consistency_training_tells_the_share_of_rounding_in_both_arithmetics_and_changes_no_weight():
    heard = []
    data = latents()

    def trained(**keywords):
        return train_denoiser(DIT, ConsistencyObjective(), TRAINING, data, style=StyleSource.OTHER_SEGMENT, **keywords)

    watched, unwatched = trained(heldout=data, log=lambda step, values: heard.append(values), log_every=3), trained()
    for sigma in LEVELS:
        assert 0 < heard[-1][f"rounding/float32/sigma_{sigma:g}"] < 0.01
        # The step shrinks tenfold over the second half, the rounding does not.
        early, late = (values[f"rounding/bfloat16/sigma_{sigma:g}"] for values in heard)
        assert late > 2 * early > 0
    assert all(torch.equal(watched[name], weight) for name, weight in unwatched.items())
