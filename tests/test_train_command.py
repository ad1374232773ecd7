"""`stemwright train`: what it says, what it refuses, and that it makes what `reproduce` looks for."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from flows import graph, train_work
from flows.__main__ import app
from flows.request import StudyRequest
from flows.session import session
from models.training import TrainingStopped
from tasks.artifact import Artifact
from tasks.store import Store


def run(*asked):
    return CliRunner().invoke(app, ["train", *asked])


def test_a_dry_run_tells_recipe_size_cost_and_time_and_builds_nothing(tmp_path):
    told = run("c-dit", "--scale", "tiny", "--dry-run", "--device", "cpu", "--workspace", str(tmp_path))
    assert told.exit_code == 0, told.output
    assert '"type": "ConsistencyObjective"' in told.output
    assert "denoiser: 69,888 parameters, 10 steps of 4 windows" in told.output
    assert "the denoiser that it is tuned from: 69,888 parameters, 20 steps of 4 windows" in told.output
    assert "1 MiB of weights, gradients, moments and averages" in told.output
    assert told.output.count("ms a step measured on this cpu") == 2
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_does_not_try_what_would_take_minutes(tmp_path):
    told = run("dit", "--scale", "gpu", "--dry-run", "--device", "cpu", "--workspace", str(tmp_path))
    assert "57,479,424 parameters" in told.output
    assert "time: not measured, a step is too large to be tried on this cpu" in told.output


def test_an_arm_that_does_not_exist_is_refused_by_name(tmp_path):
    told = run("vae", "--scale", "tiny", "--workspace", str(tmp_path))
    assert told.exit_code == 2
    assert "there is no arm 'vae'; the arms are Diff-A-Riff" in told.stderr


def test_a_stopped_training_says_how_to_go_on(tmp_path, monkeypatch):
    def stopped(request, **options):
        raise TrainingStopped("stopped after step 4 of 12")
        yield

    monkeypatch.setattr(train_work, "train_lines", stopped)
    told = run("dit", "--scale", "tiny", "--workspace", str(tmp_path))
    assert told.exit_code == 130
    assert "stopped after step 4 of 12; the same command goes on from there" in told.stderr


@pytest.mark.parametrize(("asked", "forgotten"), [((), set()), (("--resume",), set()), (("--anew",), {"denoiser"})])
def test_only_anew_forgets_the_saved_states_of_the_arm(tmp_path, monkeypatch, asked, forgotten):
    begun = []
    monkeypatch.setattr(Store, "begin_anew", lambda self, step: begun.append(step.stage))
    monkeypatch.setattr(train_work, "build", Recorder().make)
    told = run("dit", "--scale", "tiny", "--workspace", str(tmp_path), *asked)
    assert told.exit_code == 0, told.output
    assert set(begun) == forgotten


class Recorder:
    """A `make` that builds nothing and knows the key of every step."""

    def __init__(self):
        self.keys = set()

    def make(self, step, **how):
        self.keys.add((step.stage, step.key()))
        return Artifact(stage=step.stage, key=step.key(), location="", digest=step.key())


@pytest.mark.parametrize("arm", ["CLAP_beta", "C-DiT"])
def test_all_that_it_makes_is_found_by_reproduce(tmp_path, monkeypatch, arm):
    asked = {"scale": "tiny", "workspace": str(tmp_path), "device": "cpu"}
    study, training = Recorder(), Recorder()
    ready = session(StudyRequest(**asked))
    graph.whole(ready.study, None, ready.request.conditionings_of, study.make, command="")
    monkeypatch.setattr(train_work, "_made", training.make)
    request = StudyRequest(arms=(arm,), **asked)
    lines = list(train_work.train_lines(request, resume=True, compiled=False, save_every=10, preview_every=None))
    assert lines[0].startswith("denoiser: ")
    assert {stage for stage, _ in training.keys} >= {"denoiser", "codec", "encode"}
    assert training.keys <= study.keys
