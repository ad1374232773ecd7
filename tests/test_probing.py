import json
import os
import shutil

import numpy as np
import psutil
import pyloudnorm
import pytest
import soundfile

from data_manifests.listing import ListedStem
from data_manifests.schema import ListedFile, Quarantined
from tasks import digests, probing
from tasks.copies import mark_copies
from tasks.listening import hear
from tasks.probing import ProbeStore, probe_stems
from tasks.run_length import from_runs, to_runs

RATE_HZ = 48_000


def noise(seconds, *, seed=0, level=0.1, channels=2, rate_hz=RATE_HZ):
    return np.random.default_rng(seed).standard_normal((round(seconds * rate_hz), channels)) * level


@pytest.fixture
def save(tmp_path):
    def _save(name, audio_FS, rate_hz=RATE_HZ, subtype="FLOAT"):
        path = tmp_path / "corpus" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, audio_FS, rate_hz, subtype=subtype)
        return name

    return _save


@pytest.fixture
def stem_of():
    def _stem_of(*files, stem_id="stem", is_vocal=False):
        listed = tuple(file if isinstance(file, ListedFile) else ListedFile(path=file) for file in files)
        return ListedStem(
            id=stem_id,
            files=listed,
            role="other",
            is_vocal=is_vocal,
            tags=(),
            usable_as_target=not is_vocal,
            usable_in_context=True,
            reason=None,
        )

    return _stem_of


@pytest.fixture
def probe_one(tmp_path):
    def _probe_one(stem):
        (found,) = probe_stems(tmp_path / "corpus", [stem], ProbeStore())
        return found if isinstance(found, Quarantined) else found[0]

    return _probe_one


def test_a_stem_is_heard_as_the_sum_of_its_files(save, stem_of, probe_one):
    one_FS = noise(3)
    files = (save("one.wav", one_FS), save("two.wav", -one_FS * 2))
    cancelled = probe_one(stem_of(files[0], ListedFile(path="two.wav", gain_db=20 * np.log10(0.5))))
    assert "silent" in cancelled.flags and cancelled.activity == (False,) * 3 and not cancelled.usable_in_context
    doubled = probe_one(stem_of("one.wav", "one.wav"))
    assert doubled.peak == pytest.approx(2 * np.abs(one_FS).max(), rel=1e-3)
    assert doubled.loudness_lufs == pytest.approx(probe_one(stem_of("one.wav")).loudness_lufs + 6.02, abs=0.02)


