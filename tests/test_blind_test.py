"""A blind listening test: letters that tell nothing, sounds of one loudness, and a key apart from them."""

import json
import re
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
from typer.testing import CliRunner

from flows.__main__ import app
from metrics.embeddings import Space
from metrics.protocol import Protocol
from tasks.artifact import Artifact
from tasks.audio_bytes import decode_flac, flac_bytes
from tasks.blind_key import ANCHOR, REAL, AskedWindow, Key, deal, load_key
from tasks.blind_material import Material, chosen_rows, low_passed, published_rows
from tasks.blind_page import render_page, write_test
from tasks.blind_sounds import LUFS, lufs_of
from tasks.judged_row import JudgedRow
from tasks.loudness import Loudness
from tasks.report import ReportRow
from tasks.shards import write_shard
from tasks.step import Step

RATE_HZ = 48_000
SYSTEMS = ("+DiT / ctx", "C-DiT / ctx", "Diff-A-Riff / ctx")
WINDOWS = tuple(
    AskedWindow(key=f"heldout-{number:08d}", track=f"song_{number}", anchor=f"heldout-{(number + 1) % 6:08d}")
    for number in range(6)
)


def tone(hz, level, seconds=1.0):
    wave_N = level * np.sin(2 * np.pi * hz * np.arange(int(seconds * RATE_HZ)) / RATE_HZ)
    return np.tile(wave_N.astype(np.float32), (2, 1))


class Tones:
    """Sounds whose systems differ in pitch and, by far, in level; one system plays clicks, one nothing."""

    def context(self, window):
        return tone(220, 0.1)

    def stem(self, system, window):
        clicks_SN = np.zeros((2, RATE_HZ), np.float32)
        clicks_SN[:, ::6000] = 1.0
        known = {SYSTEMS[0]: tone(440, 0.9), SYSTEMS[1]: clicks_SN, SYSTEMS[2]: np.zeros_like(clicks_SN)}
        return known.get(system, tone(330, 0.01))


@pytest.fixture(scope="module")
def key():
    return Key(report="r", systems=SYSTEMS, seed=3, trials=deal(WINDOWS[:2], SYSTEMS, seed=3))


@pytest.fixture(scope="module")
def exported(key, tmp_path_factory):
    out = tmp_path_factory.mktemp("blind") / "test"
    return out, write_test(out, key, Tones())


def test_every_trial_deals_every_stem_to_one_letter_and_the_seed_decides_which():
    trials = deal(WINDOWS, SYSTEMS, seed=0)
    for trial in trials:
        assert Counter(trial.stimuli.values()) == Counter((*SYSTEMS, REAL, ANCHOR))
        assert sorted(trial.stimuli) == ["a", "b", "c", "d", "e"]
    assert len({tuple(trial.stimuli[letter] for letter in "abcde") for trial in trials}) > 3
    assert deal(WINDOWS, SYSTEMS, seed=0) == trials
    assert deal(WINDOWS, SYSTEMS, seed=1) != trials
    assert deal(WINDOWS[3:], SYSTEMS, seed=0)[0].stimuli == trials[3].stimuli


def test_more_stems_than_a_listener_can_compare_are_refused():
    with pytest.raises(ValueError, match="13 stems on one screen"):
        deal(WINDOWS, [str(number) for number in range(11)], seed=0)


def test_what_listeners_are_given_names_no_arm_and_no_window(exported, key):
    given = exported[0] / "for-listeners"
    names = [path.name for path in given.rglob("*")]
    page = (given / "index.html").read_text(encoding="utf-8")
    for hidden in (*SYSTEMS, "DiT", "Riff", REAL, ANCHOR, "heldout", "song_"):
        assert not any(hidden in name for name in names)
        assert hidden not in page
    assert sorted(path.name for path in exported[0].iterdir()) == ["for-listeners", "key.json"]
    assert all(re.fullmatch(r"\d\d-(music|[a-e](-alone)?)\.flac", path.name) for path in (given / "audio").iterdir())


