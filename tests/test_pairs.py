import pickle
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_manifests.pairs import GRID_SAMPLES, PairPlan, PairRange, PairRule, split_tracks, tag_text
from data_manifests.schema import RATE_HZ, Stem, StemFile, Track

RULE = PairRule(window_samples=2 * RATE_HZ, seed=3)


def make_file(path, seconds):
    return StemFile(path=path, channels=2, rate_hz=RATE_HZ, frames=seconds * RATE_HZ, sha256="0" * 64)


def make_stem(name, activity, *, is_vocal=False, role="drums", **changes):
    stem = Stem(
        id=name, files=(make_file(f"{name}.flac", len(activity)),), role="vocal" if is_vocal else role,
        is_vocal=is_vocal, usable_as_target=not is_vocal,
        usable_in_context=True, reason=None, tags=(name,), flags=(), peak=0.5, activity=tuple(activity),
    )  # fmt: skip
    return replace(stem, **changes)


def make_track(name, *stems, seconds=None, split="train"):
    seconds = seconds or max(len(stem.activity) for stem in stems)
    return Track(
        id=name, group_id=name, split=split, corpus="plain", licence="CC0-1.0", tags=("funk",),
        frames=round(seconds * RATE_HZ), stems=stems,
    )  # fmt: skip


def band(name, seconds=12, **roles):
    always = [True] * seconds
    return make_track(name, *(make_stem(stem, always, role=role) for stem, role in roles.items()))


def heard(stem, start, window):
    """Fraction of the window in which the stem is active, summed second by second."""
    first, last = start / RATE_HZ, (start + window) / RATE_HZ
    overlaps = (max(min(last, i + 1) - max(first, i), 0.0) for i, active in enumerate(stem.activity) if active)
    return sum(overlaps) * RATE_HZ / window


@st.composite
def tracks(draw):
    def stem(index, seconds):
        activity = draw(st.lists(st.booleans(), min_size=seconds, max_size=seconds))
        vocal = draw(st.booleans())
        usable = draw(st.booleans()) or draw(st.booleans())
        made = make_stem(f"s{index}", activity, is_vocal=vocal, role=draw(st.sampled_from(["drums", "bass"])))
        return replace(made, usable_in_context=usable, usable_as_target=usable and not vocal)

    def track(index):
        seconds = draw(st.integers(1, 16))
        return make_track(f"t{index}", *(stem(i, seconds) for i in range(draw(st.integers(1, 5)))))

    return tuple(track(i) for i in range(draw(st.integers(1, 4))))


@settings(max_examples=60, deadline=None)
@given(tracks=tracks(), rows=st.lists(st.integers(0, 10**7), min_size=1, max_size=5), segments=st.integers(1, 3))
def test_every_row_obeys_the_rule(tracks, rows, segments):
    rule = replace(RULE, style_segments=segments)
    try:
        plan = PairPlan(tracks, rule)
    except ValueError as error:
        assert "no pair can be drawn" in str(error)
        return
    assert {item.path for item in plan.left_out} < {track.id for track in tracks} or not plan.left_out
    for row in rows:
        pair = plan.pair(row)
        track = next(track for track in tracks if track.id == pair.track_id)
        stems = {stem.id: stem for stem in track.stems}
        target = stems[pair.target]
        assert not target.is_vocal and target.usable_as_target
        assert pair.contexts and pair.target not in pair.contexts and len(set(pair.contexts)) == len(pair.contexts)
        for context in (stems[name] for name in pair.contexts):
            assert context.usable_in_context
            assert heard(context, pair.start_samples, rule.window_samples) >= rule.min_context_activity - 1e-9
        assert heard(target, pair.start_samples, rule.window_samples) >= rule.min_target_activity - 1e-9
        assert len(pair.style_starts_samples) == segments
        for start in (pair.start_samples, *pair.style_starts_samples):
            assert start % GRID_SAMPLES == 0 and 0 <= start <= track.frames - rule.window_samples
        distances = [abs(start - pair.start_samples) for start in pair.style_starts_samples]
        assert min(distances) > 0
        assert (pair.style_note is None) == (min(distances) >= rule.window_samples)
        for start in pair.style_starts_samples:
            assert heard(target, start, rule.window_samples) >= rule.min_style_activity - 1e-9


