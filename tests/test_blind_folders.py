"""Claims about a blind listening test of anyone's folders of stems: exported and analysed as a study's is."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from flows.__main__ import app
from tasks.audio_bytes import write_flac
from tasks.blind_folders import Folders
from tasks.blind_key import ANCHOR, REAL, AskedWindow, load_key
from tasks.blind_page import ANSWERS_SCHEMA

RATE_HZ = 48_000


def tone(hz, level):
    wave_N = level * np.sin(2 * np.pi * hz * np.arange(RATE_HZ) / RATE_HZ)
    return np.tile(wave_N.astype(np.float32), (2, 1))


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Folders of two systems, of contexts and of real stems: five songs, one silent, and one that a system lacks."""
    root = tmp_path_factory.mktemp("given")
    for place, folder in enumerate(("ours", "theirs", "contexts", "targets")):
        for song in range(6):
            if (folder, song) == ("theirs", 5):
                continue
            path = root / folder / f"song_{song}" / f"bass.{'wav' if folder == 'ours' else 'flac'}"
            path.parent.mkdir(parents=True)
            level = 0.0 if (folder, song) == ("contexts", 2) else 0.1 * (place + 1)
            write_flac(path.with_suffix(".flac"), tone(200 + 100 * song, level))
            path.with_suffix(".flac").rename(path)
    return root


def test_anyones_folders_are_asked_by_name_where_all_have_an_audible_file(given):
    folders = Folders({"ours": given / "ours", "theirs": given / "theirs"}, given / "contexts", given / "targets")
    asked = folders.asked(4, seed=0)
    assert {window.key for window in asked} == {f"song_{song}/bass" for song in (0, 1, 3, 4)}
    assert all(window.anchor != window.key and window.track == window.key.removesuffix("/bass") for window in asked)
    levels = {"ours": 0.1, "theirs": 0.2, REAL: 0.4}
    for system, level in levels.items():
        assert np.abs(folders.stem(system, asked[0])).max() == pytest.approx(level, abs=0.001)
    assert np.abs(folders.context(asked[0])).max() == pytest.approx(0.3, abs=0.001)
    anchor = AskedWindow(key="song_0/bass", track="song_0", anchor="song_3/bass")
    assert np.argmax(np.abs(np.fft.rfft(folders.stem(ANCHOR, anchor)[0]))) == 500 * 10  # of ten seconds: 500 Hz
    with pytest.raises(ValueError, match="answered only 4 audible windows"):
        folders.asked(5, seed=0)


def test_the_command_exports_anyones_folders_and_answers_to_them_are_analysed(given, tmp_path):
    asked = ["--candidates", str(given / "ours"), "--candidates", str(given / "theirs"), "--items", "4"]
    asked += ["--contexts", str(given / "contexts"), "--targets", str(given / "targets")]
    told = CliRunner().invoke(app, ["listen", "export-folders", *asked, "--out", str(tmp_path / "test")])
    assert told.exit_code == 0, told.output
    assert "4 pieces, 4 stems each" in told.output
    key = load_key(tmp_path / "test")
    assert key.systems == ("ours", "theirs")
    ratings = {"ours": 70, "theirs": 40, REAL: 90, ANCHOR: 5}
    rated = [
        {"trial": trial.name, "stimulus": letter, "score": ratings[system], "plays": 1}
        for trial in key.trials
        for letter, system in trial.stimuli.items()
    ]
    answers = {"schema": ANSWERS_SCHEMA, "test": key.digest, "listener": "Ada", "ratings": rated}
    (tmp_path / "answers-Ada.json").write_text(json.dumps(answers), encoding="utf-8")
    found = CliRunner().invoke(app, ["listen", "analyse", str(tmp_path / "test"), str(tmp_path / "answers-Ada.json")])
    assert found.exit_code == 0, found.output
    assert "ours" in found.output
