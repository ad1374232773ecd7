"""The real compiler, which takes its time: a compiled training is the eager one but for rounding."""

from __future__ import annotations

import shutil

import pytest
import torch
from two_trainers import denoiser

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("g++") is None and shutil.which("clang++") is None,
        reason="torch.compile needs a C++ compiler on a CPU, and there is none",
    ),
]


def test_a_compiled_training_is_the_eager_one_but_for_rounding():
    losses = {True: [], False: []}
    weights = {
        compiled: denoiser(
            compiled=compiled,
            log=lambda step, values, heard=heard: heard.append(values["loss"]),
            log_every=1,
        )
        for compiled, heard in losses.items()
    }
    assert losses[True] == pytest.approx(losses[False], rel=1e-5)
    assert weights[True].keys() == weights[False].keys()
    for name, weight in weights[False].items():
        torch.testing.assert_close(weights[True][name], weight, atol=1e-4, rtol=1e-3)
