import io
import os
import random
import shutil
import tomllib
from pathlib import Path

import av
import miniature_corpora
import pytest

from data_manifests.layouts import LAYOUTS, layout_named, list_corpus, recognise
from data_manifests.layouts.groups import artist_group, artist_of, house_groups, parse_groups
from data_manifests.layouts.layout import rule_table
from data_manifests.layouts.slakh import _role_of_program
from data_manifests.layouts.stem_atom import BadStemFile, stem_names
from data_manifests.listing import VOCAL_REASON
from data_manifests.schema import ROLES

HARD_CASES = Path(__file__).parents[2] / "shared" / "data" / "hard_cases"
NAMES = [layout.name for layout in LAYOUTS]


class FolderReader:
    """What the tasks hand in: text and bytes of files below a folder, and a record of what was asked for."""

    def __init__(self, root):
        self.root, self.asked = root, []

    def text(self, path):
        self.asked.append(path)
        return (self.root / path).read_text(encoding="utf-8-sig")

    def binary(self, path):
        self.asked.append(path)
        return (self.root / path).open("rb")


def files_below(root):
    return [(Path(folder) / name).relative_to(root).as_posix() for folder, _, names in os.walk(root) for name in names]


def listed(root, layout=None):
    return list_corpus(files_below(root), FolderReader(root), layout)


def stems_of(listing):
    return [stem for track in listing.tracks for stem in track.stems]


def by_id(listing):
    return {track.id.rpartition("/")[2]: {stem.id: stem for stem in track.stems} for track in listing.tracks}


def reasons_of(listing):
    return {item.path: item.reason for item in listing.left_out}


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """Layout -> the folder of a miniature corpus in it."""
    roots = {name: tmp_path_factory.mktemp(name) for name in miniature_corpora.WRITERS}
    for name, root in roots.items():
        miniature_corpora.WRITERS[name](root)
    return roots


@pytest.fixture(params=NAMES)
def corpus(request, corpora):
    """A miniature corpus: its layout's name and its folder."""
    return request.param, corpora[request.param]


# What every layout must do


def test_every_layout_has_a_miniature_corpus():
    assert set(miniature_corpora.WRITERS) == set(NAMES)


def test_a_corpus_is_recognised_and_listed_alike_when_named(corpus):
    name, root = corpus
    assert recognise(files_below(root)).name == name
    listing = listed(root)
    assert listing.layout == name and listing == listed(root, name)
    assert {track.corpus for track in listing.tracks} == {name}


def test_a_corpus_is_recognised_in_a_folder_above_it_and_beside_a_stray_song(corpus, tmp_path):
    name, root = corpus
    files = [f"downloads/some corpus/{path}" for path in files_below(root)]
    assert recognise([*files, "stray/bass.wav", "readme.txt"]).name == name


def test_the_listing_does_not_depend_on_the_order_of_the_files(corpus):
    _, root = corpus
    files = sorted(files_below(root))
    reference = list_corpus(files, FolderReader(root))
    for seed in range(3):
        random.Random(seed).shuffle(files)
        assert list_corpus(files, FolderReader(root)) == reference


def test_every_stem_has_a_role_a_unique_name_and_files_that_are_there(corpus):
    _, root = corpus
    listing = listed(root)
    assert len(listing.tracks) >= 2 and len({track.id for track in listing.tracks}) == len(listing.tracks)
    for track in listing.tracks:
        assert len({stem.id for stem in track.stems}) == len(track.stems) >= 2
        assert track.group_id and track.licence and track.split in (None, "train", "heldout")
    for stem in stems_of(listing):
        assert stem.role in ROLES and stem.files
        assert all((root / file.path).is_file() for file in stem.files)


def test_vocals_are_heard_but_never_targets_and_whatever_is_no_target_says_why(corpus):
    _, root = corpus
    for stem in stems_of(listed(root)):
        assert stem.is_vocal is (stem.role == "vocal") and stem.usable_in_context
        assert stem.usable_as_target is (stem.reason is None)
        assert not stem.is_vocal or stem.reason == VOCAL_REASON


