import os
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import scipy.signal
import soundfile

from data_manifests.listing import ListedStem
from data_manifests.pairs import Pair
from data_manifests.schema import ListedFile, Track
from tasks import audio
from tasks.audio import UnreadableAudio, probe, read_blocks, read_window
from tasks.kept_files import KeptFiles
from tasks.probing import ProbeStore, probe_stems
from tasks.windows import cut_window

SHARED = Path(__file__).parents[2] / "shared" / "data"
RATE_HZ = 44_100


@pytest.fixture
def noise_SN():
    """Coloured noise that lossy codecs keep well enough to find its place."""
    noise_SN = np.random.default_rng(0).standard_normal((2, 3 * RATE_HZ))
    return (np.apply_along_axis(np.convolve, 1, noise_SN, np.hanning(24), "same") * 0.05).astype(np.float32)


@pytest.fixture
def encode(tmp_path):
    """Writes audio with PyAV; every further stream of the container holds the audio at half the level before."""

    def _encode(name, audio_SN, codec, rate_hz=RATE_HZ, streams=1, picture=False):
        path = tmp_path / name
        with av.open(str(path), "w") as out:
            if picture:
                video = out.add_stream("mpeg4", rate=1)
                video.width = video.height = 64
                video.pix_fmt = "yuv420p"
            sources = [out.add_stream(codec, rate=rate_hz, layout="stereo", bit_rate=256_000) for _ in range(streams)]
            if picture:
                out.mux(video.encode(av.VideoFrame(64, 64, "yuv420p")))
                out.mux(video.encode(None))
            for number, source in enumerate(sources):
                frame = av.AudioFrame.from_ndarray(audio_SN / 2**number, format="fltp", layout="stereo")
                frame.sample_rate, frame.pts, frame.time_base = rate_hz, 0, Fraction(1, rate_hz)
                coder = source.codec_context
                resampler = av.AudioResampler(coder.format.name, "stereo", rate_hz, coder.frame_size or 1024)
                for piece in [*resampler.resample(frame), *resampler.resample(None)]:
                    out.mux(source.encode(piece))
                out.mux(source.encode(None))
        return path

    return _encode


@pytest.fixture
def kept(tmp_path):
    return KeptFiles(folder=tmp_path / "kept")


@pytest.mark.parametrize(
    ("name", "codec", "rate_hz"),
    [
        ("a.m4a", "aac", 44_100),
        ("a.mp4", "aac", 44_100),
        ("lossless.m4a", "alac", 44_100),
        ("o.webm", "libopus", 48_000),
        ("o.mp4", "libopus", 48_000),
    ],
)
def test_priming_is_taken_off_so_that_the_sound_begins_where_it_began(encode, noise_SN, name, codec, rate_hz):
    path = encode(name, noise_SN, codec, rate_hz)
    frames_FS = np.concatenate(list(read_blocks(path, 10_000)))
    assert probe(path) == (len(frames_FS), 2, rate_hz)
    assert abs(len(frames_FS) - noise_SN.shape[1]) <= (0 if codec != "libopus" else 200)
    shared = min(len(frames_FS), noise_SN.shape[1])
    decoded_N, true_N = frames_FS[:shared, 0], noise_SN[0, :shared]
    assert int(np.argmax(scipy.signal.correlate(decoded_N, true_N))) == shared - 1  # lag 0, of all lags
    if codec == "alac":
        assert np.abs(decoded_N - true_N).max() < 1e-4


@pytest.mark.parametrize(
    ("name", "codec", "rate_hz"), [("a.m4a", "aac", 44_100), ("a.aac", "aac", 48_000), ("o.webm", "libopus", 48_000)]
)
def test_a_window_of_a_container_equals_the_same_slice_of_the_decode_from_its_beginning(
    encode, noise_SN, kept, tmp_path, name, codec, rate_hz
):
    path = encode(name, noise_SN, codec, rate_hz)
    soundfile.write(tmp_path / "whole.wav", np.concatenate(list(read_blocks(path, 48_000))), rate_hz, subtype="FLOAT")
    for start in (-700, 0, 1, 50_001, 140_000):
        window_SN = read_window(path, start, 8_192, kept=kept)
        assert np.abs(window_SN - read_window(tmp_path / "whole.wav", start, 8_192)).max() < 2e-6


