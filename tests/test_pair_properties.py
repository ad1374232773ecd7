import pickle
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_manifests.pair_rule import AllHeard, AnyOtherStyle, DisjointStyle, EachWithProbability, Hop, RandomStarts
from data_manifests.pairs import GRID_SAMPLES, PairPlan, PairRule
from data_manifests.possible_starts import possible_starts
from data_manifests.schema import RATE_HZ, Stem, StemFile, Track
from data_manifests.splits import assign_splits
from data_manifests.stem_table import stem_table

RULE = PairRule(window_samples=110_400, seed=3)  # 2.3 s: no whole number of seconds


def make_stem(name, activity, *, is_vocal=False, role="drums", **changes):
    file = StemFile(path=f"{name}.flac", channels=2, rate_hz=RATE_HZ, frames=len(activity) * RATE_HZ, sha256="0" * 64)
    stem = Stem(
        id=name, files=(file,), role=role, is_vocal=is_vocal, usable_as_target=not is_vocal, usable_in_context=True,
        reason=None, tags=(), flags=(), peak=0.5, activity=tuple(activity),
    )  # fmt: skip
    return replace(stem, **changes)


def make_track(name, *stems, frames=None, corpus="plain", **changes):
    frames = frames or max(len(stem.activity) for stem in stems) * RATE_HZ
    track = Track(
        id=name, group_id=name, split="train", corpus=corpus, licence="CC0-1.0", tags=(), frames=frames, stems=stems
    )  # fmt: skip
    return replace(track, **changes)


def trio(name, seconds=12, **changes):
    always = [True] * seconds
    return make_track(name, *(make_stem(stem, always, role=stem) for stem in ("drums", "bass", "keys")), **changes)