def test_no_stem_is_a_mix_a_click_or_a_room(corpus):
    name, root = corpus
    forbidden = ("mix", "click", "preview", "_raw_", "main system")
    for stem in stems_of(listed(root)):
        for file in stem.files:
            assert not any(word in file.path.rpartition("/")[2].lower() for word in forbidden)
            assert "Room" not in file.path or stem.role == "drums"  # before the kit, not in the hall
            assert file.stream > 0 if name in ("musdb18", "ni_stem") else file.stream == 0  # stream 0 is the mix


def test_no_file_is_in_two_stems_and_every_file_is_a_stem_was_read_or_has_a_reason(corpus):
    _, root = corpus
    reader = FolderReader(root)
    listing = list_corpus(files_below(root), reader)
    used = [(file.path, file.stream) for stem in stems_of(listing) for file in stem.files]
    assert len(used) == len(set(used))
    reasons = reasons_of(listing)
    assert all(reasons.values()) and not {path for path, _ in used} & set(reasons)
    assert set(files_below(root)) == {path for path, _ in used} | (set(reasons) | set(reader.asked)) & set(
        files_below(root)
    )


def test_no_group_is_on_both_sides_of_a_split(corpus):
    _, root = corpus
    splits = {}
    for track in listed(root).tracks:
        assert splits.setdefault(track.group_id, track.split) == track.split


def test_hidden_files_are_passed_over(corpus):
    _, root = corpus
    files = [*files_below(root), ".DS_Store", "__MACOSX/train/song/._drums.wav", "train/song/._drums.wav"]
    assert list_corpus(files, FolderReader(root)) == listed(root)


def test_a_wrong_or_unknown_layout_says_what_was_expected(corpora):
    with pytest.raises(ValueError, match=r"no layout 'kazoo'; expected one of musdb18, .*slakh2100.* plain"):
        layout_named("kazoo")
    with pytest.raises(ValueError, match=r"no song in the layout slakh2100; expected files such as .*Found: one/bass"):
        listed(corpora["plain"], "slakh2100")
    assert recognise(["song/drums.wav", "song/bass.wav"]).name == recognise([]).name == "plain"


def test_an_unreadable_metadata_file_costs_its_song_and_nothing_else(corpora, tmp_path):
    for name, file in (
        ("slakh2100", "train/Track00002/metadata.yaml"),
        ("moisesdb", "data.json"),
        ("medleydb", "METADATA.yaml"),
    ):
        for damage in (b"\xff\xfe\x00", b"- a list", b"stems: [", b"[" * 100_000, b"{}", b""):
            root = tmp_path / f"{name} {len(damage)}"
            shutil.copytree(corpora[name], root, dirs_exist_ok=True)
            path = next(root / path for path in sorted(files_below(root)) if path.endswith(file))
            path.write_bytes(damage)
            listing = listed(root)
            assert len(listing.tracks) == len(listed(corpora[name]).tracks) - 1
            assert sum(path.name in reason for reason in reasons_of(listing).values()) >= 2


def test_the_package_that_is_installed_holds_the_layouts_and_their_tables():
    root = Path(__file__).parents[1]
    setuptools = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert "data_manifests.layouts" in setuptools["packages"]
    assert "layouts/*.yaml" in setuptools["package-data"]["data_manifests"]
    for table in (root / "data_manifests" / "layouts").glob("*.yaml"):
        assert rule_table(table.name)


# Groups across corpora


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The So So Glos", "TheSoSoGlos"), ("A Classic Education", "AClassicEducation"), ("Björk", "Bjork"),
        ("The Easton Ellises (Baumi)", "The Easton Ellises"), ("Triviul feat. The Fiend", "Triviul"),
        ("Clara Berry & Wooldog", "ClaraBerryAndWooldog"), ("M.E.R.C. Music", "MERC_Music"), ("THE BAND", "Band"),
    ],
)  # fmt: skip
def test_an_artist_is_one_group_however_the_corpus_spells_the_name(one, other):
    assert artist_group(one) == artist_group(other) != artist_group("Somebody Else")


def test_a_name_that_says_nothing_is_no_group_and_other_names_are_data():
    assert artist_group(" - ") is None and artist_group("The") == "artist:the" and artist_group("Feat") == "artist:feat"
    table = {**rule_table("groups.yaml"), "same_artist": {"Prince": ["The Artist Formerly Known", "Symbol"]}}
    rules = parse_groups(table)
    assert (
        artist_group("artist formerly known", rules) == artist_group("Symbol", rules) == artist_group("Prince", rules)
    )
    assert house_groups() is house_groups()


