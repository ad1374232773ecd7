"""Editing against a Gaussian whose denoiser is known: correlated over time, so that a seam shows in a number."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from models.conditioning import ClapSource, Conditioning
from models.consistency import ConsistencyObjective
from models.denoiser import build_denoiser
from models.dit import DiTRecipe
from models.editing import fill, inpaint, interpolate_clap, loop
from models.edm import EdmObjective
from models.sampling import AncestralSampler, ConsistencySampler, EulerSampler, Guidance, HeunSampler, sample_latents

SAMPLERS = [HeunSampler(steps=4), EulerSampler(steps=4), AncestralSampler(steps=4), ConsistencySampler()]
NEXT_FRAME, VARIANCE, WIDTH = 0.9, 0.25, 600
PLAIN = Guidance(context=1.0, clap=1.0)


class AutoregressiveDenoiser(nn.Module):
    """E[y | x] for channels y that are each N(context, S), S_ij = VARIANCE NEXT_FRAME^|i - j|: an AR(1) over time.

    As a consistency map, the end at sigma_min of the probability-flow trajectory instead.
    """

    def __init__(self, *, consistency=False):
        super().__init__()
        self.consistency = consistency
        self.frames_seen = set()

    def forward(self, noisy_BCT, sigma_B, conditions):
        frames = noisy_BCT.shape[-1]
        self.frames_seen.add(frames)
        values, basis = torch.linalg.eigh(covariance(frames))
        sigma2_B11 = sigma_B[:, None, None] ** 2
        gain = values / (values + sigma2_B11)
        if self.consistency:
            gain = ((values + 0.002**2) / (values + sigma2_B11)).sqrt()
        mean_BCT = conditions.context_BCT * conditions.has_context_B[:, None, None]
        return mean_BCT + (((noisy_BCT - mean_BCT) @ basis) * gain) @ basis.T


def covariance(frames):
    index = torch.arange(frames)
    return VARIANCE * NEXT_FRAME ** (index[:, None] - index).abs()


def true_draw(batch, frames, seed=0):
    noise = torch.randn(batch, WIDTH, frames, generator=torch.Generator().manual_seed(seed))
    return noise @ torch.linalg.cholesky(covariance(frames)).T


def continued(denoiser, start_BCS, conditions, **options):
    """`start_BCS` gone on with for as long as the context."""
    given, wanted = start_BCS.shape[-1], conditions.context_BCT.shape[-1]
    latent_BCL = torch.nn.functional.pad(start_BCS, (0, wanted - given))
    return fill(denoiser, latent_BCL, torch.arange(wanted) < given, conditions, **options)


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def correlation(latent_BCT, first, second):
    """Between two frames, over the batch and the channels (1,200 independent draws: standard error below 0.03)."""
    return torch.corrcoef(torch.stack([latent_BCT[..., first].flatten(), latent_BCT[..., second].flatten()]))[0, 1]


def unconditional(batch, frames, width=WIDTH):
    return Conditioning(clap=None, context=False).conditions(torch.zeros(batch, width, frames), torch.zeros(batch, 6))


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def arm():
    """A small untrained denoiser that has left its zero initialisation, and three rows of conditions of 12 frames."""

    def make(sampler):
        objective = ConsistencyObjective() if isinstance(sampler, ConsistencySampler) else EdmObjective()
        recipe = DiTRecipe(width=16, layers=1, heads=2, noise_width=16, frames_per_token=2)
        denoiser = build_denoiser(recipe, objective, clap_width=6, seed=0, latent_width=4)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in denoiser.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        row = Conditioning(clap=ClapSource.AUDIO, context=True)
        context, clap = torch.randn(3, 4, 12, generator=generator), torch.randn(3, 6, generator=generator)
        return denoiser.eval(), lambda *rows: row.conditions(context[list(rows)], clap[list(rows)])

    return make


each_sampler = pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: type(sampler).__name__)


@each_sampler
def test_kept_frames_come_back_exactly_and_what_they_replace_is_never_read(arm, sampler):
    denoiser, conditions = arm(sampler)
    latent, kept = 1e-3 * torch.randn(3, 4, 12), torch.arange(12) < torch.tensor([[3], [6], [9]])
    hidden = torch.where(kept[:, None], latent, torch.nan)

    def edited(given):
        return inpaint(
            denoiser,
            given,
            kept,
            conditions(0, 1, 2),
            sampler=sampler,
            guidance=Guidance(),
            generators=generators(1, 2, 3),
        )

    filled = edited(latent)
    assert torch.equal(filled.mT[kept], latent.mT[kept])
    assert (filled - latent).mT[~kept].abs().min() > 0
    assert torch.equal(edited(hidden), filled)


@each_sampler
def test_keeping_nothing_in_one_round_is_plain_sampling(arm, sampler):
    denoiser, conditions = arm(sampler)
    options = {"sampler": sampler, "guidance": Guidance()}
    none = torch.zeros(3, 12, dtype=torch.bool)
    latent = torch.randn(3, 4, 12)
    made = inpaint(denoiser, latent, none, conditions(0, 1, 2), generators=generators(1, 2, 3), rounds=1, **options)
    assert torch.equal(made, sample_latents(denoiser, conditions(0, 1, 2), generators=generators(1, 2, 3), **options))


@each_sampler
def test_the_same_item_in_another_batch_is_the_same(arm, sampler):
    denoiser, conditions = arm(sampler)
    options = {"sampler": sampler, "guidance": Guidance()}
    latent = torch.randn(3, 4, 12)
    kept = torch.arange(12) < torch.tensor([[3], [0], [8]])

    def edits(*rows):
        chosen, given = list(rows), conditions(*rows)
        yield inpaint(denoiser, latent[chosen], kept[chosen], given, generators=generators(*rows), **options)
        yield loop(denoiser, given, period_frames=6, strength=0.5, generators=generators(*rows), **options)
        yield continued(
            denoiser,
            latent[chosen, :, :3],
            given,
            window_frames=6,
            overlap_frames=2,
            generators=generators(*rows),
            **options,
        )

    for together, part in zip(edits(0, 1, 2), edits(2, 0), strict=True):
        torch.testing.assert_close(part, together[[2, 0]], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("sampler", "rounds", "within"),
    [
        (HeunSampler(steps=20), 10, 0.08),
        (AncestralSampler(steps=20), 5, 0.05),
        (ConsistencySampler(levels=(80.0, 5.8, 2.5, 1.2, 0.6, 0.3, 0.15, 0.08)), 10, 0.08),
    ],
    ids=["Heun", "Ancestral", "Consistency"],
)
def test_an_inpainted_region_continues_the_correlation_over_both_seams(sampler, rounds, within):
    latent = true_draw(2, 16)
    kept = (torch.arange(16) < 5) | (torch.arange(16) >= 11)
    denoiser = AutoregressiveDenoiser(consistency=isinstance(sampler, ConsistencySampler))
    filled = inpaint(
        denoiser,
        latent,
        kept.expand(2, -1),
        unconditional(2, 16),
        sampler=sampler,
        guidance=PLAIN,
        generators=generators(1, 2),
        rounds=rounds,
    )
    for seam in (4, 10):
        assert correlation(filled, seam, seam + 1) == pytest.approx(NEXT_FRAME, abs=within)
    assert correlation(filled, 7, 8) == pytest.approx(NEXT_FRAME, abs=0.05)


def test_one_round_leaves_a_seam_that_more_rounds_close():
    latent, kept = true_draw(2, 16), (torch.arange(16) < 8).expand(2, -1)

    def seam(rounds):
        filled = inpaint(
            AutoregressiveDenoiser(),
            latent,
            kept,
            unconditional(2, 16),
            sampler=HeunSampler(steps=20),
            guidance=PLAIN,
            generators=generators(1, 2),
            rounds=rounds,
        )
        return correlation(filled, 7, 8)

    assert seam(1) < 0.7 < seam(3) < seam(10)


@pytest.mark.parametrize("given", [0, 2, 9, 40])
def test_outpainting_keeps_the_start_the_statistics_and_one_window_in_memory(given):
    denoiser, start = AutoregressiveDenoiser(), true_draw(2, 40)[..., :given]
    context = torch.linspace(-3, 3, 40).expand(2, WIDTH, 40)
    conditions = Conditioning(clap=None, context=True).conditions(context, torch.zeros(2, 6))
    whole = continued(
        denoiser,
        start + context[..., :given],
        conditions,
        window_frames=12,
        overlap_frames=4,
        sampler=HeunSampler(steps=20),
        guidance=PLAIN,
        generators=generators(1, 2),
        rounds=10,
    )
    assert torch.equal(whole[..., :given], start + context[..., :given])
    assert denoiser.frames_seen <= {12}
    around = whole - context
    assert around.mean((0, 1)).abs().max() < 0.1
    assert around.std((0, 1)).numpy() == pytest.approx(math.sqrt(VARIANCE), rel=0.15)
    for frame in range(39):
        assert correlation(around, frame, frame + 1) == pytest.approx(NEXT_FRAME, abs=0.08)


@pytest.mark.parametrize(
    "sampler", [HeunSampler(), ConsistencySampler(), AncestralSampler()], ids=lambda sampler: type(sampler).__name__
)
def test_a_loop_repeats_and_its_end_continues_into_its_start(sampler):
    denoiser = AutoregressiveDenoiser(consistency=isinstance(sampler, ConsistencySampler))

    def draw(strength):
        return loop(
            denoiser,
            unconditional(2, 48),
            period_frames=24,
            strength=strength,
            sampler=sampler,
            guidance=PLAIN,
            generators=generators(1, 2),
        )

    looped, free = draw(1.0), draw(0.0)
    torch.testing.assert_close(looped[..., 24:], looped[..., :24], rtol=0, atol=1e-5)
    # The AR(1) closed to a ring of n frames has the autocovariance a^k + a^(n - k), up to a factor.
    ring = (NEXT_FRAME + NEXT_FRAME**23) / (1 + NEXT_FRAME**24)
    for frame in range(24):
        assert correlation(looped, frame, frame + 1) == pytest.approx(ring, abs=0.04)
    assert correlation(free, 0, 23) < 0.25
    apart = [(draw(strength)[..., 24:] - draw(strength)[..., :24]).std() for strength in (0.9, 0.6, 0.0)]
    assert 0 < apart[0] < apart[1] < apart[2]


def test_interpolation_turns_evenly_from_one_unit_vector_to_the_other():
    first, second = torch.nn.functional.normalize(torch.randn(2, 5, 512), dim=-1)
    torch.testing.assert_close(interpolate_clap(first, second, 0.0), first)
    torch.testing.assert_close(interpolate_clap(first, second, 1.0), second)
    torch.testing.assert_close(interpolate_clap(first, first, 0.3), first)
    angle = (first * second).sum(-1).acos()
    for ratio in (0.25, 0.5, 0.75):
        between = interpolate_clap(first, second, ratio)
        torch.testing.assert_close(between.norm(dim=-1), torch.ones(5))
        torch.testing.assert_close((between * first).sum(-1).acos(), ratio * angle)
        torch.testing.assert_close((between * second).sum(-1).acos(), (1 - ratio) * angle)


@pytest.mark.parametrize(
    ("second", "ratio", "message"),
    [((-1.0, 0.0), 0.5, "opposite"), ((0.0, 2.0), 0.5, "have norm 1"), ((0.0, 1.0), 1.5, r"between 0 and 1, got 1\.5")],
)
def test_vectors_without_an_interpolation_are_an_error(second, ratio, message):
    with pytest.raises(ValueError, match=message):
        interpolate_clap(torch.tensor([[1.0, 0.0]]), torch.tensor([second]), ratio)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"latent_BCT": torch.zeros(1, 4, 7)}, r"latents are \(1, 4, 7\), their context \(1, 4, 8\)"),
        ({"kept_BT": torch.zeros(8, dtype=torch.bool)}, r"booleans of shape \(1, 8\), got torch.bool of \(8,\)"),
        ({"kept_BT": torch.zeros(1, 8)}, "got torch.float32"),
        ({"rounds": 0}, "at least once, got rounds 0"),
        ({"generators": generators(1, 2)}, "1 candidates need as many generators, got 2"),
    ],
)
def test_inpainting_names_what_does_not_fit(changed, message):
    fitting = {
        "latent_BCT": torch.zeros(1, 4, 8),
        "kept_BT": torch.zeros(1, 8, dtype=torch.bool),
        "generators": generators(1),
        "rounds": 1,
    }
    with pytest.raises(ValueError, match=message):
        inpaint(
            AutoregressiveDenoiser(),
            conditions=unconditional(1, 8, width=4),
            sampler=HeunSampler(),
            guidance=PLAIN,
            **fitting | changed,
        )


@pytest.mark.parametrize(
    ("window", "overlap", "message"),
    [
        (9, 2, "8 frames do not fill a window of 9"),
        (4, 4, "overlap by fewer, and by at least 1, got 4"),
        (4, 0, "got 0"),
    ],
)
def test_windows_that_cannot_cover_the_context_are_an_error(window, overlap, message):
    with pytest.raises(ValueError, match=message):
        continued(
            AutoregressiveDenoiser(),
            torch.zeros(1, 4, 2),
            unconditional(1, 8, width=4),
            window_frames=window,
            overlap_frames=overlap,
            sampler=HeunSampler(),
            guidance=PLAIN,
            generators=generators(1),
        )


@pytest.mark.parametrize(
    ("period", "strength", "message"), [(8, 1.0, "window of 8 frames"), (0, 1.0, "got 0"), (4, -0.1, "between 0 and 1")]
)
def test_a_loop_that_the_window_cannot_hold_is_an_error(period, strength, message):
    with pytest.raises(ValueError, match=message):
        loop(
            AutoregressiveDenoiser(),
            unconditional(1, 8, width=4),
            period_frames=period,
            strength=strength,
            sampler=HeunSampler(),
            guidance=PLAIN,
            generators=generators(1),
        )