@st.composite
def made_tracks(draw):
    def stem(index, seconds):
        activity = draw(st.lists(st.booleans(), min_size=seconds, max_size=seconds))
        flags = tuple(f"duplicate_of:s{draw(st.integers(0, 4))}" for _ in range(draw(st.integers(0, 4)) // 4))
        vocal, target, context = draw(st.integers(0, 3)) == 0, draw(st.integers(0, 3)) > 0, draw(st.integers(0, 3)) > 0
        role = draw(st.sampled_from(["drums", "bass"]))
        return make_stem(
            f"s{index}", activity, is_vocal=vocal, role=role, flags=flags,
            usable_as_target=target and not vocal, usable_in_context=context,
        )  # fmt: skip

    def track(index):
        seconds = draw(st.integers(2, 12))
        stems = [stem(i, seconds) for i in range(draw(st.integers(2, 5)))]
        frames = seconds * RATE_HZ - draw(st.integers(0, RATE_HZ - 1))
        return make_track(f"t{index}", *stems, frames=frames, corpus=draw(st.sampled_from(["a", "b"])))

    return tuple(track(i) for i in range(draw(st.integers(1, 3))))


@st.composite
def made_rules(draw):
    return replace(
        RULE,
        window_samples=draw(st.sampled_from([48_000, 96_000, 110_400, 131_072])),
        style_segments=draw(st.integers(1, 3)),
        start_rule=draw(st.sampled_from([Hop(), Hop(samples=30_000), RandomStarts()])),
        context_rule=draw(st.sampled_from([RULE.context_rule, EachWithProbability(probability=0.3), AllHeard()])),
        style_rule=draw(st.sampled_from([DisjointStyle(), DisjointStyle(gap_samples=RATE_HZ), AnyOtherStyle()])),
        min_target_activity=draw(st.sampled_from([0.3, 0.5, 1.0])),
        context_gain_db=draw(st.sampled_from([(0.0, 0.0), (-6.0, 3.0)])),
    )


def plan_or_none(tracks, rule):
    try:
        return PairPlan(tracks, rule)
    except ValueError as error:
        assert "no pair can be drawn" in str(error)
        return None


def heard(stem, start, rule):
    """For how many samples of the window the stem is heard, second by second."""
    end, seconds = start + rule.window_samples, enumerate(stem.activity)
    return sum(max(min(end, (i + 1) * RATE_HZ) - max(start, i * RATE_HZ), 0) for i, active in seconds if active)


def copies(track):
    """Stem id -> the ids of all its copies and itself."""
    same = {stem.id: {stem.id} for stem in track.stems}
    for stem in track.stems:
        for flag in stem.flags:
            other = flag.removeprefix("duplicate_of:")
            if other in same:
                joined = same[stem.id] | same[other]
                same |= dict.fromkeys(joined, joined)
    return same


def starts_by_hand(track, target, rule):
    """The target's starts and its style's, tried one by one; and whether the rule's distance can be kept."""
    same, stems = copies(track), {stem.id: stem for stem in track.stems}
    is_target = target.usable_as_target and not any(stems[name].is_vocal for name in same[target.id])
    others = [stem for stem in track.stems if stem.usable_in_context and stem.id not in same[target.id]]
    last = track.frames - rule.window_samples
    if not is_target or last < GRID_SAMPLES:
        return set(), set(), False

    def enough(stem, start, fraction):
        return heard(stem, start, rule) >= fraction * rule.window_samples - 1e-6

    style = {s for s in range(0, last + 1, GRID_SAMPLES) if enough(target, s, rule.min_style_activity)}
    found = {
        s
        for s in range(0, last + 1, rule.hop_samples)
        if enough(target, s, rule.min_target_activity)
        and any(enough(other, s, rule.min_context_activity) for other in others)
    }
    apart = {s for s in found if any(abs(s - other) >= rule.style_distance_samples for other in style)}
    return apart or {s for s in found if style - {s}}, style, bool(apart)


@settings(max_examples=30, deadline=None)
@given(tracks=made_tracks(), rule=made_rules())
def test_the_possible_starts_are_those_found_by_trying_every_one(tracks, rule):
    tracks = tracks[:1]
    starts = possible_starts(tracks, stem_table(tracks), rule)
    for row, stem in enumerate(tracks[0].stems):
        target, style, apart = starts_by_hand(tracks[0], stem, rule)
        for sets, step, expected in ((starts.target, rule.hop_samples, target), (starts.style, GRID_SAMPLES, style)):
            places = np.arange(int(sets.size(np.array([row]))[0]))
            assert (sets.member(np.full_like(places, row), places) * step).tolist() == sorted(expected)
        assert starts.apart_S[row] == apart


@settings(max_examples=80, deadline=None)
@given(tracks=made_tracks(), rule=made_rules(), first=st.integers(0, 10**9))
def test_every_row_of_every_rule_is_a_sound_pair(tracks, rule, first):
    plan = plan_or_none(tracks, rule)
    for pair in plan.pairs(first, first + 4) if plan else ():
        track = plan.track(pair.track_id)
        stems, same = {stem.id: stem for stem in track.stems}, copies(track)
        target = stems[pair.target]
        assert not any(stems[name].is_vocal for name in same[target.id]) and target.usable_as_target
        assert heard(target, pair.start_samples, rule) >= rule.min_target_activity * rule.window_samples - 1e-6
        assert pair.start_samples % rule.hop_samples == 0
        assert pair.contexts and not set(pair.contexts) & same[target.id]
        assert len({frozenset(same[name]) for name in pair.contexts}) == len(pair.contexts)
        for context in (stems[name] for name in pair.contexts):
            assert context.usable_in_context
            assert heard(context, pair.start_samples, rule) >= rule.min_context_activity * rule.window_samples - 1e-6
        for start in (pair.start_samples, *pair.style_starts_samples):
            assert 0 <= start <= track.frames - rule.window_samples
        for start in pair.style_starts_samples:
            assert start != pair.start_samples
            assert heard(target, start, rule) >= rule.min_style_activity * rule.window_samples - 1e-6
        nearest = min(abs(start - pair.start_samples) for start in pair.style_starts_samples)
        assert (pair.style_note is None) == (nearest >= rule.window_samples)
        _, _, apart = starts_by_hand(track, target, rule)
        assert nearest >= rule.style_distance_samples or not apart
        low_db, high_db = rule.context_gain_db
        assert low_db <= pair.context_gain_db <= high_db


@settings(max_examples=25, deadline=None)
@given(tracks=made_tracks(), rule=made_rules(), cuts=st.sets(st.integers(1, 39), max_size=3))
def test_columns_hold_the_same_rows_as_pairs_however_the_range_is_split(tracks, rule, cuts):
    plan = plan_or_none(tracks, rule)
    if plan is None:
        return
    rows = plan.rows(0, 40)
    bounds = [0, *sorted(cuts), 40]
    parts = [plan.rows(first, stop) for first, stop in pairwise(bounds)]
    for name in ("index_N", "track_N", "target_N", "start_samples_N", "style_starts_samples_NK", "context_M"):
        assert np.concatenate([getattr(part, name) for part in parts]).tolist() == getattr(rows, name).tolist()
    for i, pair in enumerate(plan.pairs(0, 40)):
        assert pair == plan.pair(i)
        track = plan.tracks[rows.track_N[i]]
        contexts = rows.context_M[rows.context_first[i] : rows.context_first[i + 1]]
        assert (pair.index, pair.track_id, pair.target) == (i, track.id, track.stems[rows.target_N[i]].id)
        assert set(pair.contexts) == {track.stems[stem].id for stem in contexts}
        assert (pair.start_samples, list(pair.style_starts_samples), pair.context_gain_db) == (
            rows.start_samples_N[i],
            rows.style_starts_samples_NK[i].tolist(),
            rows.context_gain_db_N[i],
        )
        assert (pair.style_note is None) == (rows.style_shared_N[i] == 0)


def test_a_range_longer_than_a_block_is_the_same_rows(monkeypatch):
    plan = PairPlan((trio("a"), trio("b")), RULE)
    whole = plan.rows(5, 200)
    monkeypatch.setattr("data_manifests.pairs.BLOCK_ROWS", 16)
    for one, other in zip(whole, plan.rows(5, 200), strict=True):
        assert one.tolist() == other.tolist()


def test_rows_are_the_same_in_other_processes_with_other_hash_seeds(tmp_path):
    rule = replace(RULE, weights=(("x", 3.0), ("y", 1.0)), context_rule=EachWithProbability(), style_segments=2)
    tracks = (trio("a", corpus="x"), trio("b", corpus="y"), trio("c", corpus="y"))
    (tmp_path / "plan").write_bytes(pickle.dumps((tracks, rule)))
    code = (
        "import pickle, sys; from data_manifests.pairs import PairPlan;"
        "plan = PairPlan(*pickle.load(open(sys.argv[1], 'rb'))); print([a.tolist() for a in plan.rows(7, 60)])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "plan")]
    outputs = {
        subprocess.run(command, check=True, env={"PYTHONHASHSEED": seed}, capture_output=True, text=True).stdout.strip()
        for seed in ("1", "2")
    }
    assert outputs == {str([column.tolist() for column in PairPlan(tracks, rule).rows(7, 60)])}


def test_copies_are_no_context_for_each_other_in_either_direction_nor_over_several_steps():
    always = [True] * 12
    stems = [
        make_stem("kick", always),
        make_stem("kick close", always, flags=("duplicate_of:kick",)),
        make_stem("kick far", always, flags=("mono", "same_as:kick close")),
        make_stem("bass", always, role="bass"),
    ]
    pairs = list(PairPlan((make_track("t", *stems),), RULE).pairs(0, 200))
    assert {pair.contexts for pair in pairs if pair.target.startswith("kick")} == {("bass",)}
    assert {pair.contexts for pair in pairs if pair.target == "bass"} == {("kick",)}
    only = make_track("only copies", *stems[:3])
    with pytest.raises(ValueError, match="beside another stem"):
        PairPlan((only,), RULE)


def test_a_copy_of_a_voice_is_no_target():
    always = [True] * 12
    stems = [
        make_stem("vox", always, is_vocal=True),
        make_stem("synth", always, flags=("duplicate_of:vox",)),
        make_stem("bass", always),
    ]
    plan = PairPlan((make_track("t", *stems),), RULE)
    assert {pair.target for pair in plan.pairs(0, 30)} == {"bass"}


def test_weights_share_the_rows_among_corpora():
    tracks = (*(trio(f"a{i}", corpus="a") for i in range(9)), trio("b", corpus="b"), trio("c", corpus="c"))
    equal = Counter(pair.track_id[0] for pair in PairPlan(tracks, RULE).pairs(0, 110))
    assert equal == {"a": 90, "b": 10, "c": 10}
    plan = PairPlan(tracks, replace(RULE, weights=(("b", 3.0), ("a", 1.0))))
    assert Counter(pair.track_id[0] for pair in plan.pairs(0, 120)) == {"b": 90, "a": 30}
    assert plan.left_out[0].path == "c" and "no weight" in plan.left_out[0].reason
    swapped = PairPlan(tracks, replace(RULE, weights=(("a", 0.25), ("b", 0.75))))
    assert list(swapped.pairs(0, 20)) == list(plan.pairs(0, 20))
    with pytest.raises(ValueError, match=r"'musdb'.*are 'a', 'b', 'c'"):
        PairPlan(tracks, replace(RULE, weights=(("musdb", 1.0),)))


def test_no_group_is_in_the_plans_of_two_splits():
    groups = [f"g{i // 2}" for i in range(20)]
    split_of = assign_splits(dict.fromkeys(groups, "c"), 0.3, seed=1)
    tracks = [trio(f"t{i}", group_id=group, split=split_of[group]) for i, group in enumerate(groups)]
    seen = {}
    for split in ("train", "heldout"):
        plan = PairPlan(tuple(track for track in tracks if track.split == split), RULE)
        seen[split] = {plan.track(pair.track_id).group_id for pair in plan.pairs(0, 100)}
    assert seen["train"] and seen["heldout"] and not seen["train"] & seen["heldout"]
    assert len(seen["train"] | seen["heldout"]) == 10


def test_context_rules_choose_as_they_say():
    always = [True] * 12
    track = make_track("t", *(make_stem(name, always) for name in "abcdef"))

    def sizes(rule):
        return Counter(len(pair.contexts) for pair in PairPlan((track,), rule).pairs(0, 2_000))

    uniform = sizes(RULE)
    assert set(uniform) == {1, 2, 3, 4, 5} and max(uniform.values()) - min(uniform.values()) < 120
    assert sizes(replace(RULE, context_rule=AllHeard())) == {5: 2_000}
    coins = sizes(replace(RULE, context_rule=EachWithProbability(probability=0.5)))
    assert coins[2] + coins[3] == pytest.approx(2_000 * 20 / 32, abs=120) and coins[1] == pytest.approx(
        2_000 * 6 / 32, abs=80
    )


def test_hops_of_a_window_never_overlap_and_random_starts_may_return():
    track = trio("t", seconds=24)
    hop = PairPlan((track,), replace(RULE, window_samples=2 * RATE_HZ, start_rule=Hop(samples=2 * RATE_HZ)))
    starts = {pair.start_samples for pair in hop.pairs(0, 200)}
    assert starts == set(range(0, 23 * RATE_HZ, 2 * RATE_HZ))
    free = PairPlan((track,), replace(RULE, start_rule=RandomStarts()))
    pairs = [(pair.target, pair.start_samples) for pair in free.pairs(0, 1_000)]
    assert max(Counter(pairs).values()) > 1 and len({start for _, start in pairs}) > 500


def test_two_tracks_of_one_id_are_refused():
    with pytest.raises(ValueError, match="two tracks have the id 'a'"):
        PairPlan((trio("a"), trio("a")), RULE)


@pytest.mark.parametrize(
    "changes",
    [
        {"start_rule": Hop(samples=0)},
        {"context_rule": EachWithProbability(probability=0.0)},
        {"style_rule": DisjointStyle(gap_samples=-1)},
        {"context_gain_db": (3.0, -3.0)},
        {"weights": (("a", 0.0),)},
        {"weights": (("a", 1.0), ("a", 2.0))},
    ],
)
def test_a_choice_outside_its_range_is_refused(changes):
    with pytest.raises(ValueError, match="expected"):
        replace(RULE, **changes)


def test_the_only_two_windows_that_just_fit_are_each_others_style():
    track = trio("t", frames=2 * 131_072)
    pairs = list(PairPlan((track,), replace(RULE, window_samples=131_072)).pairs(0, 12))
    assert {(pair.start_samples, pair.style_starts_samples[0]) for pair in pairs} == {(0, 131_072), (131_072, 0)}
    assert all(pair.style_note is None for pair in pairs)


def test_rows_are_pinned():
    """A change here is a change of every plan: raise CUT_VERSION in tasks/window_source.py with it."""
    rows = PairPlan((trio("a"), trio("b")), RULE).rows(0, 4)
    assert rows.track_N.tolist() == [0, 1, 0, 1] and rows.target_N.tolist() == [2, 1, 1, 0]
    assert rows.start_samples_N.tolist() == [
        158208,
        202240,
        395264,
        52224,
    ] and rows.style_starts_samples_NK.ravel().tolist() == [460800, 26112, 170496, 434176]
    assert rows.context_first.tolist() == [0, 1, 2, 4, 6] and rows.context_M.tolist() == [1, 2, 0, 2, 1, 2]
