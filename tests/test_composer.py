"""What the composer promises: songs are pure functions, players follow one plan, words give no style away."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from data_manifests.composer import (
    EmbeddedCorpus,
    compose,
    compose_hard_negative,
    plan_song,
    song_record,
    split_of,
    style_of,
    write_part,
)
from data_manifests.drum_kit import KITS, PAN
from data_manifests.harmony import chord_classes, lead_voices
from data_manifests.instruments import INSTRUMENTS
from data_manifests.players import PERCUSSION_KEYS, swung
from data_manifests.schema import ROLES, SPLITS
from data_manifests.styles import STYLES
from data_manifests.tags import INSTRUMENT_WORDS, human_tags, tempo_words


@pytest.fixture(scope="module")
def corpus():
    return EmbeddedCorpus(songs=24, seconds=24.0, seed=3, heldout=7)


@pytest.fixture(scope="module")
def songs(corpus):
    return [compose(corpus, index) for index in range(corpus.songs)]


def test_triads_and_sevenths_stack_thirds_of_the_scale():
    assert chord_classes(0, "major", 0, 3) == (0, 4, 7)
    assert chord_classes(0, "major", 4, 4) == (7, 11, 2, 5)
    assert chord_classes(9, "minor", 0, 3) == (9, 0, 4)


def test_triplet_swing_puts_the_offbeat_at_two_thirds_and_straight_swing_moves_nothing():
    assert swung(2, swing=2 / 3, unit=8) == pytest.approx(4 * 2 / 3)
    assert swung(4, swing=2 / 3, unit=8) == 4
    assert [swung(step, swing=0.5, unit=16) for step in range(16)] == list(range(16))


def test_voice_leading_keeps_the_register_and_moves_little():
    voicing = lead_voices(chord_classes(0, "major", 0, 3), (), 60)
    for degree in (4, 5, 3, 1, 6, 2) * 4:
        following = lead_voices(chord_classes(0, "major", degree, 3), voicing, 60)
        assert abs(np.mean(following) - np.mean(voicing)) < 6
        assert abs(np.mean(following) - 60) < 6
        assert {pitch % 12 for pitch in following} == set(chord_classes(0, "major", degree, 3))
        voicing = following


def test_a_song_is_a_function_of_seed_and_index(corpus, songs):
    assert compose(corpus, 5) == songs[5]
    assert compose(replace(corpus, seed=4), 5).parts != songs[5].parts


def test_a_larger_corpus_changes_nothing_but_the_split(corpus, songs):
    grown = compose(replace(corpus, songs=240), 20)
    assert replace(grown, split=songs[20].split) == songs[20]
    assert (grown.split, songs[20].split) == ("train", "heldout")


def test_another_player_leaves_the_parts_of_the_others_alone(corpus):
    plan = plan_song(corpus, 0)
    alone = replace(plan, roles=("bass",))
    assert write_part(alone, "bass") == write_part(plan, "bass")


@pytest.mark.parametrize(("count", "heldout"), [(24, 7), (96, 20), (13, 1), (48, 12)])
def test_held_out_songs_are_spread_evenly_over_styles(count, heldout):
    corpus = EmbeddedCorpus(songs=count, seconds=24.0, seed=0, heldout=heldout)
    styles = Counter(style_of(corpus, index).name for index in range(count) if split_of(corpus, index) == "heldout")
    counts = [styles.get(style.name, 0) for style in STYLES]
    assert sum(counts) == heldout
    assert max(counts) - min(counts) <= 1
    assert {split_of(corpus, index) for index in range(count)} == set(SPLITS)


def test_every_instrument_mood_and_tempo_occurs_in_several_styles():
    instruments = Counter(name for style in STYLES for names in style.instruments.values() for name in set(names))
    moods = Counter(mood for style in STYLES for mood in set(style.moods))
    tempi = Counter(word for style in STYLES for word in {tempo_words(bpm)[0] for bpm in style.bpm})
    for counts in (instruments, moods, tempi):
        assert min(counts.values()) >= 2, counts
    assert set(tempi) == {"slow", "mid-tempo", "fast"}
    assert len(STYLES) >= 8


def test_every_figure_fills_whole_bars_with_symbols_that_its_player_knows():
    for style in STYLES:
        bar_steps = 4 * style.beats_per_bar
        alphabets = [(figure.steps, "1358a-.") for figure in style.bass if figure.steps != "kick"]
        alphabets += [(figure.steps, "Ccm1234-.") for figure in (*style.guitar, *style.keys)]
        alphabets += [(line, "Xxgo.") for groove in style.grooves for line in groove.lines.values()]
        for steps, alphabet in alphabets:
            compact = steps.replace(" ", "")
            assert len(compact) % bar_steps == 0 and set(compact) <= set(alphabet), (style.name, steps)


def test_whatever_a_style_asks_for_can_be_played_and_named():
    for style in STYLES:
        for role, names in style.instruments.items():
            playable = KITS if role == "drums" else INSTRUMENTS
            assert role in ROLES and set(names) <= set(playable) and set(names) <= set(INSTRUMENT_WORDS)
        assert {piece for groove in style.grooves for piece in groove.lines} <= set(PERCUSSION_KEYS)
    assert set(PERCUSSION_KEYS.values()) <= set(PAN)


def test_songs_have_five_to_seven_players_and_only_voices_count_as_vocal(songs):
    for song in songs:
        roles = [part.role for part in song.parts]
        assert 5 <= len(roles) <= 7 and roles[:2] == ["drums", "bass"]
        assert {part.role for part in song.parts if part.is_vocal} <= {"vocal"}
        assert len(set(roles)) == len(roles) and all(part.notes for part in song.parts)


def test_every_player_enters_twice_and_rests_in_between(songs):
    for song in songs:
        for part in song.parts:
            before = (False, *part.active_sections[:-1])
            entries = sum(now and not then for then, now in zip(before, part.active_sections, strict=True))
            assert entries >= 2 and not all(part.active_sections), (song.id, part.id)


def test_nobody_plays_in_a_section_of_rest(songs):
    for song in songs:
        for part in song.parts:
            for note in part.notes:
                bar = int((note.start_s + 0.05) / song.plan.bar_s)
                assert part.active_sections[song.plan.section_of(bar)], (song.id, part.id, note)


def test_bass_opens_most_bars_on_the_root_of_the_chord(songs):
    on_root = []
    for song in songs:
        bass = next(part for part in song.parts if part.role == "bass")
        for bar, degree in enumerate(song.plan.degrees):
            root = chord_classes(song.plan.tonic, song.plan.style.mode, degree, 1)[0]
            on_root += [
                note.pitch % 12 == root for note in bass.notes if abs(note.start_s - bar * song.plan.bar_s) < 0.03
            ]
    assert len(on_root) > 100 and np.mean(on_root) > 0.9


def test_human_timing_is_off_by_about_six_milliseconds(songs):
    errors = []
    for song in songs:
        if song.plan.style.swing == 0.5:
            step_s = 15.0 / song.plan.bpm
            starts = np.array([note.start_s for note in song.parts[0].notes if note.start_s > 0.1])
            errors.append(starts - np.round(starts / step_s) * step_s)
    assert np.std(np.concatenate(errors)) == pytest.approx(0.006, rel=0.1)


def test_about_a_tenth_of_the_tags_is_missing_and_none_of_the_lists_is_empty():
    rng = np.random.default_rng(0)
    wishes = [(("one",), 1.0), (("two",), 1.0), (("three",), 1.0)]
    lists = [human_tags(wishes, rng) for _ in range(2000)]
    assert min(map(len, lists)) >= 1
    assert np.mean([len(tags) for tags in lists]) == pytest.approx(2.7, abs=0.05)
    assert len({tuple(map(str.lower, tags)) for tags in lists if len(tags) == 3}) >= 6, "all orders occur"


def test_the_record_is_json_and_keeps_its_labels_apart_from_its_tags(songs):
    for song in songs:
        record = json.loads(json.dumps(song_record(song)))
        assert record["group"] == song.id and record["split"] in SPLITS and record["licence"] == "CC0-1.0"
        assert [stem["file"] for stem in record["stems"]] == [f"{part.id}.flac" for part in song.parts]
        assert all(stem["tags"] and "instrument" not in stem for stem in record["stems"])
        assert set(record["labels"]["stems"]) == {part.id for part in song.parts}


@pytest.mark.parametrize(
    "broken",
    [{"heldout": 24}, {"heldout": -1}, {"songs": 0, "heldout": 0}, {"seconds": 1.0}, {"seconds": float("nan")}],
)
def test_an_impossible_corpus_is_refused(corpus, broken):
    with pytest.raises(ValueError, match="expected"):
        replace(corpus, **broken)


def test_a_song_beyond_the_corpus_is_refused(corpus):
    with pytest.raises(ValueError, match="song 24 of a corpus of 24"):
        compose(corpus, 24)


def test_a_hard_negative_shares_style_key_and_tempo_and_no_bar_of_music() -> None:
    corpus = EmbeddedCorpus(songs=12, seconds=16.0, seed=0, heldout=3)
    for index in range(corpus.songs):
        song, hard = compose(corpus, index), compose_hard_negative(corpus, index)
        assert (hard.plan.style, hard.plan.tonic, hard.split) == (song.plan.style, song.plan.tonic, song.split)
        assert abs(hard.plan.bpm - song.plan.bpm) <= 3.0
        assert hard.id != song.id and hard.plan.motif != song.plan.motif
        assert hard == compose_hard_negative(corpus, index)
