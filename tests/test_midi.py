"""What the MIDI reader and writer promise: notes survive, sounds are told apart, broken files are named."""

import struct
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import mido
import numpy as np
import pytest

from data_manifests.composer import EmbeddedCorpus, compose
from data_manifests.drum_kit import KITS
from data_manifests.general_midi import general_midi, parse_table
from data_manifests.instruments import INSTRUMENTS
from data_manifests.midi import read_midi, touch, velocity_of, write_part
from data_manifests.notation import Note

SHARED = Path(__file__).parents[2] / "shared" / "data"
SLAKH = SHARED / "hard_cases/slakh_ccby4/slakh2100_flac_redux/train/Track00001"


@pytest.fixture(scope="module")
def songs():
    corpus = EmbeddedCorpus(songs=12, seconds=24.0, seed=3, heldout=2)
    return [compose(corpus, index) for index in range(corpus.songs)]


def on(tick, note, *, channel=0, velocity=100):
    return tick, mido.Message("note_on", channel=channel, note=note, velocity=velocity)


def off(tick, note, *, channel=0):
    return tick, mido.Message("note_off", channel=channel, note=note)


def program(tick, number, *, channel=0):
    return tick, mido.Message("program_change", channel=channel, program=number)


def tempo(tick, microseconds):
    return tick, mido.MetaMessage("set_tempo", tempo=microseconds)


def midi(*tracks, kind=1, ticks_per_beat=480):
    """A MIDI file of tracks of (tick, message)."""
    file = mido.MidiFile(type=kind, ticks_per_beat=ticks_per_beat)
    for events in tracks:
        track, before = mido.MidiTrack(), 0
        for tick, message in events:
            track.append(message.copy(time=tick - before))
            before = tick
        file.tracks.append(track)
    buffer = BytesIO()
    file.save(file=buffer)
    return buffer.getvalue()


def raw(track_bytes, *, kind=0, division=480):
    """A MIDI file written byte by byte."""
    head = b"MThd" + struct.pack(">LHHh", 6, kind, 1, division)
    return head + b"MTrk" + struct.pack(">L", len(track_bytes)) + track_bytes


def pitches(part):
    return [note.pitch for note in part.notes]


def test_every_note_of_a_composed_part_comes_back_within_a_tenth_of_a_millisecond(songs):
    compared = 0
    for song in songs:
        for part in song.parts:
            (back,) = read_midi(write_part(part, song.plan.bpm), part.id).parts
            by_place = {(note.pitch, round(note.start_s, 3)): note for note in part.notes}
            if len(by_place) != len(part.notes) or len(back.notes) != len(part.notes):
                continue  # two strokes of one key within a millisecond
            for note, found in zip(sorted(part.notes), sorted(back.notes), strict=True):
                assert found.pitch == note.pitch
                assert found.start_s == pytest.approx(note.start_s, abs=1e-4)
                assert found.velocity == pytest.approx(note.velocity, abs=0.008)
                assert found.duration_s <= note.duration_s + 1e-4
            compared += 1
    assert compared > 60


def test_notes_that_lie_on_ticks_come_back_exactly(songs):
    """What was read once is written and read again without any change."""
    for song in songs[:4]:
        for part in song.parts:
            once = read_midi(write_part(part, song.plan.bpm), part.id).parts[0]
            twice = read_midi(write_part(replace(part, notes=once.notes), song.plan.bpm), part.id).parts[0]
            assert twice.notes == once.notes and twice.data == once.data


def test_a_key_struck_again_is_let_go_first(songs):
    bass = next(part for part in songs[0].parts if part.role == "bass")
    overlapping = replace(bass, notes=(Note(0.0, 1.0, 40, 0.5), Note(0.5, 1.0, 40, 0.5), Note(0.6, 0.2, 43, 0.5)))
    (back,) = read_midi(write_part(overlapping, 120.0), "bass").parts
    found = [(note.pitch, note.start_s, note.duration_s) for note in back.notes]
    assert np.allclose(found, [(40, 0.0, 0.5), (40, 0.5, 1.0), (43, 0.6, 0.2)], atol=1e-4)


def test_a_composed_part_names_its_program_and_its_place(songs):
    for song in songs:
        for part in song.parts:
            messages = mido.MidiFile(file=BytesIO(write_part(part, song.plan.bpm))).tracks[0]
            programs = {message.program for message in messages if message.type == "program_change"}
            pans = {message.value for message in messages if message.type == "control_change"}
            channels = {message.channel for message in messages if not message.is_meta}
            assert programs == {general_midi().house_instruments[part.instrument]}
            assert pans == {round(64 + 63 * part.timbre.pan)} and channels == {9 if part.role == "drums" else 0}


def test_every_instrument_of_the_house_has_a_program_of_its_own_kind():
    table = general_midi()
    assert set(table.house_instruments) == set(INSTRUMENTS) | set(KITS)
    roles = {name: table.programs[table.house_instruments[name]].role for name in INSTRUMENTS}
    for name, role in (("sub bass", "bass"), ("nylon guitar", "guitar"), ("organ", "keys"), ("female voice", "vocal")):
        assert roles[name] == role
    assert {table.house_instruments[kit] for kit in KITS} <= set(table.kits)


