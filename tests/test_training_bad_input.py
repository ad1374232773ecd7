"""What a training refuses, in one line that names both sides and the remedy, and that it loses nothing by it."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from flows.__main__ import app
from flows.scales import study_at
from models.conditioning import ClapSource, Conditioning
from models.denoiser import build_denoiser
from models.device_memory import TooLargeError
from models.weights import WeightsError
from tasks.artifact import Artifact
from tasks.checkpoints import POINTER, load_state, save_state
from tasks.generate import GenerateCandidates, Player
from tasks.recipes import dump_recipe
from tasks.runtime import Runtime
from tasks.step import Step
from tasks.store import Store
from tasks.train import RECIPE, WEIGHTS, TrainBridge, TrainDenoiser, load_trained_denoiser

EDM, UNET = (study_at("tiny").arms[place].denoiser for place in (2, 1))
TUNED = study_at("tiny").arms[4].denoiser
BRIDGE = study_at("tiny").arms[3].bridge
WINDOWS, CHANNELS, FRAMES, WIDTH = 8, 64, 24, 6


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "artifacts")


@pytest.fixture
def build(tmp_path, store, monkeypatch):
    """Builds a step in a workspace without MLflow."""
    monkeypatch.setattr("tasks.training_session._tracked", lambda step, runtime: nullcontext(lambda at, values: None))
    torch.set_num_threads(1)
    runtime = Runtime(workspace=str(tmp_path), torch_threads=1, progress=False, log_every=5, save_every=5)
    return lambda step: store.build(step, runtime)


@pytest.fixture
def packed(tmp_path):
    """Makes packed latents of noise; `changed` replaces arrays by name."""

    def make(name="packed", *, channels=CHANNELS, frames=FRAMES, width=WIDTH, **changed):
        folder = tmp_path / name
        write_pack(folder, channels=channels, frames=frames, width=width, **changed)
        return Artifact(stage="pack", key=None, location=str(folder), digest=name)

    return make


def write_pack(folder, *, channels=CHANNELS, frames=FRAMES, width=WIDTH, **changed):
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    shapes = {
        "target_NCT": (WINDOWS, channels, frames),
        "context_NCT": (WINDOWS, channels, frames),
        "clap_audio_NKE": (WINDOWS, 2, width),
        "clap_leak_NE": (WINDOWS, width),
        "clap_text_NE": (WINDOWS, width),
    }
    for name, shape in shapes.items():
        np.save(folder / f"{name}.npy", changed.get(name, random.standard_normal(shape, dtype=np.float32)))
    (folder / "keys.json").write_text(json.dumps([f"heldout-{row:08d}" for row in range(WINDOWS)]))
    (folder / "statistics.json").write_text(json.dumps({"mean_C": [0.0] * channels, "std_C": [1.0] * channels}))


def damaged(*shape):
    """Noise with one value that is no number, in row 3."""
    array = np.random.default_rng(0).standard_normal((WINDOWS, *shape), dtype=np.float32)
    array[3].flat[0] = np.nan
    return array


def training(data, recipe=EDM, **inputs):
    return TrainDenoiser.of(recipe, data=data, **{"start": None, **inputs})


@dataclass(frozen=True, kw_only=True)
class Encoded(Step):
    """Stands for latents of a codec."""

    stage: ClassVar[str] = "encode"
    codec: Artifact

    def run(self, out, runtime):
        (out / "told").write_text(self.codec.digest)


@dataclass(frozen=True, kw_only=True)
class Packed(Step):
    """Stands for packed latents."""

    stage: ClassVar[str] = "pack"
    latents: Artifact

    def run(self, out, runtime):
        write_pack(out)


@pytest.fixture
def of_codec(build):
    """Packed latents of the codec of this digest, with the records that say so."""

    def make(digest):
        latents = build(Encoded(codec=Artifact(stage="codec", key=None, location="", digest=digest)))
        return replace(build(Packed(latents=latents)), digest=f"pack of {digest}")

    return make


def test_latents_of_another_codec_are_told_by_their_origin_though_every_shape_agrees(build, of_codec):
    ours, other = of_codec("a" * 20), of_codec("b" * 20)
    different = "the training windows and {} are of different codecs, aaaaaaaaaaaa and bbbbbbbbbbbb: .* with one codec"
    with pytest.raises(ValueError, match=different.format("the held-out ones")):
        build(training(ours, heldout=other))
    trained = build(training(other))
    with pytest.raises(ValueError, match=different.format("the denoiser that is tuned")):
        build(training(ours, TUNED, start=trained))
    assert build(training(other, TUNED, start=trained, heldout=other)).digest


def candidates(denoiser, prompts, codec=None, conditioning=None):
    arm = study_at("tiny").arms[2]
    nothing = Artifact(stage="windows", key=None, location="", digest="windows")
    return GenerateCandidates(
        denoiser=denoiser,
        bridge=None,
        codec=codec or nothing,
        prompts=prompts,
        windows=nothing,
        conditioning=conditioning or Conditioning(clap=ClapSource.AUDIO, context=True),
        sampler=arm.sampler,
        guidance=arm.guidance,
        pseudo_stereo=None,
        samples=1,
        count=2,
        seed=0,
    )


def test_a_denoiser_is_not_played_through_another_codec_than_its_own(build, of_codec):
    ours = of_codec("a" * 20)
    trained, other = build(training(ours)), Artifact(stage="codec", key=None, location="", digest="b" * 20)
    with pytest.raises(ValueError, match="the denoiser and the decoder are of different codecs"):
        build(candidates(trained, ours, other))
    with pytest.raises(ValueError, match="the denoiser and the prompts are of different codecs"):
        build(candidates(trained, of_codec("b" * 20)))


@pytest.mark.parametrize(
    ("sizes", "told"),
    [
        ({"channels": 32}, "32 channels, 24 frames and embeddings of 6 .* of 64, 24 and 6"),
        ({"frames": 20}, "64 channels, 20 frames and embeddings of 6 .* of 64, 24 and 6"),
        ({"width": 9}, "64 channels, 24 frames and embeddings of 9 .* of 64, 24 and 6"),
    ],
)
def test_heldout_windows_of_other_sizes_are_refused_before_the_first_step(build, packed, sizes, told):
    with pytest.raises(ValueError, match=told + "; cut, encode and embed both sets alike"):
        build(training(packed(), heldout=packed("other", **sizes)))


def test_a_context_of_another_length_than_its_target_names_both(build, packed):
    shorter = np.zeros((WINDOWS, CHANNELS, 20), np.float32)
    with pytest.raises(ValueError, match=r"context_NCT has shape \(8, 64, 20\), .* call for \(8, 64, 24\); pack"):
        build(training(packed(context_NCT=shorter)))


@pytest.mark.parametrize(("recipe", "told"), [(EDM, "tokens of 4"), (UNET, "multiple of 2")], ids=["dit", "unet"])
def test_a_length_that_the_network_cannot_take_names_both(build, packed, recipe, told):
    with pytest.raises(ValueError, match=f"(23 latent frames.*{told}|{told} latent frames, got 23)"):
        build(training(packed(frames=23), recipe))


def test_missing_statistics_are_named_with_the_remedy(build, packed):
    data = packed()
    (data.path / "statistics.json").unlink()
    with pytest.raises(ValueError, match=r"statistics\.json is missing: .*; encode the windows again"):
        build(training(data))


@pytest.mark.parametrize(
    ("name", "what", "shape"),
    [
        ("target_NCT", "targets", (CHANNELS, FRAMES)),
        ("context_NCT", "contexts", (CHANNELS, FRAMES)),
        ("clap_audio_NKE", "embeddings", (2, WIDTH)),
    ],
)
def test_a_window_that_is_not_finite_is_named_instead_of_skipped(build, packed, name, what, shape):
    with pytest.raises(ValueError, match=rf"{what} of the windows in rows \[3\] .* NaN or infinite, .*; encode and"):
        build(training(packed(**{name: damaged(*shape)})))


def test_a_bridge_names_the_text_that_is_not_finite(build, packed):
    with pytest.raises(ValueError, match=r"texts of the windows in rows \[3\] of the training set are NaN"):
        build(TrainBridge(data=packed(clap_text_NE=damaged(WIDTH)), recipe=BRIDGE))


def test_a_denoiser_refuses_conditions_of_another_codec_or_clap():
    denoiser = build_denoiser(EDM.network, EDM.objective, clap_width=WIDTH, seed=0)
    given = Conditioning(clap=ClapSource.AUDIO, context=True)
    noisy, sigma_B = torch.zeros(2, CHANNELS, FRAMES), torch.ones(2)
    for context, clap in (((2, CHANNELS, 20), (2, WIDTH)), ((2, CHANNELS, FRAMES), (2, 9))):
        with pytest.raises(ValueError, match=r"64 channels and embeddings of 6 was given .*; use the codec"):
            denoiser(noisy, sigma_B, given.conditions(torch.zeros(context), torch.zeros(clap)))


def test_a_checkpoint_with_other_keys_names_them(build, packed):
    data = packed()
    trained = build(training(data))
    deeper = replace(TUNED, network=replace(TUNED.network, layers=3))
    with pytest.raises(WeightsError, match=r"do not fit the denoiser to be tuned; missing: network\.blocks\.2"):
        build(training(data, deeper, start=trained))


def test_weights_that_are_not_those_of_their_record_are_refused_by_their_digest(build, packed):
    trained = build(training(packed()))
    weights = bytearray((trained.path / WEIGHTS).read_bytes())
    weights[-1] ^= 1
    (trained.path / WEIGHTS).write_bytes(bytes(weights))
    with pytest.raises(WeightsError, match=f"{WEIGHTS} has sha256 .*, expected .*; build or fetch it again"):
        load_trained_denoiser(trained, "cpu")


def test_a_damaged_state_gives_way_to_the_one_before_it_and_the_only_one_is_an_error(tmp_path, caplog):
    for step in (5, 10):
        save_state(tmp_path, {"step": torch.tensor(step)})
    for step, left in ((10, 5), (5, None)):
        path = tmp_path / f"state-{step:09d}.safetensors"
        path.write_bytes(path.read_bytes()[:-1] + b"?")
        if left:
            assert int(load_state(tmp_path)["step"]) == left
            assert "state-000000010.safetensors has sha256" in caplog.text
            save_state(tmp_path, {"step": torch.tensor(7)})  # what goes on keeps the older one until it is whole again
            assert int(load_state(tmp_path)["step"]) == 7
            (tmp_path / "state-000000007.safetensors").unlink()
            assert int(load_state(tmp_path)["step"]) == left
    with pytest.raises(WeightsError, match=rf"put the file back, or remove .*{POINTER} to begin anew"):
        load_state(tmp_path)


def test_an_unknown_scale_names_those_there_are(tmp_path):
    told = CliRunner().invoke(app, ["train", "dit", "--scale", "huge", "--workspace", str(tmp_path)])
    assert told.exit_code == 2
    assert told.stderr == "error: there is no scale 'huge'; the scales are tiny, laptop, gpu, paper\n"


def test_a_conditioning_that_no_arm_has_names_those_there_are(tmp_path):
    asked = ["--arms", "dit", "--conditionings", "CLAP_A*,ctx", "--scale", "tiny", "--workspace", str(tmp_path)]
    told = CliRunner().invoke(app, ["reproduce", *asked])
    assert told.exit_code == 2
    assert "no arm of this run has the conditioning 'CLAP_A*,ctx'; there are CLAP_A, CLAP_A,ctx" in told.stderr


def test_a_conditioning_that_needs_a_bridge_says_which_arm_has_one(build, packed):
    data = packed()
    trained = build(training(data))
    step = candidates(trained, data, conditioning=Conditioning(clap=ClapSource.BRIDGE, context=True))
    with pytest.raises(ValueError, match=r"CLAP_A\*,ctx needs a bridge, and this arm has none; use \+CLAP_beta"):
        build(step)


def test_a_training_that_runs_out_of_memory_keeps_what_was_saved(tmp_path, build, packed, monkeypatch):
    from models.training import _Run

    step, gradients = training(packed()), _Run._gradients

    def full(run, loss):
        if run.step == 7:
            raise torch.OutOfMemoryError("tried to allocate 20 GiB")
        return gradients(run, loss)

    monkeypatch.setattr(_Run, "_gradients", full)
    with pytest.raises(TooLargeError, match=r"step 7 does not fit the memory of cpu .*; take a smaller batch"):
        build(step)
    (folder,) = (tmp_path / "artifacts" / "denoiser").glob(".building-*")
    assert int(load_state(folder)["step"]) == 5
    monkeypatch.undo()


def test_sampling_that_runs_out_of_memory_says_what_to_lower(build, packed, monkeypatch):
    data = packed()
    trained = build(training(data))

    def full(*_):
        raise torch.OutOfMemoryError("tried to allocate 20 GiB")

    monkeypatch.setattr(Player, "play", full)
    with pytest.raises(TooLargeError, match=r"sampling 2 at once does not fit the memory of cpu .*; lower"):
        build(candidates(trained, data))


def test_a_recipe_of_a_type_that_is_gone_is_refused_by_name(build, packed):
    trained = build(training(packed()))
    text = dump_recipe({"network": EDM.network}).replace("DiTRecipe", "MambaRecipe")
    (trained.path / RECIPE).write_text(text)
    with pytest.raises(ValueError, match="names the type 'MambaRecipe', which this version"):
        load_trained_denoiser(trained, "cpu")