def test_all_sounds_are_equally_loud_and_none_clips(exported):
    out, lufs = exported
    levels = {}
    for path in (out / "for-listeners" / "audio").iterdir():
        audio_SN = decode_flac(path.read_bytes())
        loudness = Loudness()
        loudness.add(audio_SN)
        levels[path.stem] = loudness.lufs()
        assert np.abs(audio_SN).max() < 1.0
    silent = [name for name, level in levels.items() if level is None]
    assert len(silent) == 2 and all(name.endswith("-alone") for name in silent)  # the system that plays nothing
    audible = [level for level in levels.values() if level is not None]
    assert lufs < LUFS  # the clicks could not be louder
    assert audible == pytest.approx([lufs] * len(audible), abs=0.5)


def test_in_the_music_every_stem_is_as_loud_as_the_real_one(exported, key):
    letters = {system: letter for letter, system in key.trials[0].stimuli.items()}
    folder = exported[0] / "for-listeners" / "audio"

    def share_of_stem(letter, hz):
        audio_N = decode_flac((folder / f"01-{letter}.flac").read_bytes())[0]
        spectrum = np.abs(np.fft.rfft(audio_N))
        return spectrum[hz] / spectrum[220]

    loud, real = share_of_stem(letters[SYSTEMS[0]], 440), share_of_stem(letters[REAL], 330)
    assert loud == pytest.approx(real, rel=0.1)  # 90 times as loud as it came


def test_the_anchor_has_lost_what_lies_above_3500_hz():
    assert lufs_of(low_passed(tone(1000, 0.5))) == pytest.approx(lufs_of(tone(1000, 0.5)), abs=0.1)
    assert np.abs(low_passed(tone(6000, 0.5))[:, 4800:-4800]).max() < 0.001


def test_a_key_comes_back_and_its_digest_is_in_the_page(exported, key):
    assert load_key(exported[0]) == key
    assert load_key(exported[0]).digest == key.digest
    assert key.digest in render_page(key.digest, key.trials)
    assert Key(report="r", systems=SYSTEMS, seed=4, trials=key.trials).digest != key.digest


def test_a_folder_in_use_and_a_folder_without_a_key_are_refused(exported, key, tmp_path):
    with pytest.raises(ValueError, match="is not empty"):
        write_test(exported[0], key, Tones())
    with pytest.raises(ValueError, match=r"key\.json is not there"):
        load_key(tmp_path)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A report of two rows, one with context, over four windows of four tracks and one of silence."""
    root = tmp_path_factory.mktemp("workspace")
    places = {name: root / "artifacts" / stage / name for name, stage in ARTIFACTS.items()}
    for path in places.values():
        path.mkdir(parents=True)
    keys = [f"heldout-{number:08d}" for number in range(5)]
    write_shard(places["w"] / "shard-000000.tar", (_window(key, number) for number, key in enumerate(keys)))
    (places["w"] / "record.json").write_text("{}", encoding="utf-8")
    for name in ("a", "b"):
        made = ({"__key__": key, "candidate.flac": FLAC, "json": b'{"gain": 0.5}'} for key in keys)
        write_shard(places[name] / "shard-000000.tar", made)
    made = {
        name: Artifact(stage=stage, key=name, location=str(places[name]), digest=name)
        for name, stage in ARTIFACTS.items()
    }
    rows = [("real", "original accompaniment", None), ("+DiT", "CLAP_A,ctx", made["a"]), ("+DiT", "CLAP_A", made["b"])]
    step = Report(windows=made["w"], rows=tuple(_row(made["w"], *row) for row in rows))
    inputs = {name: {"stage": item.stage, "key": item.key, "digest": item.digest} for name, item in step.needs()}
    record = {"identity": step.canonical_identity(), "inputs": inputs}
    report = root / "reports" / "tiny"
    report.mkdir(parents=True)
    (report / "record.json").write_text(json.dumps(record), encoding="utf-8")
    return root


@dataclass(frozen=True, kw_only=True)
class Report(Step):
    """What a report's record says of its rows."""

    stage = "report"

    windows: Artifact
    rows: tuple[ReportRow, ...]

    def run(self, out, runtime):
        raise NotImplementedError


