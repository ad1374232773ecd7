"""Several corpora as one: names, layouts, groups and weights, and the commands that show and recheck what there is."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from miniature_corpora import write_musdb18hq, write_slakh2100
from typer.testing import CliRunner, Result

from data_manifests.layouts import list_corpus
from data_manifests.layouts.several import joined_listings
from flows.__main__ import app
from flows.request import StudyRequest
from tasks.audio_bytes import write_flac
from tasks.corpus import CorpusError, joined_corpora
from tasks.walk import list_corpora, walk_corpus


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def song(folder: Path, *stems: str, seconds: float = 6.0) -> None:
    folder.mkdir(parents=True)
    for place, stem in enumerate(stems):
        wave_N = 0.3 * np.sin(2 * np.pi * (110 + 37 * place) * np.arange(int(48_000 * seconds)) / 48_000)
        write_flac(folder / f"{stem}.flac", np.stack([wave_N, wave_N]).astype(np.float32))


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """Two songs with a vocal, and a mix that is no stem."""
    for name in ("first", "second"):
        song(tmp_path / "plain" / name, "drums", "bass", "vocals", "mix")
    return tmp_path / "plain"


@pytest.fixture
def musdb(tmp_path: Path) -> Path:
    write_musdb18hq(tmp_path / "musdb")
    return tmp_path / "musdb"


def test_tracks_carry_the_name_and_layout_of_their_corpus(tmp_path: Path, plain: Path, musdb: Path) -> None:
    joined = joined_corpora({"mine": plain, "theirs": musdb}, tmp_path / "workspace")
    listing = list_corpora(joined.path, {"mine": None, "theirs": "musdb18hq"})
    assert listing.layout == "plain+musdb18hq"
    assert {track.corpus for track in listing.tracks} == {"mine", "theirs"}
    assert all(track.id.startswith(f"{track.corpus}/") for track in listing.tracks)
    paths = [file.path for track in listing.tracks for stem in track.stems for file in stem.files]
    assert all((joined.path / path).is_file() for path in paths)
    assert {item.path for item in listing.left_out} >= {"mine/first/mix.flac"}


def test_an_artist_in_two_corpora_stays_in_one_split(musdb: Path, tmp_path: Path) -> None:
    copy = tmp_path / "again"
    shutil.copytree(musdb / "train", copy / "train")  # here the artist of the test song only trains
    files = [walk_corpus(folder).files for folder in (musdb, copy)]
    alone = list_corpus(files[1], reader=None, layout="musdb18hq")
    joined = joined_listings({"a": list_corpus(files[0], reader=None, layout="musdb18hq"), "b": alone})
    skelpolu = {track.split for track in joined.tracks if "skelpolu" in track.group_id}
    assert "heldout" not in {track.split for track in alone.tracks}
    assert skelpolu == {"heldout"}


def test_the_joined_corpus_changes_with_any_of_its_files(tmp_path: Path, plain: Path, musdb: Path) -> None:
    folders = {"mine": plain, "theirs": musdb}
    before = joined_corpora(folders, tmp_path / "workspace").digest
    assert joined_corpora(folders, tmp_path / "workspace").digest == before
    song(plain / "third", "drums", "bass")
    assert joined_corpora(folders, tmp_path / "workspace").digest != before
    with pytest.raises(CorpusError, match="missing"):
        joined_corpora({"mine": plain, "gone": tmp_path / "missing"}, tmp_path / "workspace")


def test_weights_and_layouts_come_one_for_each_corpus(plain: Path, musdb: Path) -> None:
    corpora = (str(plain), str(musdb))
    study = StudyRequest(scale="tiny", corpus=corpora, layout=("auto", "musdb18hq"), weight=(1, 3)).study()
    assert study.layouts == (("plain", None), ("musdb", "musdb18hq"))
    assert study.rule.weights == (("plain", 1.0), ("musdb", 3.0))
    with pytest.raises(ValueError, match="2 corpora, 1 of --weight"):
        StudyRequest(scale="tiny", corpus=corpora, weight=(1.0,))
    with pytest.raises(ValueError, match="no layout 'vinyl'"):
        StudyRequest(scale="tiny", corpus=corpora, layout=("auto", "vinyl"))


def test_two_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    request = StudyRequest(scale="tiny", corpus=(str(tmp_path / "a" / "stems"), str(tmp_path / "b" / "stems")))
    assert [name for name, _ in request.study().layouts] == ["stems-1", "stems-2"]


def test_the_catalogue_command_names_every_stem_and_every_file_left_out(plain: Path, tmp_path: Path) -> None:
    workspace = str(tmp_path / "workspace")
    shown = run("catalogue", str(plain), "--workspace", workspace)
    assert shown.exit_code == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert sum(line.startswith("  target") for line in lines) == 4
    assert sum(line.startswith("  context") and "vocal" in line for line in lines) == 2
    assert any(line.startswith("left out  first/mix.flac") for line in lines)
    assert "2 songs, 6 stems, 4 of them targets; 0 files unreadable, 2 left out" in lines
    refused = run("catalogue", str(plain), "--layout", "slakh2100", "--workspace", workspace)
    assert refused.exit_code == 2 and "no song in the layout slakh2100" in refused.stderr


def test_a_layout_is_recognised_by_the_command(tmp_path: Path) -> None:
    write_slakh2100(tmp_path / "slakh")
    shown = run("catalogue", str(tmp_path / "slakh"), "--workspace", str(tmp_path / "workspace"))
    assert "slakh2100" in shown.stdout + shown.stderr


def test_windows_verify_says_where_there_is_nothing_to_check(tmp_path: Path) -> None:
    refused = run("windows", "verify", "--workspace", str(tmp_path))
    assert refused.exit_code == 2 and "no windows" in refused.stderr
