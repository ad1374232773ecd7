"""Miniature corpora in the real layouts, written for tests: a quarter of a second of sound in every file."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile
import yaml

SECONDS = 0.25
UUIDS = [f"{i:08x}-0000-4000-8000-{i:012x}" for i in range(40)]


def write_musdb18hq(root: Path) -> None:
    """Two training songs and a test song; one artist is in both parts, as in the real corpus."""
    for song in ("train/Skelpolu - Human Mistakes", "train/The So So Glos - Emergency", "test/Skelpolu - Resurrection"):
        for stem in ("mixture", "drums", "bass", "other", "vocals"):
            _write(root / song / f"{stem}.wav")


def write_musdb18(root: Path) -> None:
    write_stem_file(root / "train" / "Al James - Schoolboy Facination.stem.mp4", names=None, cover=True)
    write_stem_file(root / "test" / "Music Delta - 80s Rock - Live.stem.mp4", names=None, cover=False)
    (root / "tracklist.csv").write_text(
        "Track Name,Genre,Source,License\r\nAl James - Schoolboy Facination,Pop/Rock,DSD,Restricted\r\n"
    )


def write_dsd100(root: Path) -> None:
    for part, song in (("Dev", "051 - AM Contra - Heart Peripheral"), ("Test", "001 - Skelpolu - Resurrection")):
        _write(root / "Mixtures" / part / song / "mixture.wav")
        for stem in ("drums", "bass", "other", "vocals"):
            _write(root / "Sources" / part / song / f"{stem}.wav")


def write_ni_stem(root: Path) -> None:
    """Names are free text; one file has none, as any MP4 may."""
    write_stem_file(root / "Some Artist - Song.stem.mp4", names=["Drums", "Sub Bass", "Synths", "Vox"], cover=True)
    write_stem_file(root / "Other.stem.m4a", names=["Kick", "Bass", "Click", "Björk vocals"], cover=False)
    write_stem_file(root / "Broken.stem.mp4", names=None, cover=False)


def write_moisesdb(root: Path) -> None:
    """Two songs of one artist and one of another; the second one has a data.json that is cut off."""
    first: list[tuple[str, list[tuple[str, bool]]]] = [
        ("vocals", [("lead female singer", False), ("other (vocoder, beatboxing etc)", False)]),
        ("drums", [("kick drum", False), ("snare drum", False)]),
        ("drums", [("overheads", False)]),  # the same stem twice
        ("guitar", [("distorted electric guitar", True), ("acoustic guitar", False)]),
        ("other_keys", [("organ, electric organ", False), ("synth pad", False)]),
        ("wind", [("brass (trumpet, trombone, french horn, brass etc)", False)]),
        ("other", [("click track", False), ("fx/processed sound, scratches, gun shots, explosions etc", False)]),
    ]
    second: list[tuple[str, list[tuple[str, bool]]]] = [
        ("bass", [("bass guitar", False)]),
        ("piano", [("grand piano", False)]),
    ]
    _write_moises_song(root, UUIDS[0], {"song": "A", "artist": "The Artist", "genre": "singer_songwriter"}, first)
    _write_moises_song(root, UUIDS[1], {"song": "B", "artist": "artist", "genre": "rock"}, second)
    _write_moises_song(root, UUIDS[2], {"song": "C", "artist": "Somebody"}, second)
    broken = root / "moisesdb_v0.1" / UUIDS[2] / "data.json"
    broken.write_text(broken.read_text()[:-20])
    record = json.loads((root / "moisesdb_v0.1" / UUIDS[1] / "data.json").read_text())
    record["stems"][0]["tracks"].append({"id": UUIDS[39], "trackType": "bass guitar", "extension": "wav"})
    (root / "moisesdb_v0.1" / UUIDS[1] / "data.json").write_text(json.dumps(record))


SLAKH_STEMS: Mapping[str, tuple[str, str, int, str]] = {
    "S00": ("Guitar", "Distortion Guitar", 30, "elektrik_guitar.nkm"),
    "S01": ("Drums", "Drums", 128, "session_kit_full.nkm"),
    "S02": ("Strings (continued)", "Choir Aahs", 52, "choir_o.nkm"),
    "S03": ("Synth Lead", "Lead 6 (voice)", 85, "some_lead.nkm"),
    "S04": ("Synth Pad", "Pad 4 (choir)", 91, "pad.nkm"),
    "S05": ("Organ", "Harmonica", 22, "transistor_compact.nkm"),
    "S06": ("Sound Effects", "FX 8 (sci-fi)", 103, "None"),  # has no audio
    "S07": ("Strings (continued)", "Orchestra Hit", 55, "hit.nkm"),
    "S08": ("Bass", "Slap Bass 1", 36, "bass.nkm"),
}


def write_slakh2100(root: Path) -> None:
    """Track00003 is the MIDI of Track00001 again, and Track00004 is omitted for it; Track00005 has no metadata."""
    for part, number, uuid in (
        ("train", 1, "aa"), ("train", 2, "bb"), ("validation", 3, "aa"), ("test/omitted", 4, "bb"), ("test", 5, "cc"),
    ):  # fmt: skip
        _write_slakh_song(root / part / f"Track{number:05d}", uuid, "flac", 44_100)
    (root / "test" / "Track00005" / "metadata.yaml").unlink()
    _write(root / "train" / "Track00002" / "stems" / "S99.flac")


def write_babyslakh(root: Path) -> None:
    for number in (1, 2):
        _write_slakh_song(root / "babyslakh_16k" / f"Track{number:05d}", f"uuid{number}", "wav", 16_000)


def write_medleydb(root: Path) -> None:
    """One song with mixing coefficients, one with bleed and a room microphone, one without metadata."""
    _write_medley_song(
        root, "TheSoSoGlos_Emergency", {"artist": "The So So Glos", "genre": "Rock", "has_bleed": "no"},
        ["drum set", "electric bass", "female singer", "bass clarinet", "synthesizer", "Unlabeled"],
    )  # fmt: skip
    _write_medley_song(
        root, "MusicDelta_Live", {"artist": "Music Delta", "genre": "Jazz", "has_bleed": "yes"},
        ["double bass", "Main System", "piano"],
    )  # fmt: skip
    _write_medley_song(root, "Nobody_Nothing", {"artist": "Nobody"}, ["piano", "violin"])
    (root / "Metadata" / "Nobody_Nothing_METADATA.yaml").unlink()
    _dump(
        root / "mixing_coefficients.yaml", {"TheSoSoGlos_Emergency": {1: 2.0, 2: 0.5, 3: 1.0, 4: 1.0, 5: 0.0, 6: 1.0}}
    )
    version2 = {
        "TheSoSoGlos_Emergency": {"audio": {1: 4.0}, "stft": {1: 4.0}},
        "MusicDelta_Live": {"audio": {1: 1.0, 3: 3.0}, "stft": {1: 3.0, 3: 0.5}, "manual": {3: 0.5}},
    }
    _dump(root / "mixing_coefficients_version2.yaml", version2)


def write_cambridge_mt(root: Path) -> None:
    names = (
        "01_KickIn", "02_KickOut", "03_SnareUp", "04_SnareDown", "05_OverheadsL", "06_OverheadsR", "07_DrumsRoom",
        "08_BassDI", "09_BassAmp", "10_ElecGtr1L", "11_ElecGtr1R", "12_ElecGtr2", "13_Tambourine", "14_LeadVox",
        "15_BackingVox1", "16_Click", "17_Room", "18_PianoL",
    )  # fmt: skip
    for song in ("SomeArtist_FirstSong_Full", "SomeArtist_SecondSong_Full", "TheSoSoGlos_Emergency_Full"):
        for name in names:
            _write(root / song / f"{name}.wav", channels=1)
    _write(root / "SomeArtist_FirstSong_Full" / "SomeArtist_FirstSong_Preview.wav")


def write_urmp(root: Path) -> None:
    for song, codes in (
        ("01_Jupiter_vn_vc", "vn vc"),
        ("02_Jupiter_vn_vn_tpt_db", "vn vn tpt db"),
        ("03_Dance_fl_cl", "fl cl"),
    ):
        number, piece, _ = song.split("_", 2)
        folder = root / "Dataset" / song
        _write(folder / f"AuMix_{song}.wav", channels=1, rate_hz=48_000)
        for i, code in enumerate(codes.split(), start=1):
            _write(folder / f"AuSep_{i}_{code}_{number}_{piece}.wav", channels=1, rate_hz=48_000)
            (folder / f"Notes_{i}_{code}_{number}_{piece}.txt").write_text("0\t440\t1\n")
        (folder / f"Vid_{song}.mp4").write_bytes(b"")


def write_plain(root: Path) -> None:
    for song in ("one", "two"):
        for name in ("drums", "bass", "vox lead", "mix", "click"):
            _write(root / song / f"{name}.wav")
    (root / "one" / "song.json").write_text(json.dumps({"title": "T", "artist": "A"}))


WRITERS: Mapping[str, Callable[[Path], None]] = {
    "musdb18hq": write_musdb18hq,
    "musdb18": write_musdb18,
    "dsd100": write_dsd100,
    "ni_stem": write_ni_stem,
    "moisesdb": write_moisesdb,
    "slakh2100": write_slakh2100,
    "babyslakh": write_babyslakh,
    "medleydb": write_medleydb,
    "cambridge_mt": write_cambridge_mt,
    "urmp": write_urmp,
    "plain": write_plain,
}
"""Layout -> what writes a corpus of it below a folder."""


def write_stem_file(path: Path, *, names: Sequence[str] | None, cover: bool) -> None:
    """A mix and four stems as AAC streams, with a cover picture between them, and the names in a `stem` atom."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="mp4") as container:
        picture = container.add_stream("png", rate=1) if cover else None  # first: audio streams are not counted from 0
        audio = [container.add_stream("aac", rate=44_100, layout="stereo") for _ in range(5)]
        if picture is not None:
            picture.width, picture.height, picture.pix_fmt = 16, 16, "rgb24"
            picture.disposition = av.stream.Disposition.attached_pic
            frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = 0, Fraction(1, 1)
            container.mux([*picture.encode(frame), *picture.encode(None)])
        for number, stream in enumerate(audio):
            sound_SF = np.ascontiguousarray(_sound_FS(44_100, 2, hertz=220.0 * (number + 1)).T)
            for start in range(0, sound_SF.shape[1], 1024):
                block = av.AudioFrame.from_ndarray(sound_SF[:, start : start + 1024], format="fltp", layout="stereo")
                block.sample_rate, block.pts, block.time_base = 44_100, start, Fraction(1, 44_100)
                container.mux(stream.encode(block))
            container.mux(stream.encode(None))
    if names is not None:
        stems = [{"name": name, "color": "#009E73"} for name in names]
        text = json.dumps({"version": 1, "stems": stems, "mastering_dsp": {}}, ensure_ascii=False).encode()
        path.write_bytes(with_atom(path.read_bytes(), b"moov", b"udta", contents=atom(b"stem", text)))


