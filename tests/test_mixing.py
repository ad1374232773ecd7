"""Claims about the mixtures that adherence is judged on."""

import numpy as np
import pytest
from pyloudnorm import Meter

from metrics.mixing import at_loudness, integrated_lufs, mix, weigh, window_mixes

RATE_HZ = 48_000


@pytest.fixture
def rng():
    return np.random.default_rng(11)


@pytest.fixture
def noise(rng):
    """Band-limited noise whose level moves, so that the relative gate has something to do."""

    def build(level, seconds=2.0, rate_hz=RATE_HZ):
        samples = round(seconds * rate_hz)
        rough = rng.standard_normal(samples)
        swell = 0.1 + np.abs(np.sin(np.linspace(0, 7, samples)))
        return (level * swell * np.convolve(rough, np.ones(8) / 8, mode="same")).astype(np.float32)

    return build


@pytest.fixture
def parts():
    """The gains with which a mixture holds its context and its stem."""

    def solve(mixture, context, stem):
        sources = np.stack([context, stem], axis=1).astype(np.float64)
        return np.linalg.lstsq(sources, mixture.astype(np.float64), rcond=None)[0]

    return solve


@pytest.mark.parametrize("seconds", [0.4, 1.0, 2.37, 4.111])
@pytest.mark.parametrize("rate_hz", [44_100, 48_000])
def test_loudness_is_pyloudnorms(noise, seconds, rate_hz):
    audio = noise(0.3, seconds, rate_hz)
    assert integrated_lufs(audio, rate_hz=rate_hz) == pytest.approx(Meter(rate_hz).integrated_loudness(audio), abs=1e-5)


def test_a_full_scale_997_hz_sine_reads_minus_three_lufs():
    sine = np.sin(2 * np.pi * 997 * np.arange(2 * RATE_HZ) / RATE_HZ)
    assert integrated_lufs(sine, rate_hz=RATE_HZ) == pytest.approx(-3.01, abs=0.05)  # BS.1770 calibrates to this


def test_a_part_thirteen_lu_below_the_other_does_not_count(rng):
    loud = 0.1 * rng.standard_normal(2 * RATE_HZ)
    both = np.concatenate(
        [loud, 10 ** (-13 / 20) * loud]
    )  # the gate stands 10 LU below their mean, 12.6 below the loud
    found = integrated_lufs(both, rate_hz=RATE_HZ)
    assert found == pytest.approx(Meter(RATE_HZ).integrated_loudness(both), abs=1e-5)
    assert found == pytest.approx(integrated_lufs(loud, rate_hz=RATE_HZ), abs=0.5)  # blocks on the border


@pytest.mark.parametrize(("preset", "below"), [("L0", 0.0), ("L1", 3.0), ("L2", 6.0)])
def test_a_mix_is_at_minus_twenty_with_the_stem_below_its_context_by_the_preset(noise, parts, preset, below):
    context, stem = noise(0.2), noise(0.01)
    mixture = mix(context, stem, rate_hz=RATE_HZ, preset=preset)
    assert Meter(RATE_HZ).integrated_loudness(mixture) == pytest.approx(-20.0, abs=1e-3)
    context_gain, stem_gain = parts(mixture, context, stem)
    apart = integrated_lufs(context, rate_hz=RATE_HZ) - integrated_lufs(stem, rate_hz=RATE_HZ)
    assert 20 * np.log10(stem_gain / context_gain) == pytest.approx(apart - below, abs=1e-3)
    assert mixture.dtype == np.float32


def test_levels_of_context_and_stem_do_not_reach_the_mix(noise):
    context, stem = noise(0.2), noise(0.05)
    expected = mix(context, stem, rate_hz=RATE_HZ)
    np.testing.assert_allclose(mix(0.1 * context, 3 * stem, rate_hz=RATE_HZ), expected, atol=1e-5)


def test_a_silent_side_leaves_the_other_alone(noise):
    sound, silence = noise(0.2), np.full(2 * RATE_HZ, 1e-7, np.float32)
    alone = at_loudness(sound, rate_hz=RATE_HZ)
    assert np.array_equal(mix(sound, silence, rate_hz=RATE_HZ), alone)
    assert np.array_equal(mix(silence, sound, rate_hz=RATE_HZ), alone)
    assert np.array_equal(mix(sound, noise(2e-4), rate_hz=RATE_HZ), alone)  # audible peaks, but all below the gate
    assert integrated_lufs(alone, rate_hz=RATE_HZ) == pytest.approx(-20, abs=1e-3)


