"""Claims about `stemwright codec fit`, `roundtrip` and `verify`, on a folder of a few seconds of audio."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from typer.testing import CliRunner, Result

from flows import codec_work
from flows.__main__ import app
from flows.request import StudyRequest
from flows.scales import study_at
from models.codec import LatentClip
from models.music2latent2 import Music2Latent2
from models.spectral import SpectralCodec, SpectralRecipe
from tasks import codec_checks
from tasks.audio_bytes import write_flac
from tasks.audio_folder import AudioFile
from tasks.fit_codec import load_codec
from tasks.fit_codec_on_audio import FitCodecOnAudio
from tasks.import_codec import ImportCodec
from tasks.store import Store


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["codec", *arguments])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with music of a sort, and a spectral codec fitted on it."""
    place = tmp_path_factory.mktemp("codecs")
    random = np.random.default_rng(0)
    time_N = np.arange(6 * 48_000) / 48_000
    (place / "audio").mkdir()
    for number in range(3):
        tones = sum(np.sin(2 * np.pi * hz * time_N) for hz in random.uniform(80, 2000, 5)) / 10
        noise = 0.05 * random.standard_normal((2, len(time_N))) * np.exp(-8 * (time_N % 0.5))
        write_flac(place / "audio" / f"{number}.flac", (tones + noise).astype(np.float32))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec_work, "SPECTRAL_WINDOWS", 8)
        result = run("fit", "--codec", "spectral-mono", *folder(place), "--out", str(place / "mono"))
    assert result.exit_code == 0, result.output
    return place


def folder(place: Path) -> tuple[str, ...]:
    return ("--audio", str(place / "audio"), "--workspace", str(place / "workspace"), "--device", "cpu")


def test_a_fitted_codec_is_a_folder_of_weights_recipe_and_record(place: Path) -> None:
    codec = load_codec(str(place / "mono"))
    record = json.loads((place / "mono" / "record.json").read_text())
    assert codec.spec.name == "spectral-mono"
    assert record["files"]["codec.safetensors"]["sha256"] == codec.spec.weights_sha256


def test_a_study_takes_a_codec_that_was_fitted_before(place: Path, tmp_path: Path) -> None:
    request = StudyRequest(scale="tiny", mono_codec=str(place / "mono"), workspace=str(tmp_path))
    study, runtime = request.study(), request.runtime()
    mono, *stereo = (arm.denoiser.codec for arm in study.arms)
    assert mono == SpectralRecipe(audio_channels=1)
    assert [arm.denoiser.codec for arm in study_at("tiny").arms[1:]] == stereo
    made = Store(tmp_path / "artifacts").build(ImportCodec(recipe=mono, sha256=dict(study.brought)[mono]), runtime)
    assert load_codec(made.location).spec == load_codec(str(place / "mono")).spec


def test_a_codec_of_the_other_channels_or_of_no_folder_is_refused(place: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="spectral, mono, and a stereo codec is wanted there; give it as --mono-codec"):
        StudyRequest(scale="tiny", stereo_codec=str(place / "mono")).study()
    with pytest.raises(ValueError, match="no codec at"):
        StudyRequest(scale="tiny", stereo_codec=str(tmp_path / "absent")).study()
    with pytest.raises(ValueError, match=r"has no codec\.json and no codec\.safetensors"):
        StudyRequest(scale="tiny", stereo_codec=str(tmp_path)).study()
    (tmp_path / "released.pt").touch()
    with pytest.raises(ValueError, match="--accept-noncommercial"):
        StudyRequest(scale="tiny", stereo_codec=str(tmp_path / "released.pt")).study()


def test_the_same_command_again_trains_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec_work, "SPECTRAL_WINDOWS", 8)
    monkeypatch.setattr(FitCodecOnAudio, "run", lambda *_: pytest.fail("it was fitted before"))
    result = run("fit", "--codec", "spectral-mono", *folder(place), "--out", str(place / "again"))
    assert result.exit_code == 0, result.output
    assert (place / "again" / "codec.safetensors").read_bytes() == (place / "mono" / "codec.safetensors").read_bytes()


