"""The losses of every arm's tiny training are those that were recorded."""

from __future__ import annotations

import json

import pytest
from golden_losses import GOLDEN, STEPS, golden_losses

from models.arms import ARMS

TOLERANCE = 1e-4  # relative: float32 sums in another order on another CPU; a changed recipe moves losses by percents


@pytest.fixture(scope="module")
def losses():
    return golden_losses()


@pytest.mark.parametrize("arm", [arm.name for arm in ARMS])
def test_the_tiny_training_has_the_recorded_losses(losses, arm):
    recorded = json.loads(GOLDEN.read_text(encoding="utf-8"))[arm]
    assert len(recorded) == STEPS
    assert losses[arm] == pytest.approx(recorded, rel=TOLERANCE)