def test_a_container_is_decoded_once_for_all_its_windows(encode, noise_SN, kept, monkeypatch):
    path = encode("a.m4a", noise_SN, "aac")
    decodes = []
    true_blocks = audio.decoded_blocks
    monkeypatch.setattr(audio, "decoded_blocks", lambda *args: decodes.append(args) or true_blocks(*args))
    windows = [read_window(path, start, 1_000, kept=kept) for start in range(0, 50_000, 5_000)]
    assert len(decodes) == 1 and all(window_SN.any() for window_SN in windows)
    encode("a.m4a", noise_SN * 0.5, "aac")  # another file under the name is decoded again
    assert np.abs(read_window(path, 20_000, 1_000, kept=kept)).max() < 0.7 * np.abs(windows[4]).max()
    assert len(decodes) == 2


def test_a_damaged_kept_file_is_made_again(encode, noise_SN, kept):
    path = encode("a.m4a", noise_SN, "aac")
    window_SN = read_window(path, 30_000, 1_000, kept=kept)
    (file,) = kept.folder.iterdir()
    file.write_bytes(file.read_bytes()[:500])
    assert np.array_equal(read_window(path, 30_000, 1_000, kept=kept), window_SN)


def test_kept_files_stay_within_their_budget_and_the_oldest_use_goes_first(tmp_path):
    kept = KeptFiles(folder=tmp_path / "kept", budget_bytes=2_500)
    sources = [tmp_path / name for name in "abc"]
    for source in sources:
        source.write_text("x")
    places = [kept.of(source, 0, lambda path: path.write_bytes(b"0" * 1_000)) for source in sources[:2]]
    for age, place in zip((20, 10), places, strict=True):
        os.utime(place, (time.time() - age, time.time() - age))
    assert kept.of(sources[0], 0, lambda path: pytest.fail("it is there")) == places[0]
    third = kept.of(sources[2], 0, lambda path: path.write_bytes(b"0" * 1_000))
    assert places[0].exists() and third.exists() and not places[1].exists()
    with pytest.raises(OSError, match="disk"):
        kept.of(sources[2], 1, lambda path: path.write_bytes(b"0") and (_ for _ in ()).throw(OSError("disk full")))
    assert sorted(path.suffix for path in kept.folder.iterdir()) == [".kept", ".kept"]


def test_streams_are_counted_by_type_so_that_a_picture_is_none(encode, noise_SN, kept):
    path = encode("song.stem.mp4", noise_SN, "aac", streams=3, picture=True)
    levels = [np.sqrt(np.mean(read_window(path, 20_000, 50_000, stream, kept) ** 2)) for stream in range(3)]
    assert levels[0] / levels[1] == pytest.approx(2, rel=0.1) and levels[1] / levels[2] == pytest.approx(2, rel=0.1)
    with pytest.raises(UnreadableAudio, match=r"song\.stem\.mp4: has 3 audio stream\(s\), no number 3"):
        probe(path, 3)