def test_silence_stays_silence(noise):
    silence, sound = np.zeros(RATE_HZ, np.float32), noise(0.2)
    assert not mix(silence, silence, rate_hz=RATE_HZ).any()
    assert not at_loudness(silence, rate_hz=RATE_HZ).any()
    assert not mix(sound, -sound, rate_hz=RATE_HZ).any()  # they cancel; nothing is raised to -20 LUFS
    assert integrated_lufs(silence, rate_hz=RATE_HZ) == -np.inf


def test_peaks_are_held_at_one_and_the_rest_is_left_alone(noise):
    clicks = 0.02 * noise(0.2)
    clicks[::24_000] = 1.0
    loud = at_loudness(clicks, rate_hz=RATE_HZ, lufs=-14.0)
    gain = loud[12_000] / clicks[12_000]
    assert gain > 1.5  # without the limiter the clicks would stand at this
    assert np.abs(loud).max() <= 1.0
    assert loud[24_000] == pytest.approx(1.0, abs=1e-3)
    np.testing.assert_allclose(loud[10_000:14_000], gain * clicks[10_000:14_000], rtol=1e-4)


def test_the_limiter_lowers_a_gain_that_moves_slowly_instead_of_cutting_peaks():
    burst = 0.01 * np.sin(np.arange(RATE_HZ) / 20)
    burst[20_000:22_000] *= 20
    limited = at_loudness(burst, rate_hz=RATE_HZ, lufs=-3.0)
    audible = np.abs(burst) > 0.002
    gain = limited[audible] / burst[audible]
    assert gain.min() < 0.5 * gain.max()
    assert np.abs(np.diff(gain)).max() < 0.02 * gain.max()


def test_a_sine_a_little_too_loud_keeps_its_shape():
    sine = np.sin(2 * np.pi * 997 * np.arange(RATE_HZ) / RATE_HZ).astype(np.float32)  # -3.01 LUFS at full scale
    np.testing.assert_allclose(at_loudness(sine, rate_hz=RATE_HZ, lufs=-2.6), sine, atol=1e-3)


def test_a_context_weighed_once_gives_the_same_mix(noise):
    context, stem = noise(0.2), noise(0.05)
    prepared = weigh(context, rate_hz=RATE_HZ)
    assert np.array_equal(mix(prepared, stem, rate_hz=RATE_HZ), mix(context, stem, rate_hz=RATE_HZ))


def test_windows_are_cut_from_the_levelled_clip_or_levelled_each(noise):
    context, stem = noise(0.2, 2.7), noise(0.1, 2.7)
    whole = mix(context, stem, rate_hz=RATE_HZ)
    cut = window_mixes(context, stem, rate_hz=RATE_HZ, window_s=1.0, level_each_window=False)
    assert [len(window) for window in cut] == [RATE_HZ, RATE_HZ]  # the last 0.7 s are dropped
    assert np.array_equal(np.concatenate(cut), whole[: 2 * RATE_HZ])
    each = window_mixes(context, stem, rate_hz=RATE_HZ, window_s=1.0, level_each_window=True)
    assert [integrated_lufs(window, rate_hz=RATE_HZ) for window in each] == pytest.approx([-20, -20], abs=1e-3)
    assert len(window_mixes(context, stem, rate_hz=RATE_HZ, window_s=5.0, level_each_window=True)) == 1


def test_audio_metrics_mixes_the_same_below_its_limiter(noise):
    peer = pytest.importorskip("audio_metrics.mix_functions")
    context, stem = noise(0.2), noise(0.03)
    for preset in ("L0", "L1", "L2"):
        theirs = peer.MIX_FUNCTIONS[preset](np.stack([context, stem], axis=1), RATE_HZ)
        np.testing.assert_allclose(mix(context, stem, rate_hz=RATE_HZ, preset=preset), theirs, atol=1e-6)


def test_bad_audio_is_refused_with_its_reason(noise):
    sound = noise(0.2)
    with pytest.raises(ValueError, match="'L9' is not one of L0, L1, L2"):
        mix(sound, sound, rate_hz=RATE_HZ, preset="L9")
    with pytest.raises(ValueError, match="cut them to one length"):
        mix(sound, sound[:-1], rate_hz=RATE_HZ)
    with pytest.raises(ValueError, match="average the channels"):
        mix(np.stack([sound, sound]), sound, rate_hz=RATE_HZ)
    with pytest.raises(ValueError, match=r"at least 0\.4 s"):
        mix(sound[:100], sound[:100], rate_hz=RATE_HZ)
    with pytest.raises(ValueError, match="weighed at 44100 Hz"):
        mix(weigh(sound, rate_hz=44_100), sound, rate_hz=RATE_HZ)
    sound[77] = np.nan
    with pytest.raises(ValueError, match="sample 77 is NaN"):
        at_loudness(sound, rate_hz=RATE_HZ)
