"""The command line: clear errors for what cannot be done, and recipes and help for what can."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.main import get_command
from typer.testing import CliRunner, Result

from flows.__main__ import app
from tasks.audio_bytes import write_flac

DECISIVE = {"scale", "corpus", "layout", "weight", "soundfont", "fused", "seed", "clap", "mono_codec", "stereo_codec"}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def refused(*arguments: str) -> str:
    """What a refused command says; the code says that nothing useful was made."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    return result.stderr


@pytest.fixture
def workspace(tmp_path: Path) -> str:
    return str(tmp_path / "workspace")


def tone(folder: Path, name: str, *, seconds: float = 6.0, hz: float = 220.0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    wave_N = 0.3 * np.sin(2 * np.pi * hz * np.arange(int(48_000 * seconds)) / 48_000)
    write_flac(folder / name, np.stack([wave_N, wave_N]).astype(np.float32))


@pytest.mark.parametrize(
    "command", [[], ["reproduce"], ["plan"], ["show"], ["invalidate"], ["report"], ["corpus"], ["run"], ["gc"]]
)
def test_help_is_everywhere(command: list[str]) -> None:
    assert run(*command, "--help").exit_code == 0


@pytest.mark.parametrize("command", ["reproduce", "plan", "train", "steps", "export", "status", "run", "gc", "deploy"])
def test_all_that_decides_a_study_can_be_told_to_each_command_about_it(command: str) -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]  # a group of commands
    told = {parameter.name for parameter in commands[command].params}
    assert told >= DECISIVE and told & {"arm", "arms"}


def test_show_prints_the_recipe_of_an_arm() -> None:
    shown = json.loads(run("show", "dit").stdout)
    assert shown["denoiser"]["network"]["width"] == 1024
    assert json.loads(run("show", "C-DiT", "--scale", "laptop").stdout)["denoiser"]["start"]["network"]["width"] == 256


def test_an_unknown_arm_names_those_there_are() -> None:
    assert "Diff-A-Riff, +M2L2, +DiT, +CLAP_beta, C-DiT" in refused("show", "GAN")
    assert "C-DiT" in refused("plan", "--scale", "tiny", "--arms", "GAN")


def test_an_unknown_scale_or_conditioning_names_those_there_are(workspace: str) -> None:
    assert "tiny, laptop, gpu, paper" in refused("plan", "--scale", "huge")
    message = refused("plan", "--scale", "tiny", "--conditionings", "lyrics", "--workspace", workspace)
    assert "lyrics" in message and "CLAP_A,ctx" in message


def test_a_missing_or_empty_corpus_is_named(tmp_path: Path, workspace: str) -> None:
    (tmp_path / "empty").mkdir()
    for folder in ("missing", "empty"):
        message = refused("reproduce", "--scale", "tiny", "--corpus", str(tmp_path / folder), "--workspace", workspace)
        assert str(tmp_path / folder) in message and "song" in message


def test_a_workspace_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    inside = str(tmp_path / "file" / "inside")
    assert "--workspace" in refused("reproduce", "--scale", "tiny", "--workspace", inside)


def test_the_papers_scale_asks_for_its_clap(workspace: str) -> None:
    assert "--laion-checkpoint" in refused("plan", "--scale", "paper", "--workspace", workspace)


def test_a_report_before_any_run_says_how_to_make_one(workspace: str) -> None:
    assert "stemwright reproduce" in refused("report", "--workspace", workspace)


def test_a_corpus_without_pairs_is_refused_before_anything_is_kept(tmp_path: Path, workspace: str) -> None:
    tone(tmp_path / "corpus" / "song", "bass.flac")
    message = refused("reproduce", "--scale", "tiny", "--corpus", str(tmp_path / "corpus"), "--workspace", workspace)
    assert "song" in message
    assert not list(Path(workspace).glob("artifacts/*/*/record.json"))
