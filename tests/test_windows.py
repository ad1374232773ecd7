import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_manifests.listing import ListedStem
from data_manifests.pairs import Pair, PairPlan, PairRule, split_tracks
from data_manifests.schema import ListedFile, Track
from tasks.audio_bytes import LOUDEST, decode_flac
from tasks.catalogue import build_catalogue
from tasks.probing import ProbeStore, probe_stems
from tasks.shards import read_shard, write_shard
from tasks.walk import list_corpus_folder
from tasks.windows import cut_window, window_key, window_members

SHARED = Path(__file__).parents[2] / "shared" / "data"
WINDOW = 32_768


def catalogue_of(root, **settings):
    return build_catalogue(root, list_corpus_folder(root, "plain"), **{"heldout_fraction": 0.5, "seed": 0, **settings})


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Two songs of constant-level stems: drums 1.2 (in `a` with a gain of 1/4), bass 0.5, pad 0.4 and vox 0.2."""
    root = tmp_path_factory.mktemp("corpus")
    for song in ("a", "b"):
        (root / song).mkdir()
        for name, level in (("drums", 1.2), ("bass", 0.5), ("pad", 0.4), ("vox", 0.2)):
            soundfile.write(root / song / f"{name}.wav", np.full((4 * 48_000, 2), level), 48_000, subtype="FLOAT")
    stems = [
        {"file": "drums.wav", "gain_db": -20 * np.log10(4)},
        *({"file": f"{n}.wav"} for n in ("bass", "pad", "vox")),
    ]
    (root / "a" / "song.json").write_text(json.dumps({"stems": stems, "tags": ["warm"], "split": "train"}))
    return root


@pytest.fixture(scope="module")
def plans(corpus):
    catalogue = catalogue_of(corpus, heldout_fraction=0.5, seed=0)
    rule = PairRule(window_samples=WINDOW)
    return {split: PairPlan(split_tracks(catalogue.tracks, split), rule) for split in ("train", "heldout")}


@pytest.fixture
def cut(corpus, plans):
    def _cut(index, split="train", root=corpus):
        plan = plans[split]
        pair = plan.pair(index)
        return pair, cut_window(root, plan.track(pair.track_id), pair, WINDOW)

    return _cut


def test_context_is_the_sum_of_its_stems_and_gains_are_applied(cut):
    level = {"drums": 0.3, "bass": 0.5, "pad": 0.4, "vox": 0.2}
    for index in range(12):
        pair, sample = cut(index)
        assert sample.target_SN.shape == sample.context_SN.shape == (2, WINDOW)
        assert np.allclose(sample.target_SN / sample.gain, level[pair.target], atol=1e-6)
        assert np.allclose(sample.context_SN / sample.gain, sum(level[name] for name in pair.contexts), atol=1e-6)


def test_one_common_gain_keeps_the_balance_and_prevents_clipping(cut):
    level = {"drums": 1.2, "bass": 0.5, "pad": 0.4, "vox": 0.2}
    scaled = 0
    for index in range(40):
        pair, sample = cut(index, "heldout")
        context = sum(level[name] for name in pair.contexts)
        assert sample.gain == pytest.approx(min(1.0, LOUDEST / max(context, level[pair.target])), rel=1e-5)
        assert np.allclose(sample.context_SN / sample.target_SN, context / level[pair.target], rtol=1e-5)
        assert max(np.abs(audio).max() for audio in (sample.target_SN, sample.context_SN, sample.style_SM)) <= 1.0
        assert sample.record["gain"] == pytest.approx(sample.gain, abs=1e-6) and sample.style_gain == sample.gain
        scaled += sample.gain < 1
    assert scaled > 0


def test_members_are_three_flacs_and_a_record_that_needs_no_catalogue(cut):
    pair, sample = cut(5)
    members = window_members(sample)
    assert sorted(members) == ["__key__", "context.flac", "json", "style.flac", "target.flac"]
    assert members["__key__"] == "train-00000005" == window_key("train", 5)
    assert np.abs(decode_flac(members["target.flac"]) - sample.target_SN).max() <= 0.5 / 32_768 + 1e-7
    assert np.abs(decode_flac(members["style.flac"]) - sample.style_SM).max() <= 0.5 / 32_768 + 1e-7
    record = json.loads(members["json"])
    assert record["target"] == pair.target and record["contexts"] == list(pair.contexts)
    assert record["style_starts_samples"] == list(pair.style_starts_samples) and record["split"] == "train"
    assert record["tags"].endswith("warm") and record["window_samples"] == WINDOW
    assert record["target_level_db"] == pytest.approx(20 * np.log10(sample.target_SN.max()), abs=0.06)


def test_windows_are_cut_where_the_plan_says(tmp_path, corpus, cut):
    ramp = np.linspace(0, 0.9, 4 * 48_000)[:, None].repeat(2, axis=1)
    (tmp_path / "a").mkdir()
    for name in ("drums", "bass", "pad", "vox"):
        soundfile.write(tmp_path / "a" / f"{name}.wav", ramp / 4, 48_000, subtype="FLOAT")
    pair, sample = cut(3, root=tmp_path)
    gain = 0.25 if pair.target == "drums" else 1.0
    expected = ramp[pair.start_samples : pair.start_samples + WINDOW].T / 4 * gain * sample.gain
    assert np.abs(sample.target_SN - expected).max() < 1e-6
    (start,) = pair.style_starts_samples
    assert np.abs(sample.style_SM - ramp[start : start + WINDOW].T / 4 * gain * sample.style_gain).max() < 1e-6


def test_several_style_segments_follow_one_another_in_time(corpus, plans):
    rule = PairRule(window_samples=WINDOW, style_segments=3)
    plan = PairPlan(plans["train"].tracks, rule)
    assert cut_window(corpus, plan.tracks[0], plan.pair(0), WINDOW).style_SM.shape == (2, 3 * WINDOW)


def test_two_cuts_of_a_shard_are_byte_equal_and_read_back(tmp_path, cut):
    for name in ("one", "two"):
        write_shard(tmp_path / f"{name}.tar", (window_members(cut(index)[1]) for index in range(4)))
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    assert [sample["__key__"] for sample in read_shard(tmp_path / "one.tar")] == [
        window_key("train", i) for i in range(4)
    ]


def test_a_stem_of_several_files_is_cut_as_their_sum_on_its_timeline(tmp_path):
    """`keys` is a left file, a right file a quarter of a second later, and a louder one; `bass` accompanies it."""
    seconds = np.arange(4 * 48_000) / 48_000
    sounds = {
        name: 0.1 * np.sin(2 * np.pi * hz * seconds) for name, hz in (("left", 300), ("right", 500), ("both", 700))
    }
    for name, sound in sounds.items():
        soundfile.write(tmp_path / f"{name}.wav", sound, 48_000, subtype="FLOAT")
    soundfile.write(tmp_path / "bass.wav", np.full((4 * 48_000, 2), 0.05), 48_000, subtype="FLOAT")
    files = (
        ListedFile(path="left.wav", side="left"),
        ListedFile(path="right.wav", side="right", start_s=0.25),
        ListedFile(path="both.wav", gain_db=20 * np.log10(2), start_s=-0.5),
    )
    stems = tuple(
        ListedStem(
            id=name, files=of, role="other", is_vocal=False, tags=(), usable_as_target=True, usable_in_context=True,
            reason=None,
        )
        for name, of in (("keys", files), ("bass", (ListedFile(path="bass.wav"),)))
    )  # fmt: skip
    (keys, _), (bass, _) = probe_stems(tmp_path, stems, ProbeStore())
    track = Track(
        id="song",
        group_id="song",
        split="train",
        corpus="plain",
        licence="",
        tags=(),
        frames=192_000,
        stems=(keys, bass),
    )
    pair = Pair(
        index=0,
        track_id="song",
        target="keys",
        contexts=("bass",),
        start_samples=6_000,
        style_starts_samples=(60_000,),
        style_note=None,
        context_gain_db=20 * np.log10(3),
    )
    sample = cut_window(tmp_path, track, pair, WINDOW)
    at_N = np.arange(6_000, 6_000 + WINDOW)
    both_N = 2 * sounds["both"][at_N + 24_000]
    right_N = np.where(at_N >= 12_000, sounds["right"][at_N - 12_000], 0.0)  # zeros before its beginning
    assert np.abs(sample.target_SN - [sounds["left"][at_N] + both_N, right_N + both_N]).max() < 1e-6
    assert np.allclose(sample.context_SN, 0.15, atol=1e-6)  # the plan's gain counts for the context


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is not there")
def test_real_songs_give_audible_pairs_that_do_not_clip():
    catalogue = build_catalogue(
        SHARED / "songs", list_corpus_folder(SHARED / "songs", "plain"), heldout_fraction=0.25, seed=0
    )
    rule = PairRule(window_samples=131_072)
    plan = PairPlan(split_tracks(catalogue.tracks, "train"), rule)
    tracks = {track.id: track for track in plan.tracks}
    for index in range(8):
        pair = plan.pair(index)
        sample = cut_window(SHARED / "songs", tracks[pair.track_id], pair, rule.window_samples)
        assert pair.style_note is None
        for audio in (sample.target_SN, sample.context_SN, sample.style_SM):
            assert np.sqrt(np.mean(audio**2)) > 1e-3 and np.abs(audio).max() <= LOUDEST + 1e-6
