import json
from dataclasses import replace

import pytest

from data_manifests.composer import EmbeddedCorpus, compose, song_record
from data_manifests.folder import list_folder
from data_manifests.hard_negatives import TEMPO_WITHIN_BPM, hard_negatives
from data_manifests.pairs import Pair
from data_manifests.schema import RATE_HZ, Catalogue, Stem, StemFile, Track
from tasks.catalogue_file import read_catalogue, write_catalogue


def make_track(name, *, group=None, **labels):
    file = StemFile(path="a.flac", channels=2, rate_hz=RATE_HZ, frames=RATE_HZ, sha256="0" * 64)
    stems = tuple(
        Stem(
            id=role, files=(file,), role=role, is_vocal=False, usable_as_target=True, usable_in_context=True,
            reason=None, tags=(), flags=(), peak=0.5, activity=(True,),
        )
        for role in ("drums", "bass")
    )  # fmt: skip
    return Track(
        id=name, group_id=group or name, split="heldout", corpus="plain", licence="CC0-1.0", tags=(), frames=RATE_HZ,
        stems=stems, labels=tuple(labels.items()),
    )  # fmt: skip


def row(index, track, target="drums"):
    return Pair(
        index=index, track_id=track, target=target, contexts=("bass",), start_samples=0,
        style_starts_samples=(512,), style_note=None,
    )  # fmt: skip


FUNK = {"style": "funk", "bpm": "100", "key": "C major"}
TRACKS = (
    make_track("a", **FUNK),
    make_track("near", **FUNK | {"bpm": "103", "style": "Funk", "key": "c major "}),
    make_track("fast", **FUNK | {"bpm": "103.1"}),
    make_track("minor", **FUNK | {"key": "C minor"}),
    make_track("rock", **FUNK | {"style": "rock"}),
    make_track("version", group="a", **FUNK),
    make_track("nameless", style="funk", bpm="fast"),
)


def test_a_partner_is_another_song_of_the_same_style_and_key_at_nearly_the_same_tempo():
    pairs = [row(index, track.id) for index, track in enumerate(TRACKS)]
    found = hard_negatives(pairs, TRACKS)
    partners = {
        pairs[place].track_id: item.partner and pairs[item.partner].track_id for place, item in enumerate(found)
    }
    assert partners["a"] == partners["version"] == partners["fast"] == "near"
    assert partners["near"] in ("a", "version", "fast")
    assert [found[place].partner for place in (3, 4, 6)] == [None] * 3


def test_the_reason_says_what_is_missing():
    found = hard_negatives([row(0, "rock"), row(1, "nameless"), row(2, "a")], TRACKS)
    assert found[0].reason == f"no other song here is rock in c major within {TEMPO_WITHIN_BPM:g} of 100 BPM"
    assert found[1].reason == "the song nameless says nothing of its bpm, key"
    assert "no other song" in found[2].reason
    assert all(item.partner is None for item in found)


def test_a_target_of_the_same_role_is_preferred_and_partners_are_shared_out():
    pairs = [row(i, "a", ("drums", "bass")[i % 2]) for i in range(40)]
    pairs += [row(40 + i, "near", ("drums", "bass")[i % 2]) for i in range(8)]
    found = hard_negatives(pairs, TRACKS)
    chosen = [found[i].partner for i in range(40)]
    assert all(pairs[place].target == pairs[i].target and place >= 40 for i, place in enumerate(chosen))
    assert len(set(chosen)) >= 6
    alone = hard_negatives([row(0, "a", "drums"), row(1, "near", "bass")], TRACKS)
    assert [item.partner for item in alone] == [1, 0]


def test_a_partner_does_not_depend_on_the_order_of_the_pairs():
    pairs = [row(i, ("a", "near", "fast")[i % 3]) for i in range(30)]

    def partners(ordered):
        found = hard_negatives(ordered, TRACKS)
        return {pair.index: ordered[item.partner].index for pair, item in zip(ordered, found, strict=True)}

    assert partners(pairs) == partners(pairs[::-1])


def test_labels_come_from_song_json_through_the_catalogue(tmp_path):
    song = song_record(compose(EmbeddedCorpus(songs=2, seconds=8.0, seed=0, heldout=1), 0))
    files = ["s/song.json", *(f"s/{stem['file']}" for stem in song["stems"])]
    (listed,) = list_folder(files, lambda path: json.dumps(song)).tracks
    assert listed.labels == (("style", song["style"]), ("bpm", f"{song['bpm']:g}"), ("key", song["key"]))
    track = replace(make_track("s"), labels=listed.labels)
    write_catalogue(Catalogue(tracks=(track, make_track("t")), quarantined=(), left_out=()), tmp_path)
    assert read_catalogue(tmp_path).tracks == (track, make_track("t"))


@pytest.mark.parametrize("bpm", [True, "fast", -3, 0, None, [120]])
def test_a_tempo_that_is_no_number_is_no_label(bpm):
    (listed,) = list_folder(["s/song.json", "s/drums.wav"], lambda path: json.dumps({"bpm": bpm, "style": 3})).tracks
    assert listed.labels == ()
