import pytest

from data_manifests.roles import house_rules, is_stem_folder, name_words, parse_rules, read_name, shared_title_words
from data_manifests.schema import ROLES


@pytest.mark.parametrize(
    "name",
    [
        "BGVOX_AAHH.wav", "vox_lead.flac", "Vocals30.wav", "LeadVox.wav", "12_BackingVox2.wav",
        "lead male singer", "male rapper",
        "Choir Aahs.flac", "beatboxing.ogg", "VOX ECHO", "bgvox ick ick", "backing.ogg",
        "X.multitrack-mridangam-vocal.mp3",
        "DCS_LI_QuartetB_Take04_S1_DYN.wav", "vocalists", "Piano + Vocals.wav", "vocoder_synth.wav", "Alto.wav",
    ],
)  # fmt: skip
def test_vocals_are_known_by_any_of_their_names_and_in_any_company(name):
    reading = read_name(name, house_rules())
    assert reading.is_vocal and reading.role == "vocal" and reading.leave_out is None


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("01_Kick.wav", "drums"), ("20_rim01.ogg.wav", "drums"), ("glitch_hh.flac", "drums"),
        ("OH_L.wav", "drums"), ("HiHat.wav", "drums"),
        ("Hi-Hats 2.wav", "drums"), ("break_beat.flac", "drums"), ("Bass Drum.wav", "drums"),
        ("full_kit.wav", "drums"), ("shakers", "percussion"),
        ("sy_bass.flac", "bass"), ("BassGuitar.wav", "bass"),
        ("4.Potassium_Stem_PAD + BASS.m4a", "bass"), ("PADs.wav", "pad"),
        ("EGtr2.wav", "guitar"), ("lead guitar", "guitar"), ("E-Piano.aif", "keys"),
        ("Synth Pad", "pad"), ("Lead Synth", "lead"),
        ("minilogue_synth.flac", "synth"), ("pluck.flac", "synth"), ("build.flac", "effects"),
        ("beeps.flac", "effects"),
        ("melody_break.flac", "lead"), ("alto sax", "wind"), ("violin 1", "strings"), ("French Horns", "brass"),
        ("S05.wav", "other"), ("12_Default preset.wav", "other"), ("mixolydian.wav", "other"),
    ],
)  # fmt: skip
def test_a_role_is_read_from_the_words_of_a_name(name, role):
    reading = read_name(name, house_rules())
    assert (reading.role, reading.is_vocal, reading.leave_out) == (role, False, None)


@pytest.mark.parametrize(
    "name", ["KICK.WAV", "kick", "02-Kick_3.flac", "The  KICK", "kick.ogg.wav", "Kicks", "my.kick.wav"]
)
def test_case_digits_and_separators_do_not_matter(name):
    assert read_name(name, house_rules()).role == "drums"


@pytest.mark.parametrize(
    "name",
    [
        "mix.wav", "Song_MIX.wav", "mixture.flac", "FullMix.wav", "Master.wav", "preview.mp3",
        "REF 1.wav", "Click.wav", "click-track.wav",
        "guide vox.wav", "metronome.wav", "Room L.wav", "07_Main System.wav", "S1_LRX.wav",
        "T2_HSM.wav", "audio_ORTF_R_Song1.wav",
        "Take04_Stereo_STR.wav", "full.wav", "Full Song.wav", "song.ogg", "Instrumental.wav", "drums mix.wav",
    ],
)  # fmt: skip
def test_what_is_no_stem_is_left_out_with_the_word_that_says_so(name):
    assert "the name says" in read_name(name, house_rules()).leave_out


def test_a_title_that_contains_such_a_word_does_not_leave_its_stems_out():
    names = ["Full Master - Drums.wav", "Full Master - Bass.wav", "Full Master - Mix.wav"]
    titled = shared_title_words(names)
    assert titled == 2
    readings = [read_name(name, house_rules(), title_words=titled) for name in names]
    assert [reading.leave_out is None for reading in readings] == [True, True, False]
    assert read_name("mix_1.wav", house_rules(), title_words=1).leave_out is not None
    assert shared_title_words(["vox.wav"]) == 0 and shared_title_words(["a b.wav", "b a.wav"]) == 0


def test_a_vocal_word_in_a_shared_title_still_counts():
    assert read_name("vox_pad.wav", house_rules(), title_words=1).is_vocal


def test_words_split_at_case_and_drop_every_audio_suffix():
    assert name_words("04_LeadVox.L.ogg.wav") == ("lead", "vox", "l")
    assert name_words("BGVox") == ("bg", "vox")
    assert name_words("Größe_FLÖTE2") == ("größe", "flöte")


def test_a_stem_folder_is_known_by_its_whole_name():
    assert is_stem_folder("stems", house_rules()) and is_stem_folder("Tracks", house_rules())
    assert not is_stem_folder("Track00001", house_rules()) and not is_stem_folder("My Stems", house_rules())


def test_the_table_has_only_known_roles_and_no_phrase_twice():
    assert set(house_rules().roles.values()) <= set(ROLES)
    rest = "leave_out: {}\nleave_out_alone: {}\nstem_folders: []\n"
    with pytest.raises(ValueError, match="kazoo"):
        parse_rules("roles: {kazoo: [kazoo]}\n" + rest)
    with pytest.raises(ValueError, match="twice"):
        parse_rules("roles: {bass: [sub, Sub]}\n" + rest)
    with pytest.raises(ValueError, match="no letters"):
        parse_rules("roles: {synth: ['303']}\n" + rest)