def test_files_are_placed_on_the_track_s_timeline(save, stem_of, probe_one):
    save("one.wav", noise(1.5))
    save("slow.wav", noise(1, rate_hz=8_000), 8_000)
    late = probe_one(stem_of(ListedFile(path="one.wav", start_s=2.0)))
    assert late.activity == (False, False, True, True) and late.end_samples == round(3.5 * RATE_HZ)
    both = probe_one(stem_of("one.wav", ListedFile(path="slow.wav", start_s=4.0)))
    assert both.activity == (True, True, False, False, True)
    early = probe_one(stem_of(ListedFile(path="one.wav", start_s=-1.0)))
    assert early.activity == (True,) and early.end_samples == RATE_HZ // 2
    save("fading.wav", np.concatenate([noise(1), np.zeros((RATE_HZ // 2, 2))]))
    assert probe_one(stem_of(ListedFile(path="fading.wav", start_s=-1.0))).activity == (False,)


def test_a_pair_of_mono_files_is_stereo_and_a_stem_of_equal_sides_is_mono(save, stem_of, probe_one):
    for seed, name in enumerate(("left.wav", "right.wav")):
        save(name, noise(1, seed=seed, channels=1))
    pair = probe_one(stem_of(ListedFile(path="left.wav", side="left"), ListedFile(path="right.wav", side="right")))
    assert "mono" not in pair.flags and [file.channels for file in pair.files] == [1, 1]
    assert "mono" in probe_one(stem_of("left.wav")).flags
    assert "mono" not in probe_one(stem_of(ListedFile(path="left.wav", side="left"))).flags


def test_one_unreadable_file_of_several_leaves_the_whole_stem_out_and_is_named(save, stem_of, probe_one):
    save("fine.wav", noise(1))
    save("broken.wav", np.full((RATE_HZ, 2), np.nan))
    for broken, reason in (("broken.wav", "not a number at 0.000 s"), ("gone.wav", "no such file")):
        found = probe_one(stem_of("fine.wav", broken, stem_id="drums"))
        assert isinstance(found, Quarantined) and found.path == broken and reason in found.reason
        assert "the whole stem drums of 2 files" in found.reason


@pytest.mark.parametrize("seconds", [2.0, 7.3])
def test_loudness_agrees_with_pyloudnorm(save, stem_of, probe_one, seconds):
    audio_FS = noise(seconds) * np.linspace(0.05, 1, round(seconds * RATE_HZ))[:, None]  # the gate has work to do
    expected = pyloudnorm.Meter(RATE_HZ).integrated_loudness(audio_FS)
    assert probe_one(stem_of(save("a.wav", audio_FS))).loudness_lufs == pytest.approx(expected, abs=0.05)


def test_what_is_too_short_or_silent_has_no_loudness(save, stem_of, probe_one):
    brief = probe_one(stem_of(save("brief.wav", noise(0.005))))
    assert brief.loudness_lufs is None and brief.activity == (True,) and brief.files[0].frames == 240
    nothing = probe_one(stem_of(save("nothing.wav", np.zeros((RATE_HZ, 2)))))
    assert nothing.loudness_lufs is None and nothing.band_limit_hz is None and "silent" in nothing.flags


def test_the_band_limit_is_where_the_power_ends(save, stem_of, probe_one):
    full = probe_one(stem_of(save("full.wav", noise(4))))
    assert full.band_limit_hz == pytest.approx(0.999 * 24_000, rel=0.01) and "band_limited" not in full.flags
    half = probe_one(stem_of(save("half.wav", noise(4, rate_hz=16_000), 16_000)))
    assert half.band_limit_hz == pytest.approx(8_000, rel=0.05) and "band_limited" in half.flags
    seconds = np.arange(4 * RATE_HZ) / RATE_HZ
    tone = probe_one(stem_of(save("tone.wav", 0.3 * np.sin(2 * np.pi * 3_000 * seconds)[:, None])))
    assert tone.band_limit_hz == pytest.approx(3_000, abs=30)


def correlation(one, other):
    return float(np.dot(one.waveform_sketch.astype(np.float64), other.waveform_sketch.astype(np.float64)))


@pytest.mark.parametrize(("share", "is_copy"), [(0.10, True), (0.25, False)])  # correlations of 0.995 and 0.970
def test_copies_are_found_by_their_waveform_whatever_their_gain_rate_and_sign(tmp_path, save, stem_of, share, is_copy):
    one_FS = noise(6, rate_hz=RATE_HZ)
    one_FS = np.apply_along_axis(np.convolve, 0, one_FS, np.hanning(30) / 15, "same")
    other_FS = np.apply_along_axis(np.convolve, 0, noise(6, seed=1), np.hanning(30) / 15, "same")
    mixed_FS = -0.3 * (one_FS + share * other_FS)
    save("one.wav", one_FS)
    save("two.wav", mixed_FS, subtype="PCM_24")
    save("three.wav", other_FS)
    stems = [stem_of(f"{name}.wav", stem_id=name) for name in ("one", "two", "three")]
    found = probe_stems(tmp_path / "corpus", stems, ProbeStore())
    measured = abs(correlation(found[0][1], found[1][1]))
    assert measured == pytest.approx(np.corrcoef(one_FS.mean(1), -mixed_FS.mean(1))[0, 1], abs=0.006)
    marked = mark_copies([stem for stem, _ in found], [probe for _, probe in found])
    assert [any("duplicate_of:one" in stem.flags for stem in marked[1:2]), marked[2].flags] == [
        is_copy,
        found[2][0].flags,
    ]
    assert all(stem.usable_in_context and stem.usable_as_target for stem in marked)  # the plan keeps copies apart


def test_loops_that_differ_in_some_of_their_seconds_are_no_copies(tmp_path, save, stem_of):
    loop_FS = noise(1)
    save("one.wav", np.concatenate([loop_FS] * 4))
    save("two.wav", np.concatenate([loop_FS, loop_FS, loop_FS, -loop_FS]))
    found = probe_stems(tmp_path / "corpus", [stem_of("one.wav"), stem_of("two.wav")], ProbeStore())
    assert correlation(*(probe for _, probe in found)) == pytest.approx(0.5, abs=0.12)


def test_clipping_in_any_second_is_flagged(save, stem_of, probe_one):
    clipped_FS = np.concatenate([noise(1), np.clip(noise(1) * 20, -1, 1), noise(1)])
    assert "clipped" in probe_one(stem_of(save("clipped.wav", clipped_FS))).flags


def test_another_gain_side_or_start_of_known_files_is_heard_anew(tmp_path, save, stem_of):
    save("a.wav", noise(1, channels=1))
    settings = ({}, {"gain_db": -6.0}, {"side": "left"}, {"start_s": 1.0})
    stems = [stem_of(ListedFile(path="a.wav", **setting)) for setting in settings]
    for _ in range(2):  # heard, and remembered
        found = [probe_stems(tmp_path / "corpus", [stem], ProbeStore(tmp_path / "store"))[0][0] for stem in stems]
        assert found[1].peak == pytest.approx(found[0].peak / 2, rel=0.01)
        assert ["mono" in stem.flags for stem in found] == [True, True, False, True]
        assert [stem.activity for stem in found] == [(True,)] * 3 + [(False, True)]


def test_a_copy_of_a_vocal_stem_is_no_target_and_silent_stems_are_no_copies(tmp_path, save, stem_of):
    save("vox.wav", noise(2))
    save("synth.wav", noise(2) * 0.5)
    for name in ("hush", "hushed"):
        save(f"{name}.wav", np.zeros((RATE_HZ if name == "hush" else 2 * RATE_HZ, 2)))
    stems = [
        stem_of("synth.wav", stem_id="synth"),
        stem_of("vox.wav", stem_id="vox", is_vocal=True),
        *(stem_of(f"{name}.wav", stem_id=name) for name in ("hush", "hushed")),
    ]
    found = probe_stems(tmp_path / "corpus", stems, ProbeStore())
    synth, vox, *hushed = mark_copies([stem for stem, _ in found], [probe for _, probe in found])
    assert synth.is_vocal and not synth.usable_as_target and synth.reason == "the same sound as a vocal stem"
    assert "duplicate_of:synth" in vox.flags and not any("duplicate_of" in " ".join(stem.flags) for stem in hushed)


def test_a_second_run_reads_nothing_and_a_third_only_what_changed(tmp_path, save, stem_of, monkeypatch):
    stems = [stem_of(save(f"{name}.wav", noise(1, seed=seed)), stem_id=name) for seed, name in enumerate("abc")]
    heard, read = [], []
    monkeypatch.setattr(probing, "hear", lambda root, files: heard.append(files[0].path) or hear(root, files))
    true_sha = digests.file_sha256
    monkeypatch.setattr(digests, "file_sha256", lambda path: read.append(path.name) or true_sha(path))

    def run():
        heard.clear(), read.clear()
        return [stem for stem, _ in probe_stems(tmp_path / "corpus", stems, ProbeStore(tmp_path / "store"))]

    first = run()
    assert heard == read == ["a.wav", "b.wav", "c.wav"]
    assert run() == first and heard == read == []
    save("b.wav", noise(2, seed=7))
    second = run()
    assert heard == read == ["b.wav"] and second[0] == first[0] and second[1].activity == (True, True)
    shutil.copytree(tmp_path / "corpus", tmp_path / "moved")  # elsewhere the files are read, but none is heard again
    heard.clear()
    moved = probe_stems(tmp_path / "moved", stems, ProbeStore(tmp_path / "store"))
    assert heard == [] and [stem for stem, _ in moved] == second


def test_a_run_that_was_killed_goes_on_where_it_was(tmp_path, save, stem_of, monkeypatch):
    stems = [stem_of(save(f"{name}.wav", noise(1, seed=seed)), stem_id=name) for seed, name in enumerate("abc")]
    heard = []

    def killed(root, files):
        heard.append(files[0].path)
        if len(heard) == 3:
            raise KeyboardInterrupt
        return hear(root, files)

    monkeypatch.setattr(probing, "hear", killed)
    with pytest.raises(KeyboardInterrupt):
        probe_stems(tmp_path / "corpus", stems, ProbeStore(tmp_path / "store"))
    (part,) = (tmp_path / "store").glob("new-*.jsonl")
    part.write_text(part.read_text() + '{"key": "half a li')
    assert len(probe_stems(tmp_path / "corpus", stems, ProbeStore(tmp_path / "store"))) == 3
    assert heard == ["a.wav", "b.wav", "c.wav", "c.wav"]


def test_a_file_that_shrinks_or_changes_while_it_is_read_is_quarantined_and_not_remembered(
    tmp_path, save, stem_of, monkeypatch
):
    stem = stem_of(save("a.wav", noise(3)))
    path = tmp_path / "corpus" / "a.wav"
    whole = path.read_bytes()

    def shrinks(blocks, found):
        for number, item in enumerate(blocks):
            if number == 0:
                os.truncate(path, len(whole) // 2)
            yield item

    with monkeypatch.context() as patch:
        patch.setattr("tasks.listening._noted", shrinks)
        (found,) = probe_stems(tmp_path / "corpus", [stem], ProbeStore(tmp_path / "store"))
    assert isinstance(found, Quarantined) and "changed while it was read" in found.reason
    path.write_bytes(whole)
    (found,) = probe_stems(tmp_path / "corpus", [stem], ProbeStore(tmp_path / "store"))
    assert not isinstance(found, Quarantined)


def test_two_hours_are_heard_in_bounded_memory(tmp_path, stem_of):
    path = tmp_path / "long.wav"
    with soundfile.SoundFile(str(path), "w", RATE_HZ, 1, subtype="PCM_16") as file:
        file.write(np.ones(RATE_HZ, dtype=np.int16) * 3_000)
    seconds = 2 * 3_600
    with path.open("r+b") as file:  # a sparse file: the header promises two hours, the disk holds holes
        size = seconds * RATE_HZ * 2
        file.truncate(44 + size)
        for place, value in ((4, 36 + size), (40, size)):
            file.seek(place)
            file.write(value.to_bytes(4, "little"))
    before = psutil.Process().memory_info().rss
    (found,) = probe_stems(tmp_path, [stem_of("long.wav")], ProbeStore())
    assert psutil.Process().memory_info().rss - before < 60e6  # as 48 kHz stereo it is 2.8 GB
    assert len(found[0].activity) == seconds and found[0].activity[:2] == (True, False)


def test_another_prober_s_findings_are_forgotten(tmp_path, save, stem_of, monkeypatch):
    stem = stem_of(save("a.wav", noise(1)))
    probe_stems(tmp_path / "corpus", [stem], ProbeStore(tmp_path / "store"))
    monkeypatch.setattr(probing, "PROBER_VERSION", 99)
    heard = []
    monkeypatch.setattr(probing, "hear", lambda root, files: heard.append(files) or hear(root, files))
    probe_stems(tmp_path / "corpus", [stem], ProbeStore(tmp_path / "store"))
    assert len(heard) == 1


@pytest.mark.parametrize("activity", [(), (True,), (False,), (True, True, False), (False, True, False, False, True)])
def test_runs_hold_the_activity(activity):
    assert from_runs(to_runs(activity)) == activity
    assert json.loads(json.dumps(to_runs((False, True, True)))) == [1, 2]
