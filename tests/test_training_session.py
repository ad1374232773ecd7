"""What a training keeps on disk, and that signals end it where it can go on."""

from __future__ import annotations

import json
import os
import signal
import threading
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from flows.scales import study_at
from models.bridge import BridgeRecipe
from models.training import TrainingRecipe, TrainingStopped
from models.weights import WeightsError
from tasks import train as train_module
from tasks.artifact import Artifact
from tasks.checkpoints import POINTER, drop_states, load_state, save_state
from tasks.interruption import asked_to_stop
from tasks.runtime import Runtime
from tasks.store import Store
from tasks.telemetry_file import TELEMETRY, TelemetryFile, read_telemetry
from tasks.train import WEIGHTS, TrainBridge, TrainDenoiser

BRIDGE = BridgeRecipe(
    width=8, blocks=1, conditioning_width=8, training=TrainingRecipe(steps=12, batch_size=4, warmup_steps=2)
)


def state(step):
    return {"step": torch.tensor(step), "weights/a": torch.full((3,), float(step))}


def test_the_newest_state_counts_and_one_before_it_stays(tmp_path):
    assert load_state(tmp_path) is None
    for step in (5, 10, 15):
        save_state(tmp_path, state(step))
        assert int(load_state(tmp_path)["step"]) == step
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["state-000000010.safetensors", "state-000000015.safetensors", POINTER]
    drop_states(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_save_that_was_cut_short_leaves_the_one_before_it(tmp_path, monkeypatch):
    save_state(tmp_path, state(5))
    monkeypatch.setattr("tasks.checkpoints.write_whole", lambda path, data: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        save_state(tmp_path, state(10))
    assert int(load_state(tmp_path)["step"]) == 5


def test_a_state_of_other_bytes_is_refused_by_its_digest(tmp_path):
    save_state(tmp_path, state(5))
    path = next(tmp_path.glob("*.safetensors"))
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(bytes(damaged))
    with pytest.raises(WeightsError, match="has sha256"):
        load_state(tmp_path)


def test_figures_are_lines_of_json_and_those_after_the_saved_step_come_again(tmp_path):
    figures = TelemetryFile(tmp_path, until=0)
    for step in (10, 20, 30):
        figures.add(step, {"loss": 1 / step, "broken": float("nan")})
    with (tmp_path / TELEMETRY).open("a") as file:
        file.write('{"step": 40, "lo')  # the kill came here
    TelemetryFile(tmp_path, until=20).add(30, {"loss": 0.5})
    assert read_telemetry(tmp_path) == [
        {"step": 10, "loss": 0.1},
        {"step": 20, "loss": 0.05},
        {"step": 30, "loss": 0.5},
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_a_question_and_a_second_one_what_it_was(number):
    before = signal.getsignal(number)
    with asked_to_stop() as stop:
        assert not stop()
        os.kill(os.getpid(), number)
        assert stop()
        assert signal.getsignal(number) is before
    assert signal.getsignal(number) is before


def test_another_thread_is_never_asked():
    answers = []

    def work():
        with asked_to_stop() as stop:
            answers.append(stop())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert answers == [False]


@pytest.fixture
def packed(tmp_path):
    """Packed latents of eight windows, as `PackLatents` leaves them."""
    folder = tmp_path / "packed"
    folder.mkdir()
    random = np.random.default_rng(0)
    shapes = {
        "target_NCT": (8, 4, 8),
        "context_NCT": (8, 4, 8),
        "clap_audio_NKE": (8, 2, 6),
        "clap_leak_NE": (8, 6),
        "clap_text_NE": (8, 6),
    }
    for name, shape in shapes.items():
        np.save(folder / f"{name}.npy", random.standard_normal(shape, dtype=np.float32))
    (folder / "statistics.json").write_text(json.dumps({"mean_C": [0.0] * 4, "std_C": [1.0] * 4}))
    return Artifact(stage="pack", key="00", location=str(folder), digest="11")


def build(step, workspace: Path, **keywords):
    runtime = Runtime(workspace=str(workspace), torch_threads=1, log_every=4, progress=False, **keywords)
    return Store(workspace / "artifacts").build(step, runtime)


def test_a_step_that_sigterm_ended_goes_on_and_gives_the_same_result(tmp_path, packed, monkeypatch):
    monkeypatch.setattr("tasks.training_session._tracked", lambda step, runtime: nullcontext(lambda at, values: None))
    step, trained = TrainBridge(data=packed, recipe=BRIDGE), train_module.train_bridge

    def ended(*told, log, **keywords):
        def signalled(at, values):
            log(at, values)
            os.kill(os.getpid(), signal.SIGTERM)

        return trained(*told, log=signalled, **keywords)

    monkeypatch.setattr(train_module, "train_bridge", ended)
    with pytest.raises(TrainingStopped, match="after step 4 of 12"):
        build(step, tmp_path / "stopped")
    assert not list((tmp_path / "stopped").rglob(WEIGHTS))
    monkeypatch.setattr(train_module, "train_bridge", trained)
    resumed, whole = build(step, tmp_path / "stopped"), build(step, tmp_path / "whole")
    assert resumed.digest == whole.digest  # times and rates are no part of it
    assert [told["step"] for told in read_telemetry(resumed.path)] == [4, 8, 12]
    assert sorted(path.name for path in resumed.path.iterdir()) == ["log", "recipe.json", "record.json", WEIGHTS]


def test_windows_that_are_only_listened_to_are_no_part_of_the_key(packed):
    recipe = study_at("tiny").arms[2].denoiser
    watching, alone = (
        TrainDenoiser.of(recipe, data=packed, start=None, heldout=held, codec=held) for held in (packed, None)
    )
    assert watching.key() == alone.key()
    assert watching.key() != TrainDenoiser.of(replace(recipe, clap_dropout=0.5), data=packed, start=None).key()