def test_louder_velocities_are_louder_touches_and_come_back():
    assert [velocity_of(touch(velocity)) for velocity in range(1, 128)] == list(range(1, 128))
    assert (velocity_of(0.0), velocity_of(7.0)) == (1, 127)
    assert (touch(127), round(touch(64), 3)) == (1.0, 0.254), "synthesizers sound the square of a velocity"


def test_parts_are_channels_by_program_and_the_same_program_on_two_channels_is_one_part():
    song = read_midi(
        midi(
            [program(0, 0), on(0, 60), off(480, 60)],
            [program(0, 33, channel=1), on(0, 36, channel=1), off(480, 36, channel=1)],
            [program(0, 0, channel=2), on(480, 72, channel=2), off(960, 72, channel=2)],
        ),
        "two_pianos.mid",
    )
    assert [(part.id, part.role, pitches(part)) for part in song.parts] == [
        ("acoustic_grand_piano", "keys", [60, 72]),
        ("fingered_bass", "bass", [36]),
    ]


def test_a_channel_that_changes_its_program_plays_two_parts():
    data = midi([program(0, 0), on(0, 60), program(240, 73), off(480, 60), on(480, 64), off(960, 64)])
    piano, flute = read_midi(data, "change.mid").parts
    assert (piano.id, pitches(piano), piano.notes[0].duration_s) == ("acoustic_grand_piano", [60], 0.5)
    assert (flute.id, flute.role, pitches(flute)) == ("flute", "wind", [64])
    assert pitches(read_midi(flute.data, "flute").parts[0]) == [64]
    assert read_midi(flute.data, "flute").parts[0].id == "flute", "its own file still changes to the flute"


def test_channel_ten_is_drums_whatever_its_program():
    stroke = [program(0, 40, channel=9), on(0, 38, channel=9), off(48, 38, channel=9)]
    data = midi([*stroke, program(48, 40), on(48, 60), off(96, 60)])
    drums, violin = read_midi(data, "kit.mid").parts
    assert (drums.id, drums.role, drums.tags, pitches(drums)) == ("drums", "drums", ("brushed drums", "drums"), [38])
    assert violin.id == "violin"


@pytest.mark.parametrize("number", [52, 53, 54, 85, 91])
def test_choir_patches_are_vocal(number):
    (choir,) = read_midi(midi([program(0, number), on(0, 60), off(480, 60)]), "choir.mid").parts
    assert choir.is_vocal and choir.role == "vocal"


def test_each_part_keeps_the_controllers_and_tempi_of_its_own_channels():
    bend = (0, mido.Message("pitchwheel", channel=1, pitch=100))
    pedal = (0, mido.Message("control_change", channel=0, control=64, value=127))
    data = midi([tempo(0, 400_000), pedal, on(0, 60), off(480, 60)], [bend, program(0, 33, channel=1),
                on(0, 36, channel=1), off(480, 36, channel=1)])  # fmt: skip
    piano, bass = (mido.MidiFile(file=BytesIO(part.data)).tracks[0] for part in read_midi(data, "x.mid").parts)
    kinds = [{message.type for message in track} - {"end_of_track"} for track in (piano, bass)]
    assert kinds[0] == {"set_tempo", "control_change", "note_on", "note_off"}
    assert kinds[1] == {"set_tempo", "pitchwheel", "program_change", "note_on", "note_off"}


def test_tempo_changes_of_another_track_move_the_notes_and_the_longest_tempo_names_the_song():
    data = midi([tempo(0, 500_000), tempo(960, 1_000_000)], [on(480, 60), off(960, 60), on(1440, 62), off(4800, 62)])
    song = read_midi(data, "rit.mid")
    assert [(note.start_s, note.duration_s) for note in song.parts[0].notes] == [(0.5, 0.5), (2.0, 7.0)]
    assert (song.bpm, song.seconds, song.tags) == (60.0, 9.0, ("slow", "60 bpm"))
    assert [note.start_s for note in read_midi(song.parts[0].data, "part").parts[0].notes] == [0.5, 2.0]


def test_without_a_tempo_a_file_plays_at_120():
    song = read_midi(midi([on(480, 60), off(960, 60)]), "plain.mid")
    assert (song.bpm, song.parts[0].notes[0].start_s) == (120.0, 0.5)


def test_running_status_and_note_ons_without_force_are_understood():
    track = bytes([0x00, 0x90, 60, 100, 0x60, 64, 90, 0x60, 60, 0, 0x00, 64, 0, 0x00, 0xFF, 0x2F, 0x00])
    (part,) = read_midi(raw(track, division=0x60), "running.mid").parts
    assert [(note.start_s, note.duration_s, note.pitch) for note in part.notes] == [(0.0, 1.0, 60), (0.5, 0.5, 64)]


