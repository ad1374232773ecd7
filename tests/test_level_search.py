"""The search for better noise levels, and the score that it goes by."""

from __future__ import annotations

import math

import pytest
import torch

from models.batch import LatentBatch
from models.consistency import FIVE_LEVELS, ConsistencyObjective
from models.guidance import Guidance
from models.level_search import energy_score, search_levels
from models.sampling import ConsistencySampler

NO_GUIDANCE = Guidance(context=1.0, clap=1.0)


class KnownMap(torch.nn.Module):
    """The consistency map of y ~ N(0, v), right at all levels but those above `trusted`, where it shrinks its value."""

    def __init__(self, variance, trusted=math.inf):
        super().__init__()
        self.objective = ConsistencyObjective()
        self.variance, self.trusted = variance, trusted

    def forward(self, noisy, sigma_B, conditions):
        sigma = sigma_B[:, None, None]
        value = noisy * ((self.variance + 0.002**2) / (self.variance + sigma**2)).sqrt()
        return torch.where(sigma > self.trusted, 0.5 * value, value)


@pytest.fixture
def batch():
    latents = 0.5 * torch.randn(240, 2, 3, generator=torch.Generator().manual_seed(0))
    given = torch.zeros(240, dtype=torch.bool)
    return LatentBatch(latents, torch.zeros_like(latents), torch.zeros(240, 4), given, given)


def search(denoiser, batch, levels=FIVE_LEVELS, **keywords):
    return search_levels(
        denoiser, batch, sampler=ConsistencySampler(levels=levels), guidance=NO_GUIDANCE, seed=3, **keywords
    )


def test_energy_score_is_lowest_for_the_true_law():
    """For standard normals in one dimension it is E|x - y| / 2 = 1 / sqrt(pi); a wider or a shifted law scores more."""
    draw = torch.randn(3, 40_000, 1, 1, generator=torch.Generator().manual_seed(0))
    assert energy_score(*draw) == pytest.approx(1 / math.sqrt(math.pi), rel=0.02)
    assert energy_score(1.5 * draw[0], 1.5 * draw[1], draw[2]) > 1.02 / math.sqrt(math.pi)
    assert energy_score(0.5 * draw[0], 0.5 * draw[1], draw[2]) > 1.02 / math.sqrt(math.pi)
    assert energy_score(draw[0] + 0.5, draw[1] + 0.5, draw[2]) > 1.02 / math.sqrt(math.pi)


def test_levels_that_spoil_the_samples_are_moved_to_where_the_map_is_right(batch):
    """A map that is wrong above 0.3 must be asked once more below it; the gain holds on windows not searched."""
    found = search(KnownMap(0.25, trusted=0.3), batch, levels=(80.0, 20.0, 0.8))
    assert found.levels[-1] < 0.3
    assert found.searched_after < 0.95 * found.searched_before
    assert found.held_out_after < 0.95 * found.held_out_before


def test_a_search_is_never_worse_where_it_searched_and_keeps_the_levels_in_order(batch):
    found = search(KnownMap(0.25), batch, factors=(2.0, 2**0.5))
    assert found.searched_after <= found.searched_before
    assert found.levels[0] == FIVE_LEVELS[0]
    assert list(found.levels) == sorted(found.levels, reverse=True)
    assert found.levels[-1] > ConsistencySampler().sigma_min


def test_a_search_is_a_function_of_its_seed(batch):
    denoiser = KnownMap(0.25, trusted=0.3)
    assert search(denoiser, batch, factors=(2.0,)) == search(denoiser, batch, factors=(2.0,))


def test_a_search_without_windows_to_report_on_is_an_error(batch):
    few = LatentBatch(*(part[:3] for part in vars(batch).values()))
    with pytest.raises(ValueError, match="two windows to search on and two to report, got 3"):
        search(KnownMap(0.25), few)
