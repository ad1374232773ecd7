"""`stemwright codec fit` in two processes that torchrun started, on a folder of a few seconds of audio."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner

from flows.__main__ import app
from models.data_parallel import Processes
from tasks.audio_bytes import write_flac
from tasks.fit_codec import load_codec
from tasks.fit_codec_on_audio import FitCodecOnAudio

ROOT = Path(__file__).parent.parent
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "flows")
FIT = ("codec", "fit", "--codec", "music2latent2", "--size", "tiny", "--steps", "2", "--batch", "2", "--device", "cpu")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with four seconds of noise."""
    place = tmp_path_factory.mktemp("torchrun")
    (place / "audio").mkdir()
    noise = 0.1 * np.random.default_rng(0).standard_normal((2, 4 * 48_000))
    write_flac(place / "audio" / "noise.flac", noise.astype(np.float32))
    return place


@contextmanager
def several(device: str) -> Iterator[Processes]:
    """A group of two, said and not opened."""
    yield Processes(0, 2)


def asked(place: Path, out: str) -> list[str]:
    """The command's arguments, which are the same with torchrun and without."""
    return [*FIT, "--audio", str(place / "audio"), "--workspace", str(place / "workspace"), "--out", str(place / out)]


@pytest.mark.timeout(300)
def test_two_processes_fit_one_codec_and_the_first_delivers_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, *TORCHRUN, *asked(place, "two")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("codec.safetensors: sha256") == 1
    record = json.loads((place / "two" / "record.json").read_text())
    assert record["summary"]["processes"] == 2 and record["identity"]["recipe"]["batch"] == 2
    assert load_codec(str(place / "two")).spec.weights_sha256 in done.stdout
    assert all(np.isfinite(weight).all() for weight in load_file(place / "two" / "codec.safetensors").values())
    monkeypatch.setattr(FitCodecOnAudio, "run", lambda *_: pytest.fail("two processes fitted it before"))
    found = CliRunner().invoke(app, asked(place, "one"))
    assert found.exit_code == 0, found.output
    assert (place / "one" / "codec.safetensors").read_bytes() == (place / "two" / "codec.safetensors").read_bytes()


def test_a_closed_form_codec_is_no_work_for_several(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.codec_work.process_group", several)
    refused = CliRunner().invoke(app, [*asked(place, "none"), "--codec", "spectral-mono"])
    assert refused.exit_code == 2 and "by one process; start the command without torchrun" in refused.stderr
