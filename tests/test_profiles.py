"""Claims about the profiles: each fixes the whole protocol, and audio-metrics' is what the package does by itself."""

import inspect

import pytest

from metrics.protocol import PROFILES


@pytest.fixture
def package():
    return pytest.importorskip("audio_metrics.audio_metrics", reason="audio-metrics is not installed")


def test_both_profiles_are_named_as_they_are_looked_up():
    assert {name: profile.profile for name, profile in PROFILES.items()} == {name: name for name in PROFILES}
    assert set(PROFILES) == {"paper", "audio-metrics-1.0"}


def test_sizes_are_the_papers_and_how_it_embeds_mixes_and_counts_neighbours_is_inferred():
    paper, package = (set(PROFILES[name].inferred) for name in ("paper", "audio-metrics-1.0"))
    sizes = {"batches", "batch_size", "reference_size"}
    assert sizes <= package and not sizes & paper and "reference" not in paper
    assert {"space", "mixture_space", "neighbours", "mix", "window_s", "mixture_window_s", "noise_lufs"} <= paper


def test_the_windows_and_the_projection_are_audio_metrics_defaults(package):
    default = inspect.signature(package.AudioMetrics.__init__).parameters
    profile = PROFILES["audio-metrics-1.0"]
    assert profile.mixture_window_s == profile.window_s == default["win_dur"].default
    assert default["n_pca"].default is None  # a profile has no projection


def test_the_mix_and_the_embedder_are_audio_metrics_defaults():
    mixes = pytest.importorskip("audio_metrics.mix_functions", reason="audio-metrics is not installed")
    assert PROFILES["audio-metrics-1.0"].mix == mixes.DEFAULT_MIX_FUNCTION
    embedders = pytest.importorskip("audio_metrics.embedders", reason="audio-metrics needs laion-clap")
    assert embedders.DEFAULT_EMBEDDER == "laion_clap_music"
    space = PROFILES["audio-metrics-1.0"].space
    assert "music_audioset" in space.name
    assert space.name.endswith("output")
    assert space.normalised
    assert "music_audioset" in embedders.LAION_CLAP_MUSIC_CHECKPOINT_URL


def test_the_subsets_and_the_largest_neighbourhood_are_audio_metrics_defaults(package):
    peer = pytest.importorskip("audio_metrics.metrics.kd")
    profile = PROFILES["audio-metrics-1.0"]
    assert (profile.kernel_subsets, profile.kernel_subset_size) == (peer.KID_SUBSETS, peer.KID_SUBSET_SIZE)
    assert f"min({profile.neighbours[0]}," in inspect.getsource(package.AudioMetrics)