def atom(kind: bytes, contents: bytes) -> bytes:
    return struct.pack(">I4s", len(contents) + 8, kind) + contents


def with_atom(data: bytes, *path: bytes, contents: bytes) -> bytes:
    """The row of atoms `data` with `contents` added at the end of the atom at `path`, made if it is missing."""
    if not path:
        return data + contents
    start = 0
    while start < len(data):
        size, kind = struct.unpack_from(">I4s", data, start)
        if kind == path[0]:
            inner = with_atom(data[start + 8 : start + size], *path[1:], contents=contents)
            return data[:start] + atom(kind, inner) + data[start + size :]
        start += size
    return data + atom(path[0], with_atom(b"", *path[1:], contents=contents))


def _write_moises_song(
    root: Path, song: str, record: Mapping[str, object], stems: Sequence[tuple[str, Sequence[tuple[str, bool]]]]
) -> None:
    folder, ids, listed = root / "moisesdb_v0.1" / song, iter(UUIDS[10:]), []
    for name, tracks in stems:
        entries = []
        for kind, has_bleed in tracks:
            track_id = next(ids)
            entries.append({"id": track_id, "trackType": kind, "extension": "wav", "has_bleed": has_bleed})
            _write(folder / name / f"{track_id}.wav")
        listed.append({"id": next(ids), "stemName": name, "tracks": entries})
    (folder / "data.json").write_text(json.dumps({**record, "stems": listed}))