@settings(max_examples=25, deadline=None)
@given(tracks=tracks())
def test_style_overlaps_the_target_only_where_no_disjoint_window_exists(tracks):
    try:
        pairs = [PairPlan(tracks, RULE).pair(row) for row in range(20)]
    except ValueError:
        return
    by_id = {track.id: track for track in tracks}
    for pair in (pair for pair in pairs if pair.style_note is not None):
        track = by_id[pair.track_id]
        target = next(stem for stem in track.stems if stem.id == pair.target)
        starts = range(0, track.frames - RULE.window_samples + 1, GRID_SAMPLES)
        styles = [s for s in starts if heard(target, s, RULE.window_samples) >= RULE.min_style_activity]
        assert all(abs(s - pair.start_samples) < RULE.window_samples for s in styles)
        assert "shared" in pair.style_note


def test_a_stem_of_24_seconds_always_finds_a_disjoint_style_for_the_canonical_window():
    plan = PairPlan((band("a", 24, drums="drums", bass="bass"),), PairRule(window_samples=491_520))
    pairs = [plan.pair(row) for row in range(200)]
    assert all(pair.style_note is None for pair in pairs)
    assert len({pair.start_samples for pair in pairs}) > 80


def test_a_row_does_not_depend_on_how_many_are_asked_for_nor_on_their_order():
    plan = PairPlan((band("a", drums="drums", bass="bass"), band("b", keys="keys", pad="pad", lead="lead")), RULE)
    rows = [plan.pair(i) for i in range(50)]
    fresh = PairPlan(plan.tracks, RULE)
    assert [fresh.pair(i) for i in reversed(range(50))] == rows[::-1]
    assert pickle.loads(pickle.dumps(plan)).pair(10**9) == fresh.pair(10**9)
    assert PairPlan(plan.tracks, replace(RULE, seed=4)).pair(0) != rows[0]