def test_windows_come_from_the_stream_that_the_catalogue_names(encode, noise_SN, kept, tmp_path):
    path = encode("song.m4a", noise_SN, "aac", streams=2)
    stems = [
        ListedStem(
            id=str(stream), files=(ListedFile(path=path.name, stream=stream),), role="other", is_vocal=False, tags=(),
            usable_as_target=True, usable_in_context=True, reason=None,
        )
        for stream in range(2)
    ]  # fmt: skip
    whole, half = (stem for stem, _ in probe_stems(tmp_path, stems, ProbeStore()))
    assert whole.loudness_lufs - half.loudness_lufs == pytest.approx(6.02, abs=0.5)
    track = Track(
        id="song", group_id="song", split="train", corpus="plain", licence="", tags=(), frames=whole.end_samples,
        stems=(whole, half),
    )  # fmt: skip
    pair = Pair(
        index=0, track_id="song", target="0", contexts=("1",), start_samples=20_000, style_starts_samples=(90_000,),
        style_note=None,
    )  # fmt: skip
    sample = cut_window(tmp_path, track, pair, 40_000, kept)
    levels = [np.sqrt(np.mean(audio_SN**2)) for audio_SN in (sample.target_SN, sample.context_SN)]
    assert levels[0] / levels[1] == pytest.approx(2, rel=0.1)
    assert len(list(kept.folder.iterdir())) == 2


def test_a_film_without_sound_text_and_half_a_file_are_each_said_so(encode, noise_SN, tmp_path):
    film = encode("film.mp4", noise_SN, "aac", streams=0, picture=True)
    with pytest.raises(UnreadableAudio, match=r"film\.mp4: holds no audio stream \(only video\)"):
        probe(film)
    (tmp_path / "text.m4a").write_text("I am no audio")
    with pytest.raises(UnreadableAudio, match=r"text\.m4a: .*export it again"):
        probe(tmp_path / "text.m4a")
    with pytest.raises(UnreadableAudio, match=r"gone\.m4a: there is no such file"):
        probe(tmp_path / "gone.m4a")
    for name, codec, rate_hz in (("cut.m4a", "aac", 44_100), ("cut.webm", "libopus", 48_000)):
        whole = encode(name, noise_SN, codec, rate_hz)
        whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        with pytest.raises(UnreadableAudio, match=rf"cut\.{name[4:]}"):
            list(read_blocks(whole, 48_000))


def test_a_fragment_of_an_m4a_that_keeps_its_index_is_cut_short(encode, noise_SN):
    path = encode("a.m4a", noise_SN, "aac")
    data = path.read_bytes()
    start, size = data.index(b"mdat") - 4, int.from_bytes(data[data.index(b"mdat") - 4 :][:4], "big")
    index_first = data[:start] + data[start + size :] + data[start : start + size // 2]
    path.write_bytes(index_first)
    with pytest.raises(UnreadableAudio, match=r"a\.m4a"):
        list(read_blocks(path, 48_000))


def test_a_decode_above_full_scale_is_kept_unclipped(encode, kept):
    loud_SN = np.sign(np.sin(np.arange(RATE_HZ) * 2 * np.pi * 997 / RATE_HZ))[None].repeat(2, 0).astype(np.float32)
    window_SN = read_window(encode("loud.m4a", loud_SN, "aac"), 10_000, 20_000, kept=kept)
    assert 1.02 < np.abs(window_SN).max() < 2.0


def test_mp3_that_libsndfile_refuses_goes_through_pyav(encode, noise_SN, kept, tmp_path):
    path = encode("a.mp3", noise_SN, "libmp3lame")
    disguised = tmp_path / "odd.mp3"  # an M4A under the name of an MP3
    disguised.write_bytes(encode("a.m4a", noise_SN, "aac").read_bytes())
    assert probe(disguised) == (noise_SN.shape[1], 2, RATE_HZ)
    by_one_SN, by_other_SN = read_window(path, 30_000, 60_000), read_window(disguised, 30_000, 60_000, kept=kept)
    assert np.corrcoef(by_one_SN[0], by_other_SN[0])[0, 1] > 0.95


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is not there")
def test_the_real_films_of_the_hard_cases_hold_no_sound():
    films = sorted((SHARED / "hard_cases").rglob("*.mp4"))
    assert films
    for film in films:
        with pytest.raises(UnreadableAudio, match="holds no audio stream"):
            probe(film)