def test_the_artist_is_what_stands_before_the_first_dash():
    assert artist_of("051 - AM Contra - Heart Peripheral - Live") == "AM Contra"
    assert artist_of("Track 1") is None and artist_of("Jay-Z - 99 Problems") == "Jay-Z"


def test_one_song_in_four_corpora_is_one_group(corpora):
    groups = {
        name: {track.group_id for track in listed(corpora[name]).tracks}
        for name in ("musdb18hq", "musdb18", "dsd100", "medleydb", "cambridge_mt")
    }
    assert "artist:sosoglos" in groups["musdb18hq"] & groups["medleydb"] & groups["cambridge_mt"]
    assert "artist:skelpolu" in groups["musdb18hq"] & groups["dsd100"]
    assert "artist:musicdelta" in groups["musdb18"] & groups["medleydb"]


# What each layout must know


def test_an_artist_of_musdbs_test_set_leaves_its_training_set(corpora):
    splits = {track.id: track.split for track in listed(corpora["musdb18hq"]).tracks}
    assert splits == {
        "test/Skelpolu - Resurrection": "heldout",
        "train/Skelpolu - Human Mistakes": "heldout",
        "train/The So So Glos - Emergency": "train",
    }


def test_musdb18_takes_streams_one_to_four_its_tracklist_and_its_errata(corpora):
    first, second = listed(corpora["musdb18"]).tracks
    assert first.group_id == "artist:musicdelta" and first.split == "heldout" and first.tags == ()
    assert {stem.id: stem.files[0].stream for stem in first.stems} == {"drums": 1, "bass": 2, "other": 3, "vocals": 4}
    assert (second.tags, second.licence, second.split) == (("pop/rock",), "Restricted", "train")
    other = next(stem for stem in second.stems if stem.id == "other")
    assert other.flags == ("bleed",) and "vocals are in it" in other.reason and not other.usable_as_target


def test_errata_name_stems_of_musdb_and_songs_with_artist_and_title():
    for song, faults in rule_table("musdb.yaml")["errata"].items():
        assert artist_of(song) and set(faults) <= {"drums", "bass", "other", "vocals"}


def test_the_miniature_stem_file_is_a_real_one_with_a_cover_picture_first(corpora):
    with av.open(str(corpora["ni_stem"] / "Some Artist - Song.stem.mp4")) as container:
        assert len(container.streams.audio) == 5 and len(container.streams.video) == 1
        assert sum(frame.samples for frame in container.decode(audio=4)) > 0


def test_a_stem_file_is_named_by_its_atom_and_a_click_in_it_is_reported(corpora):
    listing = listed(corpora["ni_stem"])
    stems = by_id(listing)["Some Artist - Song"]
    assert [(stem.id, stem.role, stem.files[0].stream) for stem in stems.values()] == [
        ("1 Drums", "drums", 1), ("2 Sub Bass", "bass", 2), ("3 Synths", "synth", 3), ("4 Vox", "vocal", 4),
    ]  # fmt: skip
    assert list(by_id(listing)["Other"]) == ["1 Kick", "2 Bass", "4 Björk vocals"]
    reasons = reasons_of(listing)
    assert "click" in reasons["Other.stem.m4a, audio stream 3"] and "no moov/udta/stem" in reasons["Broken.stem.mp4"]


def stem_file(contents, *, head=b""):
    inner = miniature_corpora.atom(b"udta", miniature_corpora.atom(b"name", b"x") + contents)
    return io.BytesIO(head + miniature_corpora.atom(b"moov", miniature_corpora.atom(b"mvhd", bytes(8)) + inner))


