"""Claims about the consistency objective and the loop that trains the codecs."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import repeat
from typing import Any

import pytest
import torch

from models import music2latent2
from models.codec_consistency import (
    LEVELS,
    SIGMA_MAX,
    SIGMA_MIN,
    ConsistencySchedule,
    NoiseEmbedding,
    NoiseLevels,
    consistency_loss,
    draw_times,
    preconditioned,
    pseudo_huber,
)
from models.codec_training import (
    augmented,
    fit_codec,
    loud_crop,
    restarted,
    signs_of_collapse,
)
from models.codecs import build_codec, fit, preset, untrained
from models.consistency_codec import ConsistencyCodec
from models.music2latent import Music2LatentRecipe
from models.music2latent2 import Music2Latent2, Music2Latent2Recipe
from models.pretrained_codicodec import PretrainedCoDiCodecRecipe
from models.spectral import SpectralCodec, SpectralRecipe
from models.stft import PowerStft
from models.training import DivergedError, Precision

STEREO = Music2Latent2Recipe(
    channels=(4, 8, 16, 16),
    depths=(1, 1, 1, 1),
    strides=((8, 4), (4, 1), (4, 2)),
    layers=1,
    heads=2,
    registers=2,
    condition_width=8,
    steps=5,
    batch=2,
    learning_rate=1e-2,
)
MONO = Music2LatentRecipe(
    channels=(4, 4, 8, 8, 8),
    attends=(False, False, False, False, True),
    depths=(1, 1, 1, 1, 1),
    strides=((4, 1), (4, 2), (2, 2), (2, 2)),
    inner_width=16,
    inner_layers=1,
    condition_width=8,
    steps=5,
    batch=2,
    learning_rate=1e-2,
)


def seeded(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def silent_log(step: int, values: dict[str, float]) -> None:
    """Training that nobody watches."""


@pytest.fixture(scope="module")
def windows() -> torch.Tensor:
    """Four windows (2, 98304) of steady tones."""
    time = torch.arange(98_304) / 48_000
    tones = [torch.sin(6.2832 * pitch * time) for pitch in (110, 220, 900, 3000)]
    return 0.3 * torch.stack(tones)[:, None].repeat(1, 2, 1)


def test_noise_levels_run_from_sigma_min_to_sigma_max() -> None:
    levels = LEVELS.sigma(torch.tensor([0.0, 0.4, 1.0])).tolist()
    assert levels == pytest.approx([SIGMA_MIN, 0.9654, SIGMA_MAX], rel=1e-3)


def test_scalings_match_their_closed_forms_and_the_boundary() -> None:
    skip, out, into, _ = LEVELS.scales(torch.tensor([SIGMA_MIN, 0.5, 80.0]))
    assert (skip[0], out[0]) == (1.0, 0.0)
    assert skip[1].item() == pytest.approx(0.25 / (0.498**2 + 0.25))
    assert out[1].item() == pytest.approx(0.5 * 0.498 / 0.5**0.5)
    assert into[2].item() == pytest.approx(1 / (6400.25**0.5))


@pytest.mark.parametrize(("exponent", "last"), [(2.0, 0.01), (3.0, 0.001)])
def test_the_step_shrinks_exponentially_over_the_planned_run(exponent: float, last: float) -> None:
    schedule = ConsistencySchedule(final_exponent=exponent)
    steps = [schedule.step(progress) for progress in (0.0, 0.5, 1.0)]
    assert steps == pytest.approx([0.1, (0.1 * last) ** 0.5, last])


def test_drawn_noise_levels_have_the_quantiles_of_the_official_sampler() -> None:
    sigma = LEVELS.sigma(draw_times((40_000,), ConsistencySchedule(final_exponent=2.0), seeded()))
    quantiles = sigma.quantile(torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])).tolist()
    assert quantiles == pytest.approx([0.023, 0.153, 0.583, 2.20, 14.0], rel=0.06)  # codecs.md A.1


def test_lognormal_noise_levels_have_the_quantiles_of_a_lognormal() -> None:
    schedule = ConsistencySchedule(final_exponent=2.0, noise_levels=NoiseLevels.LOGNORMAL)
    sigma = LEVELS.sigma(draw_times((40_000,), schedule, seeded()))
    quantiles = sigma.quantile(torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])).tolist()
    assert quantiles == pytest.approx([0.012, 0.086, 0.333, 1.28, 8.9], rel=0.06)  # codecs.md A.1


def test_times_are_recovered_from_their_noise_levels() -> None:
    times = torch.linspace(0, 1, 11)
    assert LEVELS.t(LEVELS.sigma(times)).tolist() == pytest.approx(times.tolist(), abs=1e-5)


def test_scalings_and_noise_embedding_stay_float32_in_bfloat16_training() -> None:
    seen: list[torch.dtype] = []

    def network(scaled: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        seen.extend([scaled.dtype, NoiseEmbedding(8, layers=1)(sigma[0]).dtype])
        return torch.nn.functional.linear(scaled, torch.eye(2))

    with torch.autocast("cpu", torch.bfloat16):
        out = preconditioned(network, torch.full((1, 1, 1, 1, 2), 1.003), torch.full((1, 1), SIGMA_MIN))
    assert seen == [torch.float32, torch.float32]
    assert out.flatten().tolist() == pytest.approx([1.003, 1.003], abs=1e-6)  # bfloat16 would say 1.0


def test_a_warm_restart_goes_on_at_its_step_with_a_fresh_optimiser(windows: torch.Tensor) -> None:
    saved: list[dict[str, torch.Tensor]] = []
    recipe = replace(STEREO, steps=3)
    averaged = fit(recipe, [windows], seed=0, log=silent_log, save=saved.append, save_every=2)
    state = restarted({name: weight.half() for name, weight in averaged.items()}, step=2)
    assert state.keys() == saved[0].keys()
    rates: list[float] = []
    again = fit(
        recipe,
        [windows],
        seed=0,
        resume=state,
        log=lambda step, values: rates.append(values["learning_rate"]),
        log_every=1,
    )
    assert rates == [1e-2]  # the last of three warm-up steps: the rate goes on, too
    assert any(not torch.equal(again[name], averaged[name]) for name in averaged)


@pytest.mark.parametrize("precision", Precision)
def test_a_recipe_says_in_which_precision_it_trains(
    precision: Precision, windows: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    loss = Music2Latent2.loss

    def noted(self: Music2Latent2, *arguments: Any) -> torch.Tensor:
        seen.append(torch.is_autocast_enabled("cpu"))
        return loss(self, *arguments)

    monkeypatch.setattr(Music2Latent2, "loss", noted)
    state = fit(replace(STEREO, steps=1, precision=precision), [windows], seed=0, log=silent_log)
    assert seen == [precision is Precision.BFLOAT16]
    assert all(weight.dtype == torch.float32 and weight.isfinite().all() for weight in state.values())


def test_presets_are_found_by_name_and_size() -> None:
    assert preset("music2latent2", "base") is music2latent2.BASE
    with pytest.raises(ValueError, match="tiny, small, base"):
        preset("music2latent", "huge")
    with pytest.raises(ValueError, match="music2latent, music2latent2"):
        preset("encodec", "tiny")


def test_pseudo_huber_is_its_formula_on_the_norm_of_a_chunk() -> None:
    difference = torch.zeros(1, 2, 4, 1024, 32)
    difference[0, 1, 0, 0, :2] = torch.tensor([3.0, 4.0])
    c = 0.1955  # codecs.md E.2
    assert pseudo_huber(difference)[0].tolist() == pytest.approx([0.0, (25 + c**2) ** 0.5 - c], abs=1e-4)


def test_a_denoiser_that_knows_the_answer_has_no_loss() -> None:
    clean = torch.randn(2, 2, 4, 8, 8, generator=seeded())
    arguments = {"schedule": ConsistencySchedule(final_exponent=2.0), "progress": 0.0, "generator": seeded()}
    assert consistency_loss(lambda noisy, sigma: clean, clean, **arguments) == 0
    assert consistency_loss(lambda noisy, sigma: noisy, clean, **arguments) > 0


def test_every_chunk_has_its_own_noise_level_and_the_teacher_no_gradient() -> None:
    seen: list[tuple[torch.Tensor, bool]] = []

    def denoise(noisy: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        seen.append((sigma, torch.is_grad_enabled()))
        return noisy

    schedule = ConsistencySchedule(final_exponent=2.0)
    consistency_loss(denoise, torch.zeros(4, 2, 1, 2, 2), schedule=schedule, progress=0.0, generator=seeded())
    (low, teacher_learns), (high, student_learns) = seen
    assert (low < high).all()
    assert (high[:, 0] != high[:, 1]).all()
    assert (teacher_learns, student_learns) == (False, True)


def test_crops_are_loud_or_absent() -> None:
    window = torch.zeros(2, 100_000)
    assert loud_crop(window, 1000, seeded()) is None
    window[:, 10_000:] = 0.1
    crops = [crop for number in range(20) if (crop := loud_crop(window, 1000, seeded(number))) is not None]
    assert len(crops) == 20
    assert all(crop.square().mean().sqrt() >= 1e-3 for crop in crops)
    with pytest.raises(ValueError, match="shorter"):
        loud_crop(window, 200_000, seeded())


def test_augmentation_never_clips_and_changes_levels() -> None:
    audio = torch.rand(16, 2, 500, generator=seeded()) * 2 - 1
    changed = augmented(audio, seeded(1))
    assert changed.shape == audio.shape
    assert changed.abs().max() <= 1
    assert changed.std(dim=(1, 2)).std() > 1.5 * audio.std(dim=(1, 2)).std()


class Affine(ConsistencyCodec):
    """The least codec that can be trained: a mean spectrum through a narrow bottleneck, and a gain per bin."""

    def __init__(self) -> None:
        stft = PowerStft(window_samples=2048, hop_samples=1024, of_modulus=False)
        super().__init__(stft, ConsistencySchedule(final_exponent=2.0), crop_chunks=1)
        self.spec = SpectralCodec(*LEAST_SPECTRAL).spec
        self.read, self.write = torch.nn.Linear(1024, 64), torch.nn.Linear(64, 2048)
        self.gain = torch.nn.Linear(1, 1024)
        for layer in (self.write, self.gain):
            torch.nn.init.zeros_(layer.weight)
            torch.nn.init.zeros_(layer.bias)

    def latents(self, clean_BGPKF: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.read(clean_BGPKF.square().sum(2).sqrt().mean((1, 3))))[..., None]

    def features(self, latent_BCT: torch.Tensor) -> list[torch.Tensor]:
        return [self.write(latent_BCT[..., 0]).view(-1, 1, 2, 1024, 1)]

    def denoise(self, noisy: torch.Tensor, sigma_BG: torch.Tensor, features: list[torch.Tensor]) -> torch.Tensor:
        def network(scaled: torch.Tensor, sigma_BG: torch.Tensor) -> torch.Tensor:
            return scaled * self.gain(sigma_BG.log()[..., None])[:, :, None, :, None] + features[0]

        return preconditioned(network, noisy, sigma_BG)


LEAST_SPECTRAL = (SpectralRecipe(audio_channels=1), {"mean": torch.zeros(768), "components": torch.zeros(64, 768)})


def test_fitting_reduces_the_loss(windows: torch.Tensor) -> None:
    torch.manual_seed(0)
    codec = Affine()
    crops = windows[:, :1, : codec.crop_samples]

    @torch.no_grad()
    def mean_loss() -> float:
        return sum(codec.loss(crops, 0.0, seeded(number)).item() for number in range(5)) / 5

    before = mean_loss()
    state = fit_codec(codec, repeat(windows), steps=50, learning_rate=3e-2, seed=0, log=silent_log)
    codec.load_state_dict(state)
    assert mean_loss() < 0.97 * before


@pytest.mark.parametrize("recipe", [STEREO, MONO], ids=["music2latent2", "music2latent"])
def test_a_short_fit_leaves_content_in_the_latents_and_watches_it(
    recipe: Music2Latent2Recipe | Music2LatentRecipe, windows: torch.Tensor
) -> None:
    logged: dict[str, float] = {}
    state = fit(recipe, [windows], seed=0, log=lambda step, values: logged.update(values))
    codec = build_codec(recipe, state, weights_sha256="")
    crops = windows[..., : codec.crop_samples][:, : codec.spec.audio_channels]
    signs = signs_of_collapse(codec, crops, seeded())
    assert signs["slot_spread"] > 0.03
    assert signs["saturated"] < 0.1
    assert signs["swap_sensitivity"] > 0
    assert {"loss", "gradient_norm", "learning_rate", "skipped_steps", *signs} <= set(logged)


def test_crops_that_were_mixed_with_each_other_are_no_sign_of_collapse(windows: torch.Tensor) -> None:
    codec = untrained(STEREO, seed=0)
    crops = windows[..., : codec.crop_samples]
    mixed = torch.stack([crops[0] + crops[1], crops[1] + crops[0]]) / 2
    assert set(signs_of_collapse(codec, mixed, seeded())) == {"saturated"}
    assert signs_of_collapse(codec, crops[[2, 3, 2]], seeded()) == signs_of_collapse(codec, crops[[2, 3]], seeded())


def test_fitting_is_a_function_of_its_seed(windows: torch.Tensor) -> None:
    recipe = replace(STEREO, steps=1)
    first, again, other = (fit(recipe, [windows], seed=seed, log=silent_log) for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_a_resumed_fit_ends_with_the_same_weights(windows: torch.Tensor) -> None:
    saved: list[dict[str, torch.Tensor]] = []
    arguments = {"seed": 0, "log": silent_log, "save": saved.append, "save_every": 2}
    whole = fit(STEREO, [windows], **arguments)
    resumed = fit(STEREO, [windows], **arguments, resume=saved[0])
    assert int(saved[0]["step"]) == 2
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_too_many_updates_that_are_not_finite_end_the_run(windows: torch.Tensor) -> None:
    codec = Affine()
    codec.read.weight.data.fill_(float("nan"))
    with pytest.raises(DivergedError, match="lower the learning rate"):
        fit_codec(codec, repeat(windows[:1]), steps=40, learning_rate=1e-3, seed=0, log=silent_log)


def test_silent_or_missing_audio_is_said_so(windows: torch.Tensor) -> None:
    codec = Affine()
    silence: Iterator[torch.Tensor] = repeat(torch.zeros(1, 2, codec.crop_samples))
    with pytest.raises(ValueError, match="silent"):
        fit_codec(codec, silence, steps=1, learning_rate=1e-3, seed=0, log=silent_log)
    with pytest.raises(ValueError, match="after 0 of 2 steps"):
        fit_codec(codec, iter([]), steps=2, learning_rate=1e-3, seed=0, log=silent_log)


def test_released_codecs_are_not_fitted(windows: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="released, not fitted"):
        fit(PretrainedCoDiCodecRecipe(), [windows], seed=0, log=silent_log)


def test_a_fitted_state_of_another_recipe_is_refused(windows: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        build_codec(STEREO, {}, weights_sha256="")


def test_the_spectral_codec_is_fitted_and_built_behind_the_same_two_functions(windows: torch.Tensor) -> None:
    logged: list[dict[str, float]] = []
    recipe = SpectralRecipe(audio_channels=1)
    state = fit(recipe, windows.split(2), seed=0, log=lambda step, values: logged.append(values))
    codec = build_codec(recipe, state, weights_sha256="abc")
    assert (codec.spec.name, codec.spec.weights_sha256) == ("spectral-mono", "abc")
    assert 0.9 < logged[0]["variance_kept"] <= 1.0001