def _write_slakh_song(folder: Path, uuid: str, suffix: str, rate_hz: int) -> None:
    """`audio_rendered` is false throughout, and the folders are those of another disk."""
    stems = {}
    for stem, (kind, program_name, program, plugin) in SLAKH_STEMS.items():
        stems[stem] = {
            "audio_rendered": False, "inst_class": kind, "is_drum": program == 128, "midi_program_name": program_name,
            "plugin_name": plugin, "program_num": program,
        }  # fmt: skip
        if stem != "S06":
            _write(folder / "stems" / f"{stem}.{suffix}", channels=1, rate_hz=rate_hz)
    _write(folder / f"mix.{suffix}", channels=1, rate_hz=rate_hz)
    (folder / "all_src.mid").write_bytes(b"MThd")
    _dump(folder / "metadata.yaml", {"UUID": uuid, "audio_dir": "/home/author/stems", "stems": stems})


def _write_medley_song(root: Path, song: str, record: Mapping[str, object], instruments: Sequence[str]) -> None:
    folder, stems = root / "Audio" / song, {}
    for number, instrument in enumerate(instruments, start=1):
        filename = f"{song}_STEM_{number:02d}.wav"
        raw = {"R01": {"filename": f"{song}_RAW_{number:02d}_01.wav", "instrument": instrument}}
        stems[f"S{number:02d}"] = {"component": "", "filename": filename, "instrument": instrument, "raw": raw}
        _write(folder / f"{song}_STEMS" / filename)
        _write(folder / f"{song}_RAW" / raw["R01"]["filename"], channels=1)
    _write(folder / f"{song}_MIX.wav")
    _dump(root / "Metadata" / f"{song}_METADATA.yaml", {**record, "title": song, "stems": stems})


def _dump(path: Path, record: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(record))


def _write(path: Path, *, channels: int = 2, rate_hz: int = 44_100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    hertz = 110.0 + sum(path.as_posix().rpartition("/")[2].encode()) % 800  # so that no two stems have the same bytes
    soundfile.write(path, _sound_FS(rate_hz, channels, hertz=hertz), rate_hz, subtype="PCM_16")


def _sound_FS(rate_hz: int, channels: int, *, hertz: float) -> np.ndarray:
    time_F = np.arange(round(SECONDS * rate_hz)) / rate_hz
    return np.repeat(0.2 * np.sin(2 * np.pi * hertz * time_F)[:, None], channels, axis=1).astype(np.float32)