def test_stem_names_are_found_behind_long_atoms_and_atoms_without_an_end():
    names = miniature_corpora.atom(b"stem", b'{"stems": [{"name": "Drums"}, {"name": "B\xc3\xa4ss"}]}')
    long_head = b"\x00\x00\x00\x01mdat" + (16 + 5).to_bytes(8, "big") + bytes(5)
    assert stem_names(stem_file(names)) == stem_names(stem_file(names, head=long_head)) == ("Drums", "Bäss")
    endless = stem_file(names).getvalue()
    assert stem_names(io.BytesIO(bytes(4) + endless[4:])) == ("Drums", "Bäss")


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"", "no moov/udta/stem"),
        (miniature_corpora.atom(b"stem", b"{"), "no JSON"),
        (miniature_corpora.atom(b"stem", b"\xff"), "no JSON"),
        (miniature_corpora.atom(b"stem", b"[" * 100_000), "no JSON"),
        (miniature_corpora.atom(b"stem", b'{"stems": []}'), "expected texts"),
        (miniature_corpora.atom(b"stem", b'{"stems": [{"name": 1}]}'), "expected texts"),
        (miniature_corpora.atom(b"stem", b'{"stems": [{"color": "red"}]}'), "no JSON"),
        (miniature_corpora.atom(b"stem", bytes(2_000_000)), "at most"),
        (b"\x00\x00\x00\x04stem", "no moov/udta/stem"),
        (b"\xff\xff\xff\xffstem{}", "no moov/udta/stem"),
        (b"\x00\x00\x00\x01stem\xff\xff\xff\xff\xff\xff\xff\xff", "no moov/udta/stem"),
    ],
)
def test_a_senseless_stem_atom_is_refused_with_the_reason(contents, message):
    with pytest.raises(BadStemFile, match=message):
        stem_names(stem_file(contents))


