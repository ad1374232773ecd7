from pathlib import Path

import numpy as np
import pytest
import scipy.io
import soundfile

from tasks.audio import UnreadableAudio, probe, read_blocks, read_rated_blocks, read_window, stereo_blocks
from tasks.audio_bytes import LOUDEST, decode_flac, flac_bytes, headroom_gain, mp3_bytes, wav_bytes, write_flac

ODD_WAVS = sorted((Path(scipy.io.__file__).parent / "tests" / "data").glob("*.wav"))


@pytest.fixture
def noise_SN():
    return (np.random.default_rng(0).standard_normal((2, 96_000)) * 0.1).astype(np.float32)


@pytest.fixture
def save(tmp_path):
    def _save(name, audio_SN, rate_hz=48_000, subtype="FLOAT"):
        soundfile.write(tmp_path / name, audio_SN.T, rate_hz, subtype=subtype)
        return tmp_path / name

    return _save


@pytest.mark.parametrize("rate_hz", [48_000, 44_100, 24_000, 22_050, 11_025, 8_000, 96_000, 44_101])
def test_a_window_equals_the_same_slice_of_the_whole_resampled_file(save, rate_hz):
    audio_SN = (np.random.default_rng(rate_hz).standard_normal((2, 2 * rate_hz)) * 0.2).astype(np.float32)
    path = save("noise.wav", audio_SN, rate_hz)
    whole_SN = read_window(path, 0, 96_000)
    for start in (0, 1, 12_345, 60_001, 95_000):
        window_SN = read_window(path, start, 8_192)
        expected_SN = np.pad(whole_SN, ((0, 0), (0, 8_192)))[:, start : start + 8_192]
        assert np.abs(window_SN - expected_SN).max() < 1e-4


def test_a_tone_keeps_its_pitch_and_phase_through_resampling(save):
    at_44 = np.sin(2 * np.pi * 1_000 * np.arange(44_100) / 44_100)[None]
    at_48 = np.sin(2 * np.pi * 1_000 * np.arange(48_000) / 48_000)
    window_SN = read_window(save("tone.wav", at_44, 44_100), 10_000, 20_000)
    assert np.abs(window_SN - at_48[10_000:30_000]).max() < 1e-3


def test_mono_is_duplicated_and_zeros_follow_the_end(save):
    path = save("mono.wav", np.full((1, 1_000), 0.5))
    window_SN = read_window(path, 900, 300)
    assert window_SN.shape == (2, 300) and window_SN.dtype == np.float32
    assert (window_SN[:, :100] == 0.5).all() and (window_SN[:, 100:] == 0).all()
    assert (read_window(path, 5_000, 10) == 0).all()


@pytest.mark.parametrize("suffix", ["flac", "ogg", "mp3"])
def test_seeking_in_compressed_files_finds_the_same_samples(save, noise_SN, suffix):
    subtype = {"flac": "PCM_16", "ogg": "VORBIS", "mp3": "MPEG_LAYER_III"}[suffix]
    path = save(f"noise.{suffix}", noise_SN, 48_000, subtype)
    whole_SN = read_window(path, 0, 96_000)
    assert np.abs(read_window(path, 50_000, 4_096) - whole_SN[:, 50_000:54_096]).max() < 1e-4


def test_sixteen_bit_audio_survives_flac_exactly(noise_SN, tmp_path):
    once_SN = decode_flac(flac_bytes(noise_SN))
    assert np.abs(once_SN - noise_SN).max() <= 0.5 / 32_768 + 1e-9
    assert np.array_equal(decode_flac(flac_bytes(once_SN)), once_SN)
    write_flac(tmp_path / "noise.flac", once_SN)
    assert np.array_equal(read_window(tmp_path / "noise.flac", 0, 96_000), once_SN)
    extremes_SN = np.array([[1.0, -1.0, LOUDEST, 0.0]], dtype=np.float32)
    assert np.array_equal(decode_flac(flac_bytes(extremes_SN)), [[LOUDEST, -1.0, LOUDEST, 0.0]])


def test_the_same_audio_gives_the_same_flac_bytes(noise_SN, tmp_path):
    write_flac(tmp_path / "noise.flac", noise_SN)
    assert flac_bytes(noise_SN) == flac_bytes(noise_SN.copy()) == (tmp_path / "noise.flac").read_bytes()


def test_audio_that_would_clip_is_refused_and_fits_after_the_headroom_gain(noise_SN):
    loud_SN = noise_SN * 10
    with pytest.raises(ValueError, match="headroom_gain"):
        flac_bytes(loud_SN)
    gain = headroom_gain(loud_SN, noise_SN)
    assert np.abs(loud_SN * gain).max() == pytest.approx(LOUDEST)
    assert headroom_gain(noise_SN) == 1.0 and headroom_gain(np.zeros((2, 4))) == 1.0
    with pytest.raises(ValueError, match="peak of nan"):
        flac_bytes(np.full((2, 4), np.nan, dtype=np.float32))