def _row(other, arm, inputs, candidates):
    space = Space(name="small CLAP", width=8, normalised=True, weights_sha256="ab" * 32)
    protocol = Protocol(profile="tiny", batches=1, batch_size=5, reference_size=6, space=space, mixture_space=space)
    row = JudgedRow(
        arm=arm,
        inputs=inputs,
        conditioning=None,
        candidates=other,
        prompts=None,
        references=other,
        mispaired=other,
        reference_state=other,
        clap=other,
        protocol=protocol,
        batches=1,
        quality=True,
        adherence=True,
    )
    return ReportRow(row=row, candidates=candidates, scores=other, statistics=other)


ARTIFACTS = {"a": "candidates", "b": "candidates", "w": "windows"}
FLAC = flac_bytes(tone(440, 0.25))


def _window(key, number):
    level = None if number == 2 else -20.0
    told = {"track_id": f"song_{number}", "context_level_db": level, "target_level_db": -20.0}
    sounds = {"context.flac": flac_bytes(tone(220, 0.1)), "target.flac": flac_bytes(tone(330 + number, 0.1))}
    return {"__key__": key, **sounds, "json": json.dumps(told).encode()}


def test_a_report_gives_its_rows_its_windows_and_candidates_at_their_own_level(workspace):
    published = published_rows(workspace, "tiny")
    rows = chosen_rows(published.rows, [], ["ctx,CLAP_A"])
    assert [row.system for row in rows] == ["+DiT / CLAP_A,ctx"]
    material = Material(windows=published.windows, rows=rows)
    asked = material.asked(4, seed=0)
    assert {window.track for window in asked} == {"song_0", "song_1", "song_3", "song_4"}  # not the silent one
    assert all(window.anchor != window.key for window in asked)
    assert np.abs(material.stem("+DiT / CLAP_A,ctx", asked[0])).max() == pytest.approx(0.5, abs=0.001)
    with pytest.raises(ValueError, match="answered only 4 audible windows"):
        material.asked(5, seed=0)


@pytest.mark.parametrize(
    ("arms", "conditionings", "complaint"),
    [
        (["c-dit"], ["CLAP_A,ctx"], "no arm 'C-DiT'; its arms are \\+DiT"),
        ([], ["CLAP_A"], "'CLAP_A' has no ctx"),
        ([], ["CLAP_T,ctx"], "give one of: CLAP_A,ctx"),
    ],
)
def test_rows_that_a_report_does_not_have_are_refused_by_name(workspace, arms, conditionings, complaint):
    with pytest.raises(ValueError, match=complaint):
        chosen_rows(published_rows(workspace, "tiny").rows, arms, conditionings)


def test_a_missing_report_and_a_missing_result_are_refused(workspace):
    with pytest.raises(ValueError, match="there are: tiny"):
        published_rows(workspace, "other")
    told = (workspace / "reports" / "tiny" / "record.json").read_text(encoding="utf-8")
    broken = workspace / "reports" / "broken"
    broken.mkdir()
    (broken / "record.json").write_text(told.replace('"key": "w"', '"key": "v"'), encoding="utf-8")
    with pytest.raises(ValueError, match="windows/v, which the report is made of, is gone"):
        published_rows(workspace, "broken")
    (broken / "record.json").unlink()


def test_the_command_exports_and_says_what_to_keep(workspace, tmp_path):
    asked = ["--workspace", str(workspace), "--report", "tiny", "--arms", "DiT", "--items", "4"]
    asked += ["--conditioning", "CLAP_A,ctx"]
    told = CliRunner().invoke(app, ["listen", "export", *asked, "--out", str(tmp_path / "test")])
    assert told.exit_code == 0, told.output
    assert "4 pieces, 3 stems each" in told.output
    assert isinstance(load_key(tmp_path / "test").trials[0].window, AskedWindow)
    again = CliRunner().invoke(app, ["listen", "export", *asked, "--out", str(tmp_path / "test")])
    assert again.exit_code == 2
    assert again.stderr.count("\n") == 1


def test_a_folder_that_is_called_as_what_is_hidden_is_refused():
    with pytest.raises(ValueError, match="rename that one"):
        deal(WINDOWS, ["anchor", "ours"], seed=0)
