"""The training set: standardisation, which audio the style comes from, and shapes that must agree."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.batch import LatentSet, StyleSource, restore, standardise

N, C, T, K, E = 40, 3, 8, 2, 5


@pytest.fixture
def arrays():
    random = np.random.default_rng(0)
    scale, shift = np.array([0.1, 1.0, 20.0])[:, None], np.array([5.0, 0.0, -3.0])[:, None]
    target, context = (random.standard_normal((N, C, T)) * scale + shift for _ in range(2))
    pooled = np.concatenate([target, context])
    return {
        "target_NCT": target.astype(np.float16),
        "context_NCT": context.astype(np.float32),
        "clap_audio_NKE": random.standard_normal((N, K, E)).astype(np.float32),
        "clap_leak_NE": random.standard_normal((N, E)).astype(np.float32),
        "mean_C": pooled.mean((0, 2)).astype(np.float32),
        "std_C": pooled.std((0, 2)).astype(np.float32),
    }


def whole(data, style=StyleSource.OTHER_SEGMENT, segment=0):
    return data.batch(np.arange(len(data)), np.full(len(data), segment), style)


def test_channels_have_mean_zero_and_std_one_half(arrays):
    batch = whole(LatentSet(**arrays))
    both = torch.cat([batch.target_BCT, batch.context_BCT])
    assert both.dtype == torch.float32
    torch.testing.assert_close(both.mean((0, 2)), torch.zeros(C), atol=5e-3, rtol=0)
    torch.testing.assert_close(both.std((0, 2)), torch.full((C,), 0.5), atol=5e-3, rtol=0)


def test_restore_undoes_standardise(arrays):
    data, raw = LatentSet(**arrays), torch.from_numpy(arrays["context_NCT"])
    torch.testing.assert_close(data.restore(data.standardise(raw)), raw, rtol=1e-4, atol=1e-4)
    mean_C, std_C = arrays["mean_C"], arrays["std_C"]
    torch.testing.assert_close(restore(standardise(raw, mean_C, std_C), mean_C, std_C), raw, rtol=1e-4, atol=1e-4)


def test_style_is_the_leak_only_where_it_is_asked_for(arrays):
    data = LatentSet(**arrays)
    np.testing.assert_array_equal(whole(data, StyleSource.TARGET_WINDOW).clap_BE, arrays["clap_leak_NE"])
    for segment in range(K):
        clap_BE = whole(data, segment=segment).clap_BE
        np.testing.assert_array_equal(clap_BE, arrays["clap_audio_NKE"][:, segment])


def test_rows_are_those_asked_for_in_their_order(arrays):
    data = LatentSet(**arrays)
    batch = data.batch(np.array([7, 3]), np.array([1, 0]), StyleSource.OTHER_SEGMENT)
    torch.testing.assert_close(batch.target_BCT, whole(data).target_BCT[[7, 3]])
    np.testing.assert_array_equal(batch.clap_BE, arrays["clap_audio_NKE"][[7, 3], [1, 0]])
    assert batch.has_context_B.all()
    assert batch.conditions.has_clap_B.all()


def test_dropped_conditions_stay_dropped(arrays):
    batch = LatentSet(**arrays).batch(np.arange(3), np.zeros(3, int), StyleSource.TARGET_WINDOW)
    first, second = torch.tensor([True, False, False]), torch.tensor([False, True, False])
    twice = batch.with_conditions_dropped(context=first, clap=second).with_conditions_dropped(
        context=second, clap=second
    )
    assert twice.has_context_B.tolist() == [False, False, True]
    assert twice.has_clap_B.tolist() == [True, False, True]


def test_memory_mapped_read_only_arrays_serve(tmp_path, arrays):
    np.save(tmp_path / "target.npy", arrays["target_NCT"])
    mapped = arrays | {"target_NCT": np.load(tmp_path / "target.npy", mmap_mode="r")}
    torch.testing.assert_close(whole(LatentSet(**mapped)).target_BCT, whole(LatentSet(**arrays)).target_BCT)


def test_channel_weights_follow_the_latents_std_with_mean_one(arrays):
    weight_C = LatentSet(**arrays).channel_weights
    assert weight_C.mean().item() == pytest.approx(1)
    torch.testing.assert_close(weight_C / weight_C[0], torch.from_numpy(arrays["std_C"] / arrays["std_C"][0]))


@pytest.mark.parametrize("name", ["context_NCT", "clap_audio_NKE", "clap_leak_NE", "mean_C"])
def test_a_shape_that_does_not_agree_is_named(arrays, name):
    with pytest.raises(ValueError, match=name):
        LatentSet(**arrays | {name: arrays[name][:-1]})


def test_a_constant_channel_is_an_error(arrays):
    with pytest.raises(ValueError, match="a channel is constant"):
        LatentSet(**arrays | {"std_C": np.array([1.0, 0.0, 1.0], np.float32)})
