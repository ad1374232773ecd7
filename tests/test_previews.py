"""Previews of a training: what is written, where, and that they change nothing."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from flows.scales import study_at
from models.codec import CHUNK_SAMPLES
from models.spectral import SpectralRecipe
from models.weights import load_weights, save_weights
from tasks import fit_codec
from tasks.artifact import Artifact
from tasks.audio_bytes import decode_flac
from tasks.previews import PICTURE, PROMPTS
from tasks.recipes import dump_recipe
from tasks.runtime import Runtime
from tasks.store import Store
from tasks.tracking import open_tracking
from tasks.train import WEIGHTS, TrainBridge, TrainDenoiser

ARMS = {arm.name: arm for arm in study_at("tiny").arms}
WINDOWS, FRAMES, WIDTH = 6, 16, 4


@pytest.fixture
def packed(tmp_path):
    """Packed latents of two chunks a window."""
    folder = tmp_path / "packed"
    folder.mkdir()
    random = np.random.default_rng(0)
    shapes = {
        "target_NCT": (WINDOWS, 64, FRAMES),
        "context_NCT": (WINDOWS, 64, FRAMES),
        "clap_audio_NKE": (WINDOWS, 2, WIDTH),
        "clap_leak_NE": (WINDOWS, WIDTH),
        "clap_text_NE": (WINDOWS, WIDTH),
    }
    for name, shape in shapes.items():
        np.save(folder / f"{name}.npy", random.standard_normal(shape, dtype=np.float32))
    (folder / "keys.json").write_text(str([f"heldout-{row}" for row in range(WINDOWS)]).replace("'", '"'))
    (folder / "statistics.json").write_text(f'{{"mean_C": {[0.0] * 64}, "std_C": {[1.0] * 64}}}')
    return Artifact(stage="pack", key=None, location=str(folder), digest="packed")


@pytest.fixture
def codec(tmp_path):
    """A spectral codec of random components."""
    recipe, folder = SpectralRecipe(audio_channels=2), tmp_path / "codec"
    folder.mkdir()
    random = torch.Generator().manual_seed(0)
    components = torch.randn(recipe.latent_width, recipe.patch_values, generator=random) / recipe.patch_values**0.5
    save_weights(folder / fit_codec.WEIGHTS, {"mean": torch.zeros(recipe.patch_values), "components": components}, {})
    (folder / fit_codec.RECIPE).write_text(dump_recipe(recipe))
    return Artifact(stage="codec", key=None, location=str(folder), digest="a codec")


def step_of(arm, packed, codec):
    return TrainDenoiser.of(ARMS[arm].denoiser, data=packed, start=None, heldout=packed, codec=codec)


def build(step, workspace: Path, **keywords):
    runtime = Runtime(workspace=str(workspace), torch_threads=1, log_every=5, progress=False, **keywords)
    return runtime, Store(workspace / "artifacts").build(step, runtime)


@pytest.mark.parametrize("arm", ["+DiT", "C-DiT"])
def test_previews_are_audio_and_a_picture_beside_the_figures_and_leave_the_result_as_it_is(
    tmp_path, packed, codec, monkeypatch, arm
):
    step = step_of(arm, packed, codec)
    runtime, heard = build(step, tmp_path / "heard", preview_every=step.steps // 2)
    monkeypatch.setattr("tasks.training_session._tracked", untracked)
    _, plain = build(step, tmp_path / "plain")
    assert heard.digest == plain.digest and heard.key == plain.key
    assert (heard.path / WEIGHTS).read_bytes() == (plain.path / WEIGHTS).read_bytes()
    folders = sorted((heard.path / "log" / "preview").iterdir())
    assert [folder.name for folder in folders] == [f"step-{at:07d}" for at in (step.steps // 2, step.steps)]
    names = sorted([PICTURE, *(f"heldout-{row}.flac" for row in range(PROMPTS))])
    assert all(sorted(path.name for path in folder.iterdir()) == names for folder in folders)
    first, last = (decode_flac((folders[place] / names[0]).read_bytes()) for place in (0, -1))
    assert first.shape == (2, FRAMES // 8 * CHUNK_SAMPLES) and not np.array_equal(first, last)
    assert not (plain.path / "log" / "preview").exists()
    assert tracked(runtime, step) == {f"preview/{folder.name}/{name}" for folder in folders for name in names}


def untracked(step, runtime):
    """Instead of MLflow."""
    return nullcontext(lambda at, values: None)


def tracked(runtime, step):
    """The files of the training's MLflow run."""
    from mlflow import MlflowClient

    tracking = open_tracking(runtime.tracking_uri, runtime.mlflow_artifacts, runtime.experiment)
    client = MlflowClient(tracking_uri=tracking.uri)
    (run,) = client.search_runs([tracking.train_id], filter_string=f"tags.`stemwright.key` = '{step.key()}'")
    folders = [entry.path for entry in client.list_artifacts(run.info.run_id, "preview")]
    return {entry.path for folder in folders for entry in client.list_artifacts(run.info.run_id, folder)}


def test_the_same_weights_sound_the_same_and_the_global_generator_is_left_alone(packed, codec, tmp_path, monkeypatch):
    monkeypatch.setattr("tasks.training_session._tracked", untracked)
    step = step_of("+DiT", packed, codec)
    runtime = Runtime(workspace=str(tmp_path), torch_threads=1, preview_every=1)
    _, trained = build(step, tmp_path / "trained")
    weights, before = load_weights(trained.path / WEIGHTS)[0], torch.random.get_rng_state()
    assert step.heard(runtime)(weights) == step.heard(runtime)(weights)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_preview_without_what_it_is_made_of_is_an_error_and_a_bridge_has_none(packed, tmp_path):
    runtime = Runtime(workspace=str(tmp_path), preview_every=5)
    deaf = TrainDenoiser.of(ARMS["+DiT"].denoiser, data=packed, start=None)
    with pytest.raises(ValueError, match="previews need held-out windows and a codec"):
        deaf.heard(runtime)
    assert TrainBridge(data=packed, recipe=ARMS["+CLAP_beta"].bridge).heard(runtime) is None