def test_a_file_of_type_0_is_divided_like_one_of_type_1():
    events = [program(0, 33, channel=1), on(0, 60), on(0, 36, channel=1), on(0, 36, channel=9), off(480, 60),
              off(480, 36, channel=1), off(480, 36, channel=9)]  # fmt: skip
    tracks = [[event for event in events if event[1].channel == channel] for channel in (0, 1, 9)]
    one, many = read_midi(midi(events, kind=0), "zero.mid"), read_midi(midi(*tracks), "one.mid")
    assert [part.id for part in one.parts] == ["drums", "acoustic_grand_piano", "fingered_bass"]
    assert [part.notes for part in one.parts] == [part.notes for part in many.parts]
    assert one.music_digest == many.music_digest


def test_other_notes_are_another_music():
    first = read_midi(midi([on(0, 60), off(480, 60)]), "a.mid")
    assert first.music_digest != read_midi(midi([on(0, 61), off(480, 61)]), "b.mid").music_digest


def test_a_note_that_is_never_let_go_sounds_to_the_end_of_the_file():
    data = midi([on(0, 60), on(0, 64), off(960, 64)])
    assert [note.duration_s for note in read_midi(data, "stuck.mid").parts[0].notes] == [1.0, 1.0]


def test_what_is_said_after_the_last_note_does_not_lengthen_a_part():
    late = (480 * 1000, mido.Message("control_change", channel=0, control=7, value=0))
    song = read_midi(midi([on(0, 60), off(480, 60), late]), "late.mid")
    assert song.seconds == 0.5 and mido.MidiFile(file=BytesIO(song.parts[0].data)).length == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("data", "wrong"),
    [
        (b"", "not a whole Standard MIDI File"),
        (b"RIFF not midi at all", "not a whole Standard MIDI File"),
        (midi([on(0, 60), off(480, 60)])[:-6], "not a whole Standard MIDI File"),
        (raw(bytes([0x00, 60, 100]), kind=0), "not a whole Standard MIDI File"),
        (midi([(0, mido.MetaMessage("track_name", name="nothing"))]), "without a note"),
        (midi([on(0, 60), off(480, 60)], kind=2), "type 2"),
        (raw(bytes([0, 0x90, 60, 100, 10, 60, 0, 0, 0xFF, 0x2F, 0]), division=-6360), "SMPTE"),
        (midi([tempo(0, 0), on(0, 60), off(480, 60)]), "0 µs per beat"),
        (midi([on(0, 60), off(480 * 100_000, 60)]), "expected at most 3600 s"),
    ],
    ids=["empty", "no midi", "cut short", "data first", "no note", "type 2", "film frames", "tempo 0", "endless"],
)
def test_a_broken_file_is_named_with_what_is_wrong(data, wrong):
    with pytest.raises(ValueError, match=r"^odd name\.mid: .*") as error:
        read_midi(data, "odd name.mid")
    assert wrong in str(error.value)


def test_random_damage_is_either_read_or_named():
    whole = midi([tempo(0, 400_000), program(0, 33), on(0, 60), off(480, 60), on(480, 62), off(960, 62)])
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), size=3):
            damaged[place] = int(rng.integers(256))
        try:
            read_midi(bytes(damaged), "damaged.mid")
        except ValueError as error:
            assert str(error).startswith("damaged.mid: ")


def test_a_table_with_a_missing_or_doubled_program_or_a_strange_role_is_refused():
    row = "- [a, b, keys]\n"
    with pytest.raises(ValueError, match="expected 128"):
        parse_table("programs:\n" + row * 128 + "kits: {0: x}\nhouse_instruments: {}")
    rows = "".join(f"- [n{number}, b, kazoo]\n" for number in range(128))
    with pytest.raises(ValueError, match="kazoo"):
        parse_table("programs:\n" + rows + "kits: {0: x}\nhouse_instruments: {}")


@pytest.mark.skipif(not SLAKH.exists(), reason="../shared/data is not there")
def test_a_real_song_of_slakh_divides_into_its_instruments():
    song = read_midi((SLAKH / "all_src.mid").read_bytes(), "all_src.mid")
    assert {part.id: part.role for part in song.parts} == {
        "drums": "drums", "bright_acoustic_piano": "keys", "percussive_organ": "keys", "harmonica": "wind",
        "jazz_guitar": "guitar", "distorted_guitar": "guitar", "fingered_bass": "bass", "choir_aahs": "vocal",
        "sci-fi_synth": "synth",
    }  # fmt: skip
    alone = read_midi((SLAKH / "MIDI" / "S02.mid").read_bytes(), "S02.mid")
    piano = next(part for part in song.parts if part.id == alone.parts[0].id)
    assert [note.pitch for note in piano.notes] == [note.pitch for note in alone.parts[0].notes]


def test_exactly_the_five_choir_patches_are_vocal():
    assert {number for number, row in enumerate(general_midi().programs) if row.is_vocal} == {52, 53, 54, 85, 91}
