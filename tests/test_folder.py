import json

import pytest

from data_manifests.folder import VOCAL_REASON, list_folder
from data_manifests.splits import assign_splits


@pytest.fixture
def listed():
    """The listing of files given as {path: text, or None for audio and others}."""

    def _listed(*paths, **texts):
        named = {name.replace("__", "/").replace("_dot_", "."): text for name, text in texts.items()}
        return list_folder([*paths, *named], lambda path: named[path])

    return _listed


@pytest.fixture
def song(listed):
    """A song of drums, bass and mix.flac under the given song.json: the track, and what is left out."""

    def _song(record, **texts):
        text = record if isinstance(record, str) else json.dumps(record)
        listing = listed("a/drums.flac", "a/bass.flac", "a/mix.flac", a__song_dot_json=text, **texts)
        return (listing.tracks[0] if listing.tracks else None), {item.path: item.reason for item in listing.left_out}

    return _song


def test_each_folder_with_audio_is_a_song_at_any_depth(listed):
    listing = listed("one/kick.wav", "one/vox.wav", "artist/album/two/bass.flac", "artist/album/two/pad.flac")
    assert [track.id for track in listing.tracks] == ["artist/album/two", "one"]
    assert [stem.files[0].path for stem in listing.tracks[1].stems] == ["one/kick.wav", "one/vox.wav"]


def test_a_folder_that_itself_holds_audio_is_one_song(listed):
    listing = listed("kick.wav", "bass.wav")
    assert [(track.id, [stem.id for stem in track.stems]) for track in listing.tracks] == [("root", ["bass", "kick"])]


@pytest.mark.parametrize("folder", ["stems", "Stems", "Tracks", "multitrack"])
def test_a_stems_folder_belongs_to_the_song_above_it(listed, folder):
    listing = listed("Track00001/mix.flac", f"Track00001/{folder}/S00.flac", f"Track00001/{folder}/bass.flac")
    (track,) = listing.tracks
    assert track.id == "Track00001" and [stem.id for stem in track.stems] == ["S00", "bass"]
    assert [item.path for item in listing.left_out] == ["Track00001/mix.flac"]


def test_numbered_track_folders_are_songs_of_their_own(listed):
    assert len(listed("Track01/a.wav", "Track02/a.wav", "slakh/Track03/a.wav").tracks) == 3


def test_everything_that_is_no_stem_is_reported_and_hidden_files_are_not(listed):
    listing = listed(
        "a/bass.wav",
        "a/notes.mid",
        "a/film.mp4",
        "a/song.stem.m4a",
        "a/Click.wav",
        "a/.DS_Store",
        "__MACOSX/a/._bass.wav",
        a__tags_dot_txt="",
    )
    reasons = {item.path: item.reason for item in listing.left_out}
    assert set(reasons) == {"a/notes.mid", "a/film.mp4", "a/song.stem.m4a", "a/Click.wav"}
    assert "convert it to FLAC or WAV" in reasons["a/film.mp4"] and "click track" in reasons["a/Click.wav"]


def test_vocals_may_be_context_but_not_target(listed):
    kick, vox = listed("a/kick.wav", "a/vox lead.wav").tracks[0].stems
    assert (kick.usable_as_target, kick.usable_in_context, kick.reason) == (True, True, None)
    assert (vox.usable_as_target, vox.usable_in_context, vox.reason) == (False, True, VOCAL_REASON)


def test_two_files_that_differ_only_in_suffix_or_folder_keep_distinct_ids(listed):
    (track,) = listed("a/kick.wav", "a/kick.flac", "a/stems/kick.wav", "a/rim.ogg.wav").tracks
    ids = [stem.id for stem in track.stems]
    assert len(set(ids)) == 4 and "rim.ogg" in ids


def test_an_empty_corpus_says_what_was_expected(listed):
    with pytest.raises(ValueError, match=r"no audio: found 0 files.*one subfolder per song"):
        listed()
    with pytest.raises(ValueError, match="found 1 files"):
        listed("readme.txt")


def test_song_json_lists_the_stems_and_overrides_every_name(song):
    record = {
        "title": "T", "group": "g", "split": "heldout", "licence": "CC0-1.0", "tags": ["funk", "happy"],
        "labels": {"style": "x"},
        "stems": [
            {"file": "mix.flac", "role": "keys", "is_vocal": False, "tags": ["e-piano"], "gain_db": -6},
            {"file": "drums.flac", "role": "lead", "is_vocal": True},
            {"file": "gone.flac"},
        ],
    }  # fmt: skip
    track, left_out = song(record)
    assert (track.group_id, track.split, track.licence, track.tags) == ("g", "heldout", "CC0-1.0", ("funk", "happy"))
    drums, mix = track.stems
    assert (drums.role, drums.is_vocal, drums.usable_as_target) == ("lead", True, False)
    assert (mix.role, mix.files[0].gain_db, mix.tags, mix.usable_as_target) == ("keys", -6.0, ("e-piano",), True)
    assert left_out == {
        "a/bass.flac": "not among the stems of its song.json",
        "a/gone.flac": "listed in song.json, but not there",
    }


