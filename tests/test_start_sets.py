import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from data_manifests.draws import below, bits, unit
from data_manifests.start_sets import Intervals, joined, start_sets, without
from data_manifests.turns import golden_step, pools, turns

SETS = st.lists(st.sets(st.integers(0, 30), max_size=20), min_size=1, max_size=6)


def as_intervals(sets):
    """Every member an interval of its own."""
    flat = [(owner, low) for owner, members in enumerate(sets) for low in sorted(members)]
    owner_I, low_I = np.array(flat, dtype=np.int64).reshape(-1, 2).T
    return Intervals(owner_I, low_I, low_I + 1)


def members_of(intervals, count):
    found = [set() for _ in range(count)]
    for owner, low, high in zip(*intervals, strict=True):
        assert low < high and not found[owner] & set(range(low, high))
        found[owner] |= set(range(low, high))
    return found


@settings(max_examples=100, deadline=None)
@given(sets=SETS)
def test_members_places_and_counts_below_are_those_of_plain_sets(sets):
    asked = start_sets(joined(as_intervals(sets)), len(sets))
    for owner, members in enumerate(map(sorted, sets)):
        assert asked.size(np.array([owner])) == len(members)
        places = np.arange(len(members))
        assert asked.member(np.full_like(places, owner), places).tolist() == members
        bounds = np.arange(-3, 40)
        expected = [sum(member < bound for member in members) for bound in bounds]
        assert asked.below(np.full_like(bounds, owner), bounds).tolist() == expected


@settings(max_examples=100, deadline=None)
@given(sets=SETS, data=st.data())
def test_taking_out_a_stretch_leaves_the_rest(sets, data):
    low, high = (
        np.array(data.draw(st.lists(st.integers(0, 32), min_size=len(sets), max_size=len(sets)))) for _ in "lh"
    )
    rest = members_of(without(joined(as_intervals(sets)), low, high), len(sets))
    for members, left, low_one, high_one in zip(sets, rest, low, high, strict=True):
        assert left == members - set(range(low_one, high_one))


def test_touching_intervals_of_one_set_become_one_and_those_of_two_sets_stay():
    owner, low, high = joined(Intervals(np.array([0, 0, 1]), np.array([0, 4, 6]), np.array([4, 6, 9])))
    assert (owner.tolist(), low.tolist(), high.tolist()) == ([0, 1], [0, 6], [6, 9])


def test_draws_are_pinned_and_depend_on_seed_purpose_and_identity_alone():
    rows = np.arange(4)
    pinned = bits(3, "start", np.array([0, 1]), np.array([7, 2**63], dtype=np.uint64))
    assert pinned.tolist() == [0x80731589AE470618, 0x9386B718B4221E24]
    alone = [int(bits(3, "start", np.array([row]))[0]) for row in rows]
    assert bits(3, "start", rows).tolist() == alone and len(set(alone)) == 4
    others = [bits(4, "start", rows), bits(3, "style", rows), bits(3, "start", rows, rows)]
    assert all(not set(other.tolist()) & set(alone) for other in others)


def test_draws_are_uniform():
    rows = np.arange(60_000)
    counts = np.bincount(below(np.full_like(rows, 6), 0, "die", rows))
    assert len(counts) == 6 and np.abs(counts - 10_000).max() < 400  # 4 standard deviations
    numbers = unit(0, "unit", rows)
    assert 0 <= numbers.min() < 0.001 and 0.999 < numbers.max() < 1 and abs(numbers.mean() - 0.5) < 0.005
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.02


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4), parts=st.lists(st.integers(1, 9), min_size=4))
def test_weighted_corpora_have_their_shares_at_every_row_and_their_tracks_equal_turns(sizes, parts):
    bounds = np.cumsum([0, *sizes])
    tracks_of = {f"c{i}": np.arange(bounds[i], bounds[i + 1]) for i in range(len(sizes))}
    weights = tuple((f"c{i}", float(parts[i])) for i in range(len(sizes)))
    plan = pools(tracks_of, weights)
    rows = np.arange(500)
    found = turns(plan, rows, seed=1)
    for i, name in enumerate(tracks_of):
        mine = np.isin(found.track_N, tracks_of[name])
        share = parts[i] / sum(parts[: len(sizes)])
        assert np.abs(np.cumsum(mine) - share * (rows + 1)).max() <= len(sizes) + 0.01
        counts = [int((found.track_N == track).sum()) for track in tracks_of[name]]
        assert max(counts) - min(counts) <= 1
    for track in range(bounds[-1]):
        assert found.visit_N[found.track_N == track].tolist() == list(range((found.track_N == track).sum()))
    far = turns(plan, rows[-3:], seed=1)
    assert far.track_N.tolist() == found.track_N[-3:].tolist() and far.visit_N.tolist() == found.visit_N[-3:].tolist()


def test_the_golden_step_visits_every_place():
    sizes = np.arange(1, 200)
    assert (np.gcd(golden_step(sizes), sizes) == 1).all()