def test_a_training_that_was_killed_goes_on_and_ends_with_the_same_weights(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks import fit_codec_on_audio

    windows = fit_codec_on_audio.random_windows

    def killed(files: list[AudioFile], samples: int, *, seed: int) -> Iterator[np.ndarray]:
        for number, window in enumerate(windows(files, samples, seed=seed)):
            if number == 3:
                raise KeyboardInterrupt
            yield window

    steps, loss = [], Music2Latent2.loss
    monkeypatch.setattr(Music2Latent2, "loss", lambda *arguments: steps.append(None) or loss(*arguments))
    wish = ["fit", "--codec", "music2latent2", "--size", "tiny", "--steps", "4", "--batch", "1", "--save-every", "2"]
    wish += ["--audio", str(place / "audio"), "--device", "cpu"]
    monkeypatch.setattr(fit_codec_on_audio, "random_windows", killed)
    stopped, whole = place / "stopped", place / "whole"
    first = run(*wish, "--out", str(stopped), "--workspace", str(place / "one"))
    assert first.exit_code != 0 and not stopped.exists()
    monkeypatch.setattr(fit_codec_on_audio, "random_windows", windows)
    for out, workspace, made_now in ((stopped, "one", 2), (whole, "two", 4)):
        steps.clear()
        assert run(*wish, "--out", str(out), "--workspace", str(place / workspace)).exit_code == 0
        assert len(steps) == made_now
    assert (stopped / "codec.safetensors").read_bytes() == (whole / "codec.safetensors").read_bytes()
    assert [json.loads(line)["step"] for line in (stopped / "telemetry.jsonl").read_text().splitlines()] == [4]


def test_a_wish_that_cannot_be_had_is_refused(place: Path) -> None:
    for wish, told in (
        (("--codec", "mp3"), "spectral-stereo, spectral-mono, music2latent, music2latent2"),
        (("--codec", "music2latent2", "--size", "huge"), "tiny"),
        (("--codec", "spectral-mono", "--steps", "5"), "closed form"),
        (("--codec", "spectral-mono", "--corpus", str(place / "audio")), "not both"),
    ):
        result = run("fit", *wish, *folder(place), "--out", str(place / "refused"))
        assert result.exit_code == 2 and told in result.stderr
    assert not (place / "refused").exists()


def test_round_trips_give_audio_pictures_and_one_table(place: Path) -> None:
    out = place / "trips"
    asked = ["--clips", "4", "--seconds", "1", "--examples", "1", "--out", str(out)]
    result = run("roundtrip", str(place / "mono"), str(place / "mono"), *folder(place), *asked)
    assert result.exit_code == 0, result.output
    table = pl.read_parquet(out / "roundtrip.parquet")
    assert table["codec"].to_list() == ["mono", "mono-2", "white noise"]
    codec, again, noise = table.to_dicts()
    assert codec["fad"] < 0.5 * noise["fad"] and codec["log_mel_distance_db"] < 0.3 * noise["log_mel_distance_db"]
    assert codec["compression"] == 64 and codec["latents_per_s"] == pytest.approx(11.72, abs=0.01)
    assert codec["encode_rtf"] > 0 and codec["decode_rtf"] > 0
    for figure in ("stft_distance", "log_mel_distance_db", "si_sdr_db", "fad", "weights_sha256"):
        assert codec[figure] == again[figure], "two runs of one codec differ"
    assert len(list(out.glob("original/*.flac"))) == len(list(out.glob("mono/*.png"))) == 1
    markdown = (out / "roundtrip.md").read_text()
    assert "expected to be negative" in markdown and "| white noise |" in markdown
    assert "expected to be negative" in result.output and codec["weights_sha256"][:8] in result.output


def test_round_trips_of_what_is_no_codec_say_how_to_make_one(place: Path) -> None:
    result = run("roundtrip", str(place / "audio"), *folder(place), "--out", str(place / "none"))
    assert result.exit_code == 2 and "stemwright codec fit" in result.stderr


def test_a_sound_codec_passes_every_check(place: Path) -> None:
    result = run("verify", str(place / "mono"))
    assert result.exit_code == 0, result.output
    assert "FAILED" not in result.output and "480000 samples" in result.output


def test_a_codec_whose_weights_were_changed_fails_its_digest(place: Path) -> None:
    changed = place / "changed"
    changed.mkdir()
    for name in ("codec.safetensors", "record.json"):
        (changed / name).write_bytes((place / "mono" / name).read_bytes())
    (changed / "codec.json").write_text((place / "mono" / "codec.json").read_text().replace("0.0001", "0.0002"))
    result = run("verify", str(changed))
    assert result.exit_code == 1 and "codec.json differ from record.json" in result.output


class Deaf(SpectralCodec):
    """Latents that say the same of every sound, and a decode with noise that nobody seeded."""

    def encode(self, audio_BSN: torch.Tensor) -> LatentClip:
        clip = super().encode(audio_BSN)
        return LatentClip(torch.ones_like(clip.latent_BCT), clip.samples)

    def decode(self, clip: LatentClip, *, generators: list[torch.Generator]) -> torch.Tensor:
        audio_BSN = super().decode(clip, generators=generators)
        return audio_BSN[..., :-1] + torch.rand(len(audio_BSN), 1, clip.samples - 1)


def test_a_broken_codec_fails_the_checks_that_it_breaks(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = load_codec(str(place / "mono"))
    assert isinstance(sound, SpectralCodec)
    deaf = Deaf(SpectralRecipe(audio_channels=1), dict(sound.state_dict()), sound.spec.weights_sha256)
    monkeypatch.setattr(codec_checks, "load_codec", lambda _: deaf)
    failed = {check.name for check in codec_checks.codec_checks(place / "mono") if not check.passed}
    assert failed == {
        *(f"{samples} samples" for samples in codec_checks.LENGTHS),
        "a batch equals a loop",
        "same seed, same bytes",
        "latents tell sounds apart",
        "latents are not saturated",
    }