def test_a_song_json_without_stems_leaves_them_to_the_rules(song):
    track, left_out = song({"title": "T", "artist": "A", "genre_words": ["electronic"], "bpm": 124, "key": "G minor"})
    assert [stem.id for stem in track.stems] == ["bass", "drums"] and "a/mix.flac" in left_out
    assert track.group_id == "a - t" and track.tags == ("electronic", "G minor", "124 bpm")


def test_descriptions_and_categories_give_role_vocals_and_tags(song):
    stems = [
        {"file": "drums.flac", "description": "Lead vocals", "category": ["Lead Vocals"]},
        {
            "file": "bass.flac",
            "name": "X",
            "description": 'Synth "bass"',
            "category": ["Music/Basses"],
            "has_bleed": True,
        },
    ]
    track, _ = song({"stems": stems})
    bass, drums = track.stems
    assert drums.is_vocal and not drums.usable_as_target
    assert bass.tags == ("synth bass", "basses") and "bleed" in bass.reason and bass.usable_in_context


def test_tags_txt_gives_tags_to_song_and_stems(song, listed):
    track, _ = song(
        {"tags": ["x"], "stems": [{"file": "bass.flac", "tags": ["y"]}]},
        a__tags_dot_txt="funk, warm\nbass.flac: fat bass",
    )
    assert track.tags == ("funk", "warm") and track.stems[0].tags == ("fat bass",)
    (plain,) = listed("a/01_kick.wav", "a/bass.wav", a__tags_dot_txt="bass.wav: deep, sub").tracks
    assert [stem.tags for stem in plain.stems] == [("kick", "drums"), ("deep", "sub")]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("{", "not JSON"),
        ("[]", "expected an object"),
        ({"stems": {}}, "must be a list of objects"),
        ({"stems": [{"name": "kick"}]}, "no 'file'"),
        ({"stems": [{"file": "bass.flac", "role": "kazoo"}]}, "expected one of drums"),
        ({"stems": [{"file": "bass.flac", "gain_db": float("nan")}]}, "finite number of decibels"),
        ({"stems": [{"file": "bass.flac", "is_vocal": "no"}]}, "true or false"),
        ({"split": "test"}, "expected one of train, heldout"),
        ({"tags": [1]}, "list of words"),
    ],
)
def test_a_song_json_that_makes_no_sense_leaves_its_song_out_with_the_reason(song, record, message):
    track, left_out = song(record)
    assert track is None and set(left_out) == {"a/drums.flac", "a/bass.flac", "a/mix.flac"}
    assert all(reason.startswith("a/song.json: ") and message in reason for reason in left_out.values())


def of_one_corpus(groups):
    return dict.fromkeys(groups, "c")


def test_no_group_is_in_two_splits_and_both_splits_have_one():
    for count in (2, 3, 10, 97):
        groups = [f"song {i}" for i in range(count)]
        splits = assign_splits(of_one_corpus(groups), 0.2, seed=0)
        heldout = sum(split == "heldout" for split in splits.values())
        assert set(splits) == set(groups) and heldout == max(round(0.2 * count), 1)
        assert splits == assign_splits(of_one_corpus(reversed(groups)), 0.2, seed=0)
    assert assign_splits(of_one_corpus(groups), 0.2, seed=1) != splits


def test_every_corpus_gives_its_share_of_held_out_songs():
    corpus_of = {
        f"{corpus}/{song}": corpus for corpus, count in (("a", 4), ("b", 20), ("c", 1)) for song in range(count)
    }
    for seed in range(30):
        splits = assign_splits(corpus_of, 0.5, seed, fixed={"b/0": "train"})
        heldout = [corpus_of[group] for group, split in splits.items() if split == "heldout"]
        assert (heldout.count("a"), heldout.count("b"), heldout.count("c")) == (2, 10, 0)


def test_what_the_corpus_fixes_stays_and_the_rest_fills_up():
    splits = assign_splits(of_one_corpus("abcd"), 0.5, seed=0, fixed={"a": "heldout", "b": "heldout", "z": "train"})
    assert splits == {"a": "heldout", "b": "heldout", "c": "train", "d": "train"}
    crowded = assign_splits(of_one_corpus("abcdef"), 0.2, seed=0, fixed=dict.fromkeys("abc", "heldout"))
    assert [group for group, split in crowded.items() if split == "heldout"] == ["a", "b", "c"]
    assert set(assign_splits(of_one_corpus("ab"), 0.9, seed=0, fixed={"a": "heldout"}).values()) == {
        "train",
        "heldout",
    }


def test_songs_that_cannot_be_split_say_why():
    with pytest.raises(ValueError, match="at least 2"):
        assign_splits({"only": "c"}, 0.2, seed=0)
    with pytest.raises(ValueError, match="none is left for 'heldout'"):
        assign_splits(of_one_corpus("ab"), 0.2, seed=0, fixed={"a": "train", "b": "train"})
    with pytest.raises(ValueError, match="between 0 and 1"):
        assign_splits(of_one_corpus("ab"), 1.0, seed=0)
    with pytest.raises(ValueError, match="unknown split 'test'"):
        assign_splits(of_one_corpus("ab"), 0.5, seed=0, fixed={"a": "test"})
