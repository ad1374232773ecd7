"""Claims about the measurement of whether an arm listens to its context."""

import numpy as np
import pytest

from tasks.context_sensitivity import OWN, SILENT, SWAPPED, ContextIgnored, moved_by_context

# Shapes: N candidates, V variants (1), C latent width, T latent frames.

PARTNER_N = np.array([1, 2, 3, 0])


@pytest.fixture
def own_NVCT():
    return np.random.default_rng(0).standard_normal((4, 1, 3, 5)).astype(np.float32)


def test_a_model_that_only_hears_its_context_moves_by_the_whole_distance_between_prompts(own_NVCT):
    moved = moved_by_context({OWN: own_NVCT, SWAPPED: own_NVCT[PARTNER_N], SILENT: own_NVCT}, PARTNER_N)
    assert moved == pytest.approx({OWN: 0, SWAPPED: 1, SILENT: 0})


def test_a_change_is_told_in_units_of_the_distance_between_prompts(own_NVCT):
    apart = np.sqrt(np.mean((own_NVCT - own_NVCT[PARTNER_N]) ** 2))
    shifted = own_NVCT + np.float32(0.1)
    for unit in (1, 100):
        moved = moved_by_context({OWN: unit * own_NVCT, SWAPPED: unit * shifted, SILENT: unit * own_NVCT}, PARTNER_N)
        assert moved[SWAPPED] == pytest.approx(0.1 / apart, rel=1e-4)


def test_a_context_that_changes_nothing_but_rounding_is_a_loud_error(own_NVCT):
    rounded = own_NVCT * np.float32(1 + 1e-7)
    with pytest.raises(ContextIgnored, match="does not reach the denoiser"):
        moved_by_context({OWN: own_NVCT, SWAPPED: rounded, SILENT: rounded}, PARTNER_N)