def test_a_row_is_the_same_in_another_process_with_another_hash_seed(tmp_path):
    plan = PairPlan((band("a", drums="drums", bass="bass"), band("b", keys="keys", pad="pad")), RULE)
    (tmp_path / "plan").write_bytes(pickle.dumps((plan.tracks, plan.rule)))
    code = (
        "import pickle, sys; from data_manifests.pairs import PairPlan;"
        "plan = PairPlan(*pickle.load(open(sys.argv[1], 'rb'))); print([plan.pair(i) for i in range(30)])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "plan")],
            check=True,
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert outputs == {str([plan.pair(i) for i in range(30)])}


def test_rows_go_round_songs_evenly_and_round_roles_within_a_song():
    always = [True] * 12
    drum_heavy = make_track(
        "a", *(make_stem(f"drum{i}", always) for i in range(6)), make_stem("bass", always, role="bass")
    )
    plan = PairPlan((drum_heavy, band("b", keys="keys", pad="pad"), band("c", keys="keys", bass="bass")), RULE)
    pairs = [plan.pair(i) for i in range(120)]
    assert Counter(pair.track_id for pair in pairs) == {"a": 40, "b": 40, "c": 40}
    of_a = Counter(pair.target for pair in pairs if pair.track_id == "a")
    assert of_a["bass"] == 20 and all(3 <= of_a[f"drum{i}"] <= 4 for i in range(6))
    assert all(Counter(pair.track_id for pair in pairs[i : i + 3]).most_common()[0][1] == 1 for i in range(0, 120, 3))


def test_no_target_window_returns_before_all_of_its_starts_are_used():
    track = band("a", 6, drums="drums", bass="bass")
    plan = PairPlan((track,), RULE)
    pairs = [plan.pair(i) for i in range(2 * 370)]
    assert max(Counter((pair.target, pair.start_samples) for pair in pairs).values()) == 1
    starts = sorted(pair.start_samples for pair in pairs[:20])
    assert starts[0] < RATE_HZ and starts[-1] > 3 * RATE_HZ


def test_contexts_are_of_every_size_and_only_of_what_is_heard():
    always, never = [True] * 12, [False] * 12
    stems = [make_stem(name, always) for name in "abcd"] + [
        make_stem("silent", never),
        make_stem("vox", always, is_vocal=True),
    ]
    plan = PairPlan((make_track("t", *stems),), RULE)
    pairs = [plan.pair(i) for i in range(400)]
    sizes = Counter(len(pair.contexts) for pair in pairs)
    assert set(sizes) == {1, 2, 3, 4} and min(sizes.values()) > 60
    assert {name for pair in pairs for name in pair.contexts} == {"a", "b", "c", "d", "vox"}
    assert {pair.target for pair in pairs} == set("abcd")


def test_several_style_segments_keep_apart_where_there_is_room():
    plan = PairPlan((band("a", 40, drums="drums", bass="bass"),), replace(RULE, style_segments=3))
    for pair in (plan.pair(i) for i in range(30)):
        assert len(set(pair.style_starts_samples)) == 3


def test_a_track_without_room_for_two_windows_is_left_out_and_said_so():
    short = make_track("short", make_stem("a", [True] * 2), make_stem("b", [True] * 2))
    lonely = make_track("lonely", make_stem("a", [True] * 9), make_stem("b", [False] * 9))
    voices = make_track("voices", make_stem("v", [True] * 9, is_vocal=True), make_stem("w", [True] * 9, is_vocal=True))
    plan = PairPlan((short, lonely, voices, band("good", drums="drums", bass="bass")), RULE)
    assert {plan.pair(i).track_id for i in range(10)} == {"good"}
    reasons = {item.path: item.reason for item in plan.left_out}
    assert "2.00 s long: too short for two different windows of 2.00 s" in reasons["short"]
    assert "beside another stem" in reasons["lonely"] and "no stem is usable as a target" in reasons["voices"]


def test_a_plan_that_can_give_no_row_says_what_it_needs():
    short = make_track("short", make_stem("a", [True]), make_stem("b", [True]))
    with pytest.raises(ValueError, match=r"short: 1\.00 s long.*Expected a track of more than 2\.00 s"):
        PairPlan((short,), RULE)
    with pytest.raises(ValueError, match="no tracks"):
        PairPlan((), RULE)
    good = band("a", drums="drums", bass="bass")
    with pytest.raises(ValueError, match="of one split"):
        PairPlan((good, replace(good, split="heldout")), RULE)
    with pytest.raises(ValueError, match="counted from 0"):
        PairPlan((good,), RULE).pair(-1)


def test_plans_of_two_splits_share_no_track():
    corpus = tuple(
        replace(band(f"t{i}", drums="drums", bass="bass"), split="heldout" if i % 3 == 0 else "train") for i in range(9)
    )
    seen = {
        split: {PairPlan(split_tracks(corpus, split), RULE).pair(i).track_id for i in range(60)}
        for split in ("train", "heldout")
    }
    assert len(seen["train"]) == 6 and len(seen["heldout"]) == 3 and not seen["train"] & seen["heldout"]


@pytest.mark.parametrize(
    "changes",
    [{"window_samples": 0}, {"style_segments": 0}, {"min_target_activity": 0.0}, {"min_context_activity": 1.5}],
)
def test_a_rule_outside_its_range_is_refused(changes):
    with pytest.raises(ValueError, match="expected"):
        replace(RULE, **changes)


def test_a_range_is_an_address_within_a_split():
    assert PairRange(split="train", first=0, stop=4).stop == 4
    for wrong in ({"split": "test", "first": 0, "stop": 1}, {"split": "train", "first": 2, "stop": 2}):
        with pytest.raises(ValueError, match="expected"):
            PairRange(**wrong)


def test_tag_text_joins_the_stems_and_the_songs_tags_once():
    stem = make_stem("kick", [True], tags=("deep kick", "funk"))
    assert tag_text(make_track("t", stem), stem) == "deep kick, funk"
