"""Claims about frechet-audio-distance: it confirms our distance, and its models load from a folder only."""

import os
import sys

import numpy as np
import pytest
import torch
from tiny_vggish import write_tiny_vggish
from torch import hub

from data_manifests.weights import where_to_get
from tasks.secondary_fad import EMBEDDERS, cross_checked_fad, load_embedder, secondary_fad


@pytest.fixture
def rng():
    return np.random.default_rng(2)


@pytest.fixture
def vggish_folder(tmp_path):
    return write_tiny_vggish(tmp_path)


def test_frechet_audio_distance_agrees_with_ours_on_full_rank_sets(rng):
    a, b = rng.standard_normal((400, 24)), rng.standard_normal((300, 24)) * 1.2 + 0.1
    found = cross_checked_fad(a, b)
    assert found.peer == pytest.approx(found.ours, rel=1e-10)


def test_frechet_audio_distance_is_close_even_with_fewer_rows_than_dimensions(rng):
    a, b = rng.standard_normal((20, 64)).astype(np.float32), rng.standard_normal((15, 64)).astype(np.float32)
    found = cross_checked_fad(a, b)
    assert found.peer == pytest.approx(found.ours, rel=1e-5)


def test_importing_the_package_leaves_no_stand_in_behind(rng):
    cross_checked_fad(rng.standard_normal((5, 2)), rng.standard_normal((5, 2)))
    assert hasattr(sys.modules.get("laion_clap", np), "__file__")  # absent, or the real one


def test_missing_checkpoints_are_named_with_where_to_get_them(tmp_path):
    for name, embedder in EMBEDDERS.items():
        with pytest.raises(ValueError, match="Nothing is downloaded") as raised:
            load_embedder(name, checkpoints=tmp_path)
        for file in embedder.files:
            assert where_to_get(file) in str(raised.value)
    with pytest.raises(ValueError, match="there are vggish, pann, encodec"):
        load_embedder("openl3", checkpoints=tmp_path)


def test_a_model_is_read_from_the_folder_and_torch_hub_is_left_as_it_was(vggish_folder, rng):
    before = hub.get_dir(), hub.load
    embed = load_embedder("vggish", checkpoints=vggish_folder)
    assert (hub.get_dir(), hub.load) == before
    clips = [rng.standard_normal((2, 48_000)).astype(np.float32), rng.standard_normal((1, 24_000)).astype(np.float32)]
    rows = embed(clips, 16_000)
    assert rows.shape == (6 + 3, 128)
    assert rows[0] == pytest.approx(np.full(128, clips[0].mean(axis=0)[:4].sum()), rel=1e-5)  # the mono mix, no ReLU


def test_a_secondary_fad_is_ours_on_the_models_embeddings(vggish_folder, rng):
    clips = [rng.standard_normal((1, 40_000)).astype(np.float32) for _ in range(2)]
    louder = [3 * clip for clip in clips]
    told = {"rate_hz": 16_000, "checkpoints": vggish_folder}
    assert secondary_fad("vggish", clips, clips, **told) == pytest.approx(0.0, abs=1e-9)
    assert secondary_fad("vggish", clips, louder, **told) > 1.0


@pytest.mark.parametrize("name", ["pann", "encodec"])
def test_a_checkpoint_that_would_run_code_is_refused_before_it_does(tmp_path, name):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    path = tmp_path / EMBEDDERS[name].files[0]
    path.parent.mkdir(exist_ok=True)
    torch.save({"model": Trap()}, path)
    with pytest.raises(ValueError, match="get them again"):
        load_embedder(name, checkpoints=tmp_path)
    assert not (tmp_path / "sprung").exists()


def test_what_the_package_prints_as_an_error_is_raised(vggish_folder):
    embed = load_embedder("vggish", checkpoints=vggish_folder)
    with pytest.raises(ValueError, match=r"cannot embed clip 0: .*nothing to hear"):
        embed([np.zeros((1, 16_000), np.float32)], 16_000)
    with pytest.raises(ValueError, match="no clips"):
        embed([], 16_000)


def test_encodec_embeds_every_frame_in_stereo(tmp_path, rng):
    model = pytest.importorskip("encodec").EncodecModel
    untrained = model._get_model(
        [3.0, 6.0, 12.0, 24.0], 48_000, 2, causal=False, model_norm="time_group_norm", audio_normalize=True, segment=1.0
    )
    path = tmp_path / next(iter(EMBEDDERS["encodec"].files))
    path.parent.mkdir()
    torch.save(untrained.state_dict(), path)
    rows = load_embedder("encodec", checkpoints=tmp_path)([rng.standard_normal((1, 12_000)) * 0.1], 24_000)
    assert rows.shape == (24_000 // 320, 128)
    assert np.isfinite(rows).all()
