"""Playing on a full disk, and two at once: each defined, said in words, and nothing is ever half there."""

from __future__ import annotations

import errno
import os
import subprocess
from contextlib import contextmanager

import numpy as np
import pytest
import soundfile
import torch
from command_line import stemwright
from fastapi.testclient import TestClient
from tiny_arms import train_arm
from typer.testing import CliRunner

from flows.__main__ import app
from models.accompanist import Accompanist
from tasks.export_model import export_model
from tasks.play import TOLD, play_along
from tasks.play_ask import Ask
from tasks.studio import studio
from tasks.studio_desk import FULL_DISK
from tasks.studio_history import History
from tasks.whole_files import FullDisk

RATE_HZ = 48_000
HERE = "http://127.0.0.1:8321"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    torch.set_num_threads(1)
    return train_arm("+DiT", tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def place(trained, tmp_path_factory):
    """A model folder and a song of noise."""
    place = tmp_path_factory.mktemp("play")
    export_model(trained, place / "model", scores=None)
    soundfile.write(place / "song.wav", 0.1 * np.random.default_rng(0).standard_normal((2 * RATE_HZ, 2)), RATE_HZ)
    return place


@pytest.fixture(scope="module")
def player(place):
    return Accompanist.load(place / "model")


@contextmanager
def small_disk(folder, kibibytes):
    """A file system of its own with so much room."""
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "none", folder], check=False)
    if made.returncode:
        pytest.skip("file systems can be mounted by root alone")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def everything(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def command(place, out):
    asked = (place / "song.wav", "--steps", 1, "--variations", 1, "--seed", 3, "--device", "cpu")
    return ["play", *map(str, asked), "--model", str(place / "model"), "--out", str(out)]


def test_play_on_a_full_disk_is_one_sentence_and_leaves_nothing(place, tmp_path, monkeypatch):
    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    result = CliRunner().invoke(app, command(place, tmp_path / "out"))
    assert result.exit_code == 2
    said = f"error: {tmp_path}: the disk is full, and nothing was kept; make room on it, and try again\n"
    assert result.stderr == said and everything(tmp_path) == []


def test_export_on_a_full_disk_is_one_sentence_and_leaves_nothing(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("tasks.export_model.shutil.copyfile", full)
    with pytest.raises(FullDisk, match=r": the disk is full, and nothing was kept"):
        export_model(trained, tmp_path / "model", scores=None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # soundfile's callbacks cannot raise
def test_a_disk_that_is_really_too_small_is_said_by_play_export_and_studio(place, player, trained, tmp_path):
    with small_disk(tmp_path / "disk", 700) as disk:
        with pytest.raises(FullDisk):
            play_along(player, Ask(context=place / "song.wav", steps=1, variations=2), disk / "out")
        with pytest.raises(FullDisk):
            export_model(trained, disk / "model", scores=None)
        assert list(disk.iterdir()) == []
        own = {"base_url": HERE, "headers": {"Origin": HERE}}
        with TestClient(studio(player, History(disk / "history")), **own) as page:
            song = (place / "song.wav").read_bytes()
            for data in (song, 3 * song):  # room for the file and not for what is heard of it; and not for the file
                answer = page.post("/sounds", params={"name": "song.wav"}, content=data)
                assert (answer.status_code, answer.json()["detail"]) == (507, FULL_DISK)
            assert everything(disk) == ["lock"]


def test_of_two_processes_at_once_the_second_is_refused_and_the_first_ones_files_are_as_if_it_were_alone(
    place, player, tmp_path, monkeypatch
):
    """The other one begins and ends while this one plays."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as here; sums of another number of threads differ in their last bits
    out, alone = tmp_path / "out", tmp_path / "alone"

    def told(stage, share):
        if stage == "playing" and not out.exists():
            other = stemwright(*command(place, out))
            assert other.returncode == 0, other.stderr

    with pytest.raises(ValueError, match="out is there already; name another folder with --out"):
        play_along(player, Ask(seconds=1.0, steps=1), out, told)
    late = CliRunner().invoke(app, command(place, out))
    assert late.exit_code == 2 and "out is there already" in late.stderr
    play_along(player, Ask(context=place / "song.wav", steps=1, seed=3), alone)
    assert everything(alone) == everything(out) == ["mix-1.wav", TOLD, "variation-1.wav"]
    for name in everything(alone):
        assert (out / name).read_bytes() == (alone / name).read_bytes(), name
    assert {path.name for path in tmp_path.iterdir()} == {"out", "alone"}  # and no scratch folders