def test_mp3_and_wav_for_the_page_hold_the_window(noise_SN, tmp_path):
    (tmp_path / "a.mp3").write_bytes(mp3_bytes(noise_SN))
    (tmp_path / "a.wav").write_bytes(wav_bytes(noise_SN))
    assert probe(tmp_path / "a.wav") == (96_000, 2, 48_000)
    assert abs(probe(tmp_path / "a.mp3").frames - 96_000) < 2_400


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_sample_that_is_no_number_is_named_with_its_file_and_second(save, value):
    audio_SN = np.zeros((2, 48_000))
    audio_SN[1, 24_000] = value
    path = save("broken.wav", audio_SN)
    with pytest.raises(UnreadableAudio, match=r"broken\.wav: a sample that is not a number at 0\.500 s"):
        read_window(path, 12_000, 24_000)
    with pytest.raises(UnreadableAudio, match=r"at 0\.500 s"):
        list(read_blocks(path, 10_000))
    assert (read_window(path, 0, 12_000) == 0).all()


@pytest.mark.parametrize(
    ("suffix", "subtype"), [("wav", "PCM_16"), ("aiff", "PCM_16"), ("flac", "PCM_16"), ("ogg", "VORBIS"), ("mp3", None)]
)
def test_a_file_cut_short_is_unreadable_and_named(save, noise_SN, suffix, subtype):
    path = save(f"cut.{suffix}", noise_SN, 48_000, subtype or "MPEG_LAYER_III")
    assert sum(len(block_FS) for block_FS in read_blocks(path, 48_000)) == probe(path).frames
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadableAudio, match=rf"cut\.{suffix}"):
        list(read_blocks(path, 48_000))


def test_no_file_no_audio_and_no_window_are_each_said_so(tmp_path, save):
    (tmp_path / "text.wav").write_text("I am no audio")
    with pytest.raises(UnreadableAudio, match=r"text\.wav"):
        probe(tmp_path / "text.wav")
    with pytest.raises(UnreadableAudio, match="no such file"):
        probe(tmp_path / "gone.wav")
    with pytest.raises(UnreadableAudio, match="4 channels; expected mono or stereo"):
        probe(save("surround.wav", np.zeros((4, 100))))
    with pytest.raises(UnreadableAudio, match="holds no audio"):
        probe(save("empty.wav", np.zeros((2, 0))))
    with pytest.raises(ValueError, match="expected >= 1"):
        read_window(save("fine.wav", np.zeros((2, 100))), 0, 0)
    with pytest.raises(UnreadableAudio, match="no whole FLAC"):
        decode_flac(b"fLaC nonsense")


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "aiff", "m4a", "mp4", "webm", "aac"])
def test_files_without_a_byte_or_with_a_header_alone_are_refused_by_name(tmp_path, save, noise_SN, suffix):
    (tmp_path / f"empty.{suffix}").write_bytes(b"")
    headers = [tmp_path / f"empty.{suffix}"]
    if suffix in ("wav", "flac", "aiff"):
        headers.append(save(f"header.{suffix}", noise_SN, subtype="PCM_16"))
        headers[-1].write_bytes(headers[-1].read_bytes()[:44])
    for path in headers:
        with pytest.raises(UnreadableAudio, match=rf"{path.stem}\.{suffix}"):
            list(read_blocks(path, 1_000))


def test_a_window_that_begins_before_the_file_begins_with_zeros(save, noise_SN):
    for rate_hz in (48_000, 44_100):
        path = save("noise.wav", noise_SN, rate_hz)
        window_SN = read_window(path, -300, 1_000)
        assert not window_SN[:, :300].any() and np.abs(window_SN[:, 300:] - read_window(path, 0, 700)).max() < 1e-6
        assert not read_window(path, -5_000, 5_000).any()


@pytest.mark.parametrize("rate_hz", [48_000, 44_100, 8_000])
def test_a_file_heard_in_blocks_is_the_file_windows_are_cut_from(save, noise_SN, rate_hz):
    path = save("noise.wav", noise_SN[:1], rate_hz)
    heard_SN = np.concatenate(list(stereo_blocks(read_rated_blocks(path, 1_234))), axis=1)
    assert abs(heard_SN.shape[1] - 96_000 * 48_000 / rate_hz) <= 1
    assert np.abs(heard_SN - read_window(path, 0, heard_SN.shape[1])).max() < 1e-5


def test_of_scipys_odd_wavs_each_is_read_whole_or_refused_by_name():
    assert len(ODD_WAVS) >= 20
    refused = {}
    for path in ODD_WAVS:
        try:
            info = probe(path)
            assert info.channels in (1, 2)
            assert sum(len(block_FS) for block_FS in read_blocks(path, 1_000)) == info.frames
            assert np.isfinite(read_window(path, 0, 1_000)).all()
        except UnreadableAudio as error:
            refused[path.name] = str(error)
            assert path.name in str(error)
    assert "cut short" in refused["test-44100Hz-le-1ch-4bytes-early-eof.wav"]
    assert "5 channels" in refused["test-8000Hz-le-5ch-9S-5bit.wav"]
    assert "unimplemented format" in refused["test-8000Hz-le-3ch-5S-64bit.wav"]
    assert "test-44100Hz-2ch-32bit-float-le.wav" not in refused
