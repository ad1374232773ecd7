"""The accompanist over tensors: lengths, joints and edits, with an untrained arm and the closed-form codec."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from models import dit
from models.accompanist import Accompanist, Controls, Heard, ModelError, Wish
from models.accompanist_audio import FADE_SAMPLES, closed_loop, decode_long, encode_long, joined, with_kept
from models.arms import C_DIT, PLUS_DIT
from models.codec import CHUNK_SAMPLES, LatentClip
from models.consistency import FIVE_LEVELS
from models.denoiser import build_denoiser
from models.exported import ExportedModel, Statistics
from models.sampling import ConsistencySampler, Guidance, HeunSampler
from models.spectral import SpectralCodec, SpectralRecipe, fit_spectral

WINDOW = 3 * CHUNK_SAMPLES
FRAME, GRAIN_S = 4096, 4096 / 48_000


def noise(samples, *, seed=0, channels=2):
    return 0.1 * torch.randn(channels, samples, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def codec_of(channels):
    recipe = SpectralRecipe(audio_channels=channels)
    return SpectralCodec(recipe, fit_spectral(recipe, [noise(WINDOW, seed=seed)[None] for seed in range(4)]))


@pytest.fixture(scope="module")
def codec():
    return codec_of(2)


class Watched(torch.nn.Module):
    """A denoiser that remembers how many frames it was shown."""

    def __init__(self, denoiser):
        super().__init__()
        self.denoiser, self.clap_width, self.frames = denoiser, denoiser.clap_width, set()

    def forward(self, noisy_BCT, sigma_B, conditions):
        self.frames.add(noisy_BCT.shape[-1])
        return self.denoiser(noisy_BCT, sigma_B, conditions)


def accompanist(codec, *, pseudo_stereo=None):
    denoiser = build_denoiser(dit.TINY, PLUS_DIT.denoiser.objective, clap_width=6, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in denoiser.parameters():  # away from the zero map that an untrained transformer is
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    model = ExportedModel(
        arm=replace(PLUS_DIT, sampler=HeunSampler(steps=2), pseudo_stereo=pseudo_stereo),
        denoiser=Watched(denoiser.eval()),
        bridge=None,
        codec=codec,
        clap=None,
        statistics=Statistics(np.full(64, 0.1, dtype=np.float32), np.full(64, 0.5, dtype=np.float32)),
        window_samples=WINDOW,
        digest="00",
        about={},
    )
    return Accompanist(model)


@pytest.fixture
def player(codec):
    return accompanist(codec)


def wish(player, **asked):
    return Wish(controls=player.controls, **asked)


@pytest.mark.parametrize("samples", [24_000, WINDOW - 1, WINDOW, WINDOW + 1, 5 * WINDOW + 777])
def test_a_stem_is_as_long_as_the_context_and_the_network_sees_one_window(player, samples):
    shares = []
    take = player.play(player.hear(noise(samples)), wish(player, told=shares.append))
    stem_2N = player.stem(take, 0)
    assert stem_2N.shape == (2, samples)
    assert stem_2N.isfinite().all() and stem_2N.abs().max() <= 1
    assert player.model.denoiser.frames == {24}
    assert shares == sorted(shares) and shares[-1] == 1.0


def test_the_overlap_of_a_window_is_what_the_window_before_it_made(player):
    heard = player.hear(noise(4 * WINDOW))
    first = Heard(heard.latent_1CL[..., :24], WINDOW, given=True)
    alone, whole = (player.play(music, wish(player)).latent_BVCL for music in (first, heard))
    assert torch.equal(whole[..., :24], alone)
    assert (whole[..., 24:] - alone.repeat(1, 1, 1, 3)).abs().min() > 0


def test_a_variation_is_the_same_however_many_were_asked_for_and_differs_from_the_others(player):
    heard = player.hear_nothing(2 * WINDOW)
    three, one = (player.play(heard, wish(player, variations=count, seed=3)).latent_BVCL for count in (3, 1))
    torch.testing.assert_close(three[:1], one, rtol=1e-3, atol=5e-3)  # of some 50: rounding
    assert (three[0] - three[1]).abs().mean() > 0.01
    again = player.play(heard, wish(player, variations=1, seed=4)).latent_BVCL
    assert (again - one).abs().mean() > 0.01


def test_the_context_and_the_style_are_listened_to(player):
    heard, style = player.hear(noise(WINDOW)), torch.nn.functional.normalize(torch.randn(2, 6), dim=1)
    plain = player.play(heard, wish(player, variations=2)).latent_BVCL
    assert not torch.equal(player.play(player.hear_nothing(WINDOW), wish(player, variations=2)).latent_BVCL, plain)
    styled = player.play(heard, wish(player, variations=2, style_BE=style)).latent_BVCL
    assert not torch.equal(styled, plain)
    one = player.play(heard, wish(player, variations=2, style_BE=style[:1])).latent_BVCL
    torch.testing.assert_close(styled[0], one[0])
    assert not torch.allclose(styled[1], one[1])


def test_inpainting_keeps_the_rest_of_the_stem_sample_for_sample(player):
    stem = noise(4 * WINDOW, seed=5)
    start, stop = 4 * FRAME + 100, 9 * FRAME - 100
    take = player.inpaint(stem, player.hear_nothing(4 * WINDOW), wish(player), start_samples=start, stop_samples=stop)
    made = player.stem(take, 0)
    assert take.changed_s == pytest.approx((4 * GRAIN_S, 9 * GRAIN_S))
    before, after = slice(0, 4 * FRAME - FADE_SAMPLES), slice(9 * FRAME + FADE_SAMPLES, None)
    assert torch.equal(made[:, before], stem[:, before]) and torch.equal(made[:, after], stem[:, after])
    assert (made[:, start:stop] - stem[:, start:stop]).abs().mean() > 0.01


def test_a_continued_stem_begins_as_it_was_and_ends_with_the_music(player):
    stem = noise(5 * FRAME + 50, seed=6)
    take = player.go_on(stem, player.hear_nothing(2 * WINDOW + 5), wish(player))
    made = player.stem(take, 0)
    kept = 5 * FRAME - FADE_SAMPLES
    assert made.shape == (2, 2 * WINDOW + 5)
    assert torch.equal(made[:, :kept], stem[:, :kept])
    assert made[:, 6 * FRAME :].abs().mean() > 1e-4


def test_a_variation_of_strength_0_is_the_stem_through_the_codec_and_more_strength_is_further_off(player, codec):
    stem, heard = noise(2 * WINDOW, seed=7), player.hear_nothing(2 * WINDOW)
    given = encode_long(codec, stem, window_samples=WINDOW)
    apart = [
        (player.vary(stem, heard, wish(player), strength=strength).latent_BVCL[0] - given).abs().mean()
        for strength in (0.0, 0.5, 1.0)
    ]
    assert apart[0] < 1e-5 < apart[1] < apart[2]


@pytest.mark.parametrize("period", [2 * FRAME, 30_000, CHUNK_SAMPLES])
def test_a_loop_repeats_to_the_sample_over_the_whole_music(player, period):
    take = player.loop(player.hear_nothing(2 * WINDOW), wish(player), period_samples=period)
    made = player.stem(take, 0)
    assert made.shape == (2, 2 * WINDOW)
    assert torch.equal(made[:, period:], made[:, :-period])


def test_a_mono_arm_plays_left_and_right_apart_by_its_width_and_mono_at_0():
    player = accompanist(codec_of(1), pseudo_stereo=0.5)
    heard = player.hear(noise(2 * WINDOW))
    wide = player.stem(player.play(heard, wish(player)), 0)
    narrow = player.stem(player.play(heard, Wish(controls=replace(player.controls, stereo_width=0.0))), 0)
    assert not torch.equal(wide[0], wide[1])
    assert torch.equal(narrow[0], narrow[1])


def test_encoding_in_windows_gives_the_latents_of_encoding_at_once(codec):
    audio = noise(4 * WINDOW + 999)
    torch.testing.assert_close(
        encode_long(codec, audio, window_samples=WINDOW), codec.encode(audio[None]).latent_BCT, rtol=1e-4, atol=1e-4
    )


def test_decoding_in_windows_is_as_loud_at_the_joints_as_elsewhere(codec):
    audio = noise(9 * WINDOW)
    latent = codec.encode(audio[None]).latent_BCT
    made = decode_long(
        codec, latent, samples=9 * WINDOW, window_samples=WINDOW, generators=[torch.Generator().manual_seed(0)]
    )
    begins = [number * (WINDOW - CHUNK_SAMPLES) for number in range(1, 12)]
    joints = torch.stack([made[:, begin : begin + CHUNK_SAMPLES] for begin in begins]).pow(2).mean()
    assert joints.item() == pytest.approx(made.pow(2).mean().item(), rel=0.05)
    whole = codec.decode(LatentClip(latent, 9 * WINDOW), generators=[torch.Generator().manual_seed(0)])
    assert made.pow(2).mean().item() == pytest.approx(whole.pow(2).mean().item(), rel=0.05)


def test_one_waveform_is_joined_without_a_trace_and_two_noises_without_a_dip():
    wave = noise(20_000)
    torch.testing.assert_close(joined(wave[:, :12_000], wave[:, 8_000:], overlap=4_000), wave, atol=1e-5, rtol=1e-4)
    both = joined(noise(200_000, seed=1), noise(200_000, seed=2), overlap=100_000)
    middle = both[:, 140_000:160_000].std() / both[:, :50_000].std()
    assert middle.item() == pytest.approx(1.0, abs=0.03)


def test_the_end_of_a_loop_runs_into_its_start():
    tone = torch.sin(2 * math.pi * 100.37 * torch.arange(48_000) / 48_000).expand(2, -1) * 0.5
    loop = closed_loop(tone, begin=10_000, period=20_011)
    step = tone.diff(dim=1).abs().max()
    assert loop.shape == (2, 20_011)
    assert (loop[:, 0] - loop[:, -1]).abs().max() <= 1.5 * step
    assert torch.equal(loop[:, :-FADE_SAMPLES], tone[:, 10_000 : 30_011 - FADE_SAMPLES])


def test_kept_samples_fade_only_at_their_joints():
    kept = (torch.arange(5_000) < 1_000) | (torch.arange(5_000) >= 4_000)
    made = with_kept(torch.zeros(2, 5_000), torch.ones(2, 5_000), kept)[0]
    assert torch.equal(made[: 1_000 - FADE_SAMPLES], torch.ones(1_000 - FADE_SAMPLES))
    assert torch.equal(made[1_000:4_000], torch.zeros(3_000))
    assert torch.equal(made[4_000 + FADE_SAMPLES :], torch.ones(1_000 - FADE_SAMPLES))
    assert made.diff().abs().max() < 2 / FADE_SAMPLES


def test_steps_are_those_of_the_arms_own_sampler():
    def controls(sampler):
        return Controls(sampler=sampler, guidance=Guidance(), stereo_width=None)

    assert controls(HeunSampler()).with_steps(5).sampler == HeunSampler(steps=5)
    assert controls(C_DIT.sampler).with_steps(5).sampler == ConsistencySampler(levels=FIVE_LEVELS)
    two = controls(C_DIT.sampler).with_steps(2).sampler.levels
    assert len(two) == 2 and two[0] == 80.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda player: player.hear(torch.zeros(6, WINDOW)), r"the context has shape \(6, "),
        (lambda player: player.hear(torch.full((2, WINDOW), torch.nan)), "NaN"),
        (lambda player: player.hear_nothing(0), "at least one"),
        (lambda player: wish(player, variations=0), "0 variations"),
        (lambda player: wish(player, variations=3, style_BE=torch.ones(2, 6)), "2 styles for 3 variations"),
        (lambda player: player.controls.with_steps(0), "at least one step"),
        (lambda player: player.style_of_text("bass", variations=1, seed=0), "bring its checkpoint"),
        (
            lambda player: player.play(
                player.hear_nothing(9), Wish(controls=replace(player.controls, stereo_width=0.4))
            ),
            "this model plays stereo; leave it out",
        ),
        (
            lambda player: player.inpaint(
                noise(WINDOW), player.hear_nothing(WINDOW), wish(player), start_samples=9, stop_samples=9
            ),
            "a part inside the music that ends after it begins",
        ),
        (
            lambda player: player.go_on(noise(WINDOW), player.hear_nothing(WINDOW), wish(player)),
            "can be continued where the music goes on after it",
        ),
        (
            lambda player: player.vary(noise(WINDOW), player.hear_nothing(9), wish(player), strength=0.5),
            "cut the stem, or give a context as long as it",
        ),
        (
            lambda player: player.loop(player.hear_nothing(WINDOW), wish(player), period_samples=WINDOW),
            r"a loop of 2\.05 s was asked for, and this model makes loops of 0\.09 s to 0\.68 s",
        ),
    ],
)
def test_what_cannot_be_played_is_said(player, call, message):
    with pytest.raises((ValueError, ModelError), match=message):
        call(player)