def test_a_cut_or_foreign_stem_file_is_refused_at_any_length(corpora):
    whole = (corpora["ni_stem"] / "Some Artist - Song.stem.mp4").read_bytes()
    for length in (0, 4, 7, 8, 15, 100, len(whole) // 2, len(whole) - 1):
        with pytest.raises(BadStemFile):
            stem_names(io.BytesIO(whole[:length]))
    with pytest.raises(BadStemFile):
        stem_names(io.BytesIO(b"\x00\x00\x00\x08free" * 50_000))


def test_moisesdb_sums_the_tracks_of_a_stem_and_divides_it_by_role(corpora):
    first, second = listed(corpora["moisesdb"]).tracks
    stems = {stem.id: stem for stem in first.stems}
    assert set(stems) == {"vocals", "drums", "guitar", "other_keys", "other_keys/pad", "wind/brass", "other/effects"}
    assert len(stems["drums"].files) == 3 and stems["drums"].tags == ("kick drum", "overheads", "snare drum", "drums")
    assert stems["guitar"].flags == ("bleed",) and not stems["guitar"].usable_as_target
    assert (stems["wind/brass"].role, stems["other/effects"].role) == ("brass", "effects")
    assert first.group_id == second.group_id == "artist:artist" and first.tags == ("singer songwriter",)


def test_moisesdb_leaves_out_click_tracks_and_what_is_not_there(corpora):
    reasons = list(reasons_of(listed(corpora["moisesdb"])).values())
    assert reasons.count("a click track") == 1 and reasons.count("listed in data.json, but not there") == 1


@pytest.mark.parametrize("name", ["slakh2100", "babyslakh"])
def test_slakhs_choirs_are_vocals_and_what_sounds_is_what_counts(corpora, name):
    stems = by_id(listed(corpora[name]))["Track00001"]
    assert {key: stem.role for key, stem in stems.items()} == {
        "S00": "guitar", "S01": "drums", "S02": "vocal", "S03": "vocal", "S04": "vocal", "S05": "keys",
        "S07": "effects", "S08": "bass",
    }  # fmt: skip
    assert stems["S00"].tags == ("distortion guitar", "guitar")
    assert stems["S05"].tags == ("organ",)  # a harmonica that is played by an organ


def test_slakhs_duplicates_follow_the_heldout_one_and_omitted_songs_stay_out(corpora):
    listing = listed(corpora["slakh2100"])
    assert {track.id: (track.group_id, track.split) for track in listing.tracks} == {
        "train/Track00001": ("slakh:aa", "heldout"),
        "train/Track00002": ("slakh:bb", "train"),
        "validation/Track00003": ("slakh:aa", "heldout"),
    }
    reasons = reasons_of(listing)
    assert reasons["test/omitted/Track00004/stems/S00.flac"].startswith("omitted")
    assert "is missing" in reasons["test/Track00005/stems/S00.flac"]
    assert "could be a voice" in reasons["train/Track00002/stems/S99.flac"]
    assert "no audio of it" in reasons["train/Track00001/stems/S06"]


def test_slakhs_programs_are_those_of_general_midi_and_five_of_them_are_voices():
    assert [_role_of_program(i) for i in (0, 127, 128, 129, -1, None)] == [
        "keys", "effects", "drums", "other", "other", "other",
    ]  # fmt: skip
    assert [i for i in range(129) if _role_of_program(i) == "vocal"] == [52, 53, 54, 85, 91]


def test_medleydb_brings_its_stems_to_the_level_of_the_mix(corpora):
    songs = by_id(listed(corpora["medleydb"]))
    gains_db = {key: stem.files[0].gain_db for key, stem in songs["TheSoSoGlos_Emergency"].items()}
    assert gains_db == {"S01": 6.021, "S02": -6.021, "S03": 0.0, "S04": 0.0, "S06": 0.0}  # S05 is not in the mix
    live = {key: stem.files[0].gain_db for key, stem in songs["MusicDelta_Live"].items()}
    assert live == {"S01": 6.021, "S03": -6.021}  # the mean of two estimates; a person's own figure


def test_medleydb_without_coefficients_keeps_every_stem_as_it_is(corpora, tmp_path):
    shutil.copytree(corpora["medleydb"], tmp_path / "copy")
    for path in (tmp_path / "copy").glob("mixing_coefficients*.yaml"):
        path.unlink()
    stems = by_id(listed(tmp_path / "copy"))["TheSoSoGlos_Emergency"]
    assert len(stems) == 6 and all(stem.files[0].gain_db == 0.0 for stem in stems.values())


def test_medleydbs_room_bleed_and_unknown_instruments_are_no_targets(corpora):
    listing = listed(corpora["medleydb"])
    live, studio = (by_id(listing)[name] for name in ("MusicDelta_Live", "TheSoSoGlos_Emergency"))
    assert all(stem.flags == ("bleed",) and not stem.usable_as_target for stem in live.values())
    assert "room microphone" in next(reason for path, reason in reasons_of(listing).items() if "Live_STEM_02" in path)
    assert studio["S04"].role == "wind" and not studio["S06"].usable_as_target and studio["S06"].tags == ()


def test_medleydb_reads_yes_and_no_as_text_or_truth_and_refuses_the_rest(corpora, tmp_path):
    for number, (text, bleeds) in enumerate((("'no'", False), ("no", False), ("yes", True), ("perhaps", None))):
        root = tmp_path / str(number)
        shutil.copytree(corpora["medleydb"], root)
        path = root / "Metadata" / "MusicDelta_Live_METADATA.yaml"
        path.write_text(path.read_text().replace("has_bleed: 'yes'", f"has_bleed: {text}"))
        songs = by_id(listed(root))
        assert ("MusicDelta_Live" in songs) is (bleeds is not None)
        if bleeds is not None:
            assert songs["MusicDelta_Live"]["S01"].usable_as_target is not bleeds


def test_every_instrument_of_medleydb_has_one_role():
    table = rule_table("medleydb.yaml")
    instruments = [name for names in table["roles"].values() for name in names]
    assert len(instruments) == len(set(instruments)) and set(table["roles"]) <= set(ROLES)


def test_cambridge_groups_microphones_and_joins_left_and_right(corpora):
    stems = by_id(listed(corpora["cambridge_mt"]))["SomeArtist_FirstSong_Full"]
    sides = {key: {file.path.rpartition("/")[2][3:-4]: file.side for file in stem.files} for key, stem in stems.items()}
    assert sides["drums"] == {
        "KickIn": "both", "KickOut": "both", "SnareUp": "both", "SnareDown": "both", "OverheadsL": "left",
        "OverheadsR": "right", "DrumsRoom": "both",
    }  # fmt: skip
    assert sides["Bass"] == {"BassDI": "both", "BassAmp": "both"}
    assert sides["ElecGtr1"] == {"ElecGtr1L": "left", "ElecGtr1R": "right"} and "ElecGtr2" in sides
    assert sides["Piano"] == {"PianoL": "both"}  # its other half is not there
    assert {key for key, stem in stems.items() if stem.is_vocal} == {"LeadVox", "BackingVox1"}


def test_cambridge_leaves_out_room_click_and_preview(corpora):
    reasons = {path.rpartition("/")[2]: reason for path, reason in reasons_of(listed(corpora["cambridge_mt"])).items()}
    assert set(reasons) == {"16_Click.wav", "17_Room.wav", "SomeArtist_FirstSong_Preview.wav"}
    assert "preview" in reasons["SomeArtist_FirstSong_Preview.wav"]


def test_urmp_numbers_players_and_groups_by_composition(corpora):
    listing = listed(corpora["urmp"])
    assert [track.group_id for track in listing.tracks] == ["urmp:jupiter", "urmp:jupiter", "urmp:dance"]
    roles = {stem.id: stem.role for stem in listing.tracks[1].stems}
    assert roles == {"1_vn": "strings", "2_vn": "strings", "3_tpt": "brass", "4_db": "bass"}


def test_songs_with_a_song_file_are_read_by_it_however_they_are_numbered():
    numbered = ["Artist_Song/01_Kick.wav", "Artist_Song/02_Bass.wav"]
    assert recognise(numbered).name == "cambridge_mt"
    assert recognise([*numbered, "Artist_Song/song.json"]).name == "plain"
    assert recognise(["song/01_kick.wav", "song/02 Bass.wav"]).name == "plain"


# Real excerpts, and another reader of the same corpus


def real(*parts):
    root = HARD_CASES.joinpath(*parts)
    if not root.is_dir():
        pytest.skip(f"{root} is not on this machine")
    return root


@pytest.mark.parametrize(
    ("folder", "layout", "split"),
    [("slakh2100_flac_redux", "slakh2100", "train"), ("babyslakh_16k", "babyslakh", None)],
)
def test_a_real_song_of_slakh_is_read(folder, layout, split):
    listing = listed(real("slakh_ccby4", folder))
    (track,) = listing.tracks
    assert (listing.layout, track.split, track.group_id) == (layout, split, "slakh:1a81ae092884234f3264e2f45927f00a")
    assert [stem.role for stem in track.stems] == [
        "guitar", "drums", "keys", "bass", "vocal", "keys", "guitar", "guitar", "keys", "keys",
    ]  # fmt: skip
    assert any(path.endswith("stems/S06") for path in reasons_of(listing))


def test_real_slakh_and_babyslakh_of_one_midi_file_are_one_group():
    listing = listed(real("slakh_ccby4"))
    assert len(listing.tracks) == 2 and len({track.group_id for track in listing.tracks}) == 1


def test_a_real_choir_of_three_microphones_per_singer_has_one_stem_per_singer():
    listing = listed(real("dagstuhl_ccby4"))
    (track,) = listing.tracks
    assert listing.layout == "plain" and len(track.stems) == 4
    assert all(stem.is_vocal and stem.id.endswith("_DYN") for stem in track.stems)
    assert len(listing.left_out) == 11 and all("microphone" in item.reason for item in listing.left_out)


@pytest.mark.parametrize(("name", "is_wav"), [("musdb18hq", True), ("musdb18", False)])
def test_our_musdb_agrees_with_the_musdb_package(corpora, name, is_wav):
    try:
        import musdb
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"musdb cannot be imported: {error}")  # RuntimeError: it finds no ffmpeg
    theirs = list(musdb.DB(root=str(corpora[name]), is_wav=is_wav))
    ours = {track.id: track for track in listed(corpora[name]).tracks}
    assert {f"{track.subset}/{track.name}" for track in theirs} == set(ours)
    for track in theirs:
        stems = {stem.id: stem.files[0] for stem in ours[f"{track.subset}/{track.name}"].stems}
        assert {stem: str(corpora[name] / file.path) for stem, file in stems.items()} == {
            stem: source.path for stem, source in track.sources.items()
        }
        if not is_wav:
            assert {stem: file.stream for stem, file in stems.items()} == {
                stem: source.stem_id for stem, source in track.sources.items()
            }
