"""Claims about the bound of alike accompaniments: who is whose partner, and what a corpus without labels has."""

from dataclasses import replace

import pytest

from data_manifests.alike import Place, most_alike
from data_manifests.schema import Track


def song(name, *, group=None, **labels):
    known = {"style": "funk", "bpm": "100", "key": "C major"} | labels
    return Track(
        id=name, group_id=group or name, split="heldout", corpus="plain", licence="CC0-1.0", tags=(), frames=48_000,
        stems=(), labels=tuple(known.items()),
    )  # fmt: skip


def places(*windows):
    return [Place(f"heldout-{number:08d}", track, role) for number, (track, role) in enumerate(windows)]


SONGS = (
    song("a"),
    song("near", bpm="104"),
    song("fast", bpm="112"),
    song("minor", key="C minor"),
    song("version", group="a"),
    song("rock", style="rock"),
)


def partner_of(first, *others):
    asked = places(first, *others)
    return asked[most_alike(asked, SONGS).partners[0]]


def test_a_partner_is_of_another_song_of_the_same_style():
    windows = places(*((track.id, "bass") for track in SONGS[:5]))
    for own, partner in zip(windows, most_alike(windows, SONGS).partners, strict=True):
        groups = {track.id: track.group_id for track in SONGS}
        assert groups[own.track_id] != groups[windows[partner].track_id]


def test_role_comes_before_key_and_key_before_tempo():
    assert partner_of(("a", "bass"), ("near", "drums"), ("minor", "bass")).track_id == "minor"
    assert partner_of(("a", "bass"), ("minor", "bass"), ("fast", "bass")).track_id == "fast"
    assert partner_of(("a", "bass"), ("fast", "bass"), ("near", "bass")).track_id == "near"


def test_hard_negatives_and_shared_roles_are_counted():
    tracks = (song("a"), song("b", bpm="103"), song("c", style="jazz"), song("d", style="jazz", bpm="104"))
    found = most_alike(places(("a", "bass"), ("b", "bass"), ("c", "bass"), ("d", "drums")), tracks)
    assert (found.hard, found.same_role) == (2, 2)


def test_partners_do_not_depend_on_the_order_of_the_windows():
    windows = places(*((("a", "near", "fast", "minor")[row % 4], "bass") for row in range(40)))

    def chosen(ordered):
        found = most_alike(ordered, SONGS).partners
        return {own.key: ordered[partner].key for own, partner in zip(ordered, found, strict=True)}

    assert chosen(windows) == chosen(windows[::-1])
    assert len(set(chosen(windows).values())) > 10


@pytest.mark.parametrize(
    ("lonely", "reason"),
    [
        (song("x", style="waltz"), "no other song here is waltz, as x is"),
        (replace(song("x"), labels=()), "the song x says nothing of its style, bpm, key"),
    ],
)
def test_one_window_without_a_partner_leaves_no_row_and_says_why(lonely, reason):
    found = most_alike(places(("a", "bass"), ("near", "bass"), ("x", "bass")), (*SONGS, lonely))
    assert found.partners == ()
    assert found.reason == reason
