"""Claims about the quarantined codec packages, with random weights in a small version of their networks.

Not testable here: the released weights, hence any figure of quality. What is compared with the packages is their
framing, their power law, their latent scaling, and what their own encode and decode give.
"""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from models import pretrained_codicodec, pretrained_music2latent
from models.codec import LatentClip
from models.codecs import build_codec
from models.pretrained_codicodec import PretrainedCoDiCodec, PretrainedCoDiCodecRecipe
from models.pretrained_music2latent import PretrainedMusic2Latent, PretrainedMusic2LatentRecipe
from models.quarantine import NoncommercialError, process_unchanged, read_checkpoint, seeded_process
from models.stft import PowerStft
from models.weights import load_metadata
from tasks.fit_codec import load_codec
from tasks.import_codec import ImportCodec
from tasks.runtime import Runtime
from tasks.whole_files import file_sha256

Seeds = Callable[..., list[torch.Generator]]


def imported(name: str) -> ModuleType:
    with process_unchanged():
        return pytest.importorskip(name)


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as context:
        yield context


@pytest.fixture(scope="module")
def music2latent_checkpoint(patch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    package = imported("music2latent.models")
    patch.setattr(package, "base_channels", 8)
    patch.setattr(package, "bottleneck_base_channels", 16)
    patch.setattr(package, "num_bottleneck_layers", 1)
    return saved(package, tmp_path_factory.mktemp("music2latent"))


@pytest.fixture(scope="module")
def codicodec_checkpoint(patch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    package = imported("codicodec.models")
    small = {"dim": 32, "heads": 2, "num_layers": 1, "num_layers_encoder": 1, "frontend_base_channels": 4}
    for name, value in {**small, "frontend_layers_list": [1] * 4, "frontend_encoder_layers_list": [1] * 4}.items():
        patch.setattr(package, name, value)
    return saved(package, tmp_path_factory.mktemp("codicodec"))


def saved(package: ModuleType, folder: Path) -> Path:
    """A checkpoint as released: state dict and NumPy scalars in one pickle; zeros woken so that all paths carry."""
    with process_unchanged():
        torch.manual_seed(0)
        network = package.UNet()
        for parameter in network.parameters():
            if parameter.requires_grad and not parameter.any():
                parameter.data.normal_(std=0.1)
    path = folder / "weights.pt"
    torch.save({"gen_state_dict": network.state_dict(), "fad": np.float64(1.5), "it": np.int64(7)}, path)
    return path


@pytest.fixture(scope="module")
def mono(music2latent_checkpoint: Path) -> PretrainedMusic2Latent:
    recipe = PretrainedMusic2LatentRecipe(accept_noncommercial=True)
    return PretrainedMusic2Latent(recipe, read_checkpoint(music2latent_checkpoint), "digest")


@pytest.fixture(scope="module")
def stereo(codicodec_checkpoint: Path) -> PretrainedCoDiCodec:
    recipe = PretrainedCoDiCodecRecipe(accept_noncommercial=True, denoising_steps=2)
    return PretrainedCoDiCodec(recipe, read_checkpoint(codicodec_checkpoint), "digest")


@pytest.mark.parametrize("recipe", [PretrainedMusic2LatentRecipe(), PretrainedCoDiCodecRecipe()], ids=["m2l", "codi"])
def test_noncommercial_weights_are_refused_unless_accepted(
    recipe: PretrainedMusic2LatentRecipe | PretrainedCoDiCodecRecipe,
) -> None:
    with pytest.raises(NoncommercialError, match="accept_noncommercial"):
        build_codec(recipe, {}, weights_sha256="")


@pytest.mark.parametrize("samples", [2048, 32_769])
def test_music2latent_round_trip_returns_exactly_the_samples(
    mono: PretrainedMusic2Latent, seeds: Seeds, samples: int
) -> None:
    clip = mono.encode(0.1 * torch.randn(2, 2, samples, generator=seeds(0)[0]))
    assert clip.latent_BCT.shape == (2, 64, mono.spec.latent_frames(samples))
    assert mono.decode(clip, generators=seeds(0, 1)).shape == (2, 1, samples)
    assert mono.spec.noncommercial


@pytest.mark.parametrize("samples", [2048, 32_769])
def test_codicodec_round_trip_returns_exactly_the_samples(
    stereo: PretrainedCoDiCodec, seeds: Seeds, samples: int
) -> None:
    clip = stereo.encode(0.1 * torch.randn(2, 1, samples, generator=seeds(0)[0]))
    assert clip.latent_BCT.shape == (2, 64, stereo.spec.latent_frames(samples))
    assert stereo.decode(clip, generators=seeds(0, 1)).shape == (2, 2, samples)
    assert stereo.spec.noncommercial


def test_decoding_one_by_one_equals_the_batch_and_leaves_the_global_seed(
    mono: PretrainedMusic2Latent, stereo: PretrainedCoDiCodec, seeds: Seeds
) -> None:
    for codec in (mono, stereo):
        latents = torch.randn(2, 64, 8, generator=seeds(0)[0])
        before = torch.get_rng_state()
        together = codec.decode(LatentClip(latents, 32_768), generators=seeds(4, 5))
        assert torch.equal(before, torch.get_rng_state())
        last = codec.decode(LatentClip(latents[1:], 32_768), generators=seeds(5))
        assert torch.allclose(together[1:], last, atol=1e-4)
        assert not torch.allclose(last, codec.decode(LatentClip(latents[1:], 32_768), generators=seeds(6)), atol=1e-3)


def test_our_framing_is_the_packages_framing_away_from_the_edges(
    mono: PretrainedMusic2Latent, stereo: PretrainedCoDiCodec, seeds: Seeds
) -> None:
    audio = 0.1 * torch.randn(1, 2, 16_384, generator=seeds(0)[0])
    margin = mono.stft.framing.margin_samples
    theirs = imported("music2latent.audio").to_representation_encoder(audio[0, :1, 512 - margin % 512 :])
    ours = mono.stft.represent(audio[:, :1])
    assert torch.allclose(theirs, ours[..., 2 : 2 + theirs.shape[-1]], atol=1e-4)
    shifted: PowerStft = stereo.stft
    theirs = imported("codicodec.audio").to_representation_encoder(audio[..., 512:])
    assert torch.allclose(theirs, shifted.represent(audio)[..., 1 : 1 + theirs.shape[-1]], atol=1e-4)


def test_codicodec_latents_are_laid_out_as_its_wrapper_does(stereo: PretrainedCoDiCodec, seeds: Seeds) -> None:
    wrapper = imported("codicodec.inference").EncoderDecoder.__new__(imported("codicodec.inference").EncoderDecoder)
    wrapper.bottleneck_channels = 4
    audio = 0.1 * torch.randn(1, 2, 32_768, generator=seeds(0)[0])
    with torch.no_grad():
        inner = stereo.network.encoder_forward(stereo.stft.represent(audio), dont_quantize=True)
    expected = torch.atanh(wrapper.latents2dim(inner)) / 0.8
    assert torch.allclose(stereo.encode(audio).latent_BCT.transpose(1, 2), expected, atol=1e-5)


def wrapper(package: str, network: Any, checkpoint: Path) -> Any:
    """The package's `EncoderDecoder` with a network loaded by its own code; its constructor would call the hub."""
    inference, networks = imported(f"{package}.inference"), imported(f"{package}.models")
    made = inference.EncoderDecoder.__new__(inference.EncoderDecoder)
    made.device, made.load_path_inference = torch.device("cpu"), checkpoint
    made.bottleneck_channels, made.latents_per_timestep = 4, 128
    with process_unchanged():
        assert type(network) is networks.UNet
        made.get_models()
    return made


@pytest.mark.filterwarnings("ignore:CUDA is not available")
def test_music2latent_encodes_and_decodes_as_the_package_does(
    mono: PretrainedMusic2Latent, music2latent_checkpoint: Path, seeds: Seeds
) -> None:
    package = wrapper("music2latent", mono.network, music2latent_checkpoint)
    margin = mono.stft.framing.margin_samples
    audio = 0.1 * torch.randn(1, 1, 32_768, generator=seeds(0)[0])
    clip = mono.encode(audio)
    theirs = package.encode(torch.nn.functional.pad(audio[0], (margin, margin)))
    assert torch.allclose(clip.latent_BCT, theirs, rtol=1e-3, atol=1e-3)
    with process_unchanged():
        torch.manual_seed(7)
        expected = package.decode(theirs)[..., margin:-margin]
    ours = mono.decode(clip, generators=seeds(7))
    assert ours.abs().max() > 0.01
    assert torch.allclose(ours[0, ..., 2048:-2048], expected[..., 2048:-2048], atol=1e-3)


def test_codicodec_encodes_and_decodes_as_the_package_does(
    stereo: PretrainedCoDiCodec, codicodec_checkpoint: Path, seeds: Seeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = wrapper("codicodec", stereo.network, codicodec_checkpoint)
    monkeypatch.setattr(imported("codicodec.utils"), "mixed_precision", False)  # or it computes in float16 on the CPU
    margin = stereo.stft.framing.margin_samples
    audio = 0.1 * torch.randn(1, 2, 2 * 32_768, generator=seeds(0)[0])
    clip = stereo.encode(audio)
    theirs = package.encode(torch.nn.functional.pad(audio[0], (margin, margin)))
    assert torch.allclose(clip.latent_BCT[0].T, theirs.flatten(0, 1), atol=1e-4)
    with seeded_process(seeds(7)[0], torch.device("cpu")):
        expected = package.decode(theirs, denoising_steps=2)[..., margin:-margin]
    ours = stereo.decode(clip, generators=seeds(7))
    assert ours.abs().max() > 0.01
    assert torch.allclose(ours[0, ..., 2048:-2048], expected[..., 2048:-2048], atol=1e-3)


def test_a_long_clip_goes_through_the_networks_in_stretches(
    mono: PretrainedMusic2Latent, stereo: PretrainedCoDiCodec, seeds: Seeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five chunks, two a pass: no call holds more, and the length is exact."""
    seen: list[int] = []
    for module, inner, name in (
        (pretrained_music2latent, mono.network.get_submodule("encoder"), "forward"),
        (pretrained_music2latent, mono.network, "forward"),
        (pretrained_codicodec, stereo.network, "encoder_forward"),
        (pretrained_codicodec, stereo.network, "decode_single_parallel"),
    ):
        monkeypatch.setattr(module, "CHUNKS_PER_PASS", 2)
        monkeypatch.setattr(inner, name, counted(getattr(inner, name), seen))
    audio = 0.1 * torch.randn(1, 1, 5 * 32_768 - 9, generator=seeds(0)[0])
    for codec, greatest in ((mono, 2 * 2 * 1024 * 64), (stereo, 2 * 4 * 1024 * 32)):
        seen.clear()
        clip = codec.encode(audio)
        assert clip.latent_BCT.shape == (1, 64, 40)
        assert codec.decode(clip, generators=seeds(1)).shape[-1] == audio.shape[-1]
        assert len(seen) == 6 and max(seen) <= greatest


def counted(call: Callable[..., Any], seen: list[int]) -> Callable[..., Any]:
    """The call, which notes how many numbers its first argument holds."""

    def counting(first: torch.Tensor, *others: Any, **named: Any) -> Any:
        seen.append(first.numel())
        return call(first, *others, **named)

    return counting


def test_an_imported_codec_loads_like_a_fitted_one(codicodec_checkpoint: Path, tmp_path: Path, seeds: Seeds) -> None:
    recipe, digest = PretrainedCoDiCodecRecipe(accept_noncommercial=True), file_sha256(codicodec_checkpoint)
    runtime = Runtime(workspace=str(tmp_path), local_files={digest: str(codicodec_checkpoint)})
    told = ImportCodec(recipe=recipe, sha256=digest).run(tmp_path, runtime)
    codec = load_codec(str(tmp_path))
    assert told == {"source": digest, "weights": codec.spec.weights_sha256}
    assert load_metadata(tmp_path / "codec.safetensors") == {"source_sha256": digest}
    assert codec.encode(torch.zeros(1, 2, 9)).latent_BCT.isfinite().all()
    with pytest.raises(NoncommercialError):
        ImportCodec(recipe=PretrainedCoDiCodecRecipe(), sha256=digest).run(tmp_path, runtime)
    with pytest.raises(ValueError, match="no local file"):
        ImportCodec(recipe=recipe, sha256="0" * 64).run(tmp_path, runtime)
    swapped = Runtime(workspace=str(tmp_path), local_files={"0" * 64: str(codicodec_checkpoint)})
    with pytest.raises(ValueError, match="give the same file"):
        ImportCodec(recipe=recipe, sha256="0" * 64).run(tmp_path, swapped)


def test_the_quarantine_restores_what_the_packages_change() -> None:
    torch.manual_seed(3)
    threads = torch.get_num_threads()
    before = (dict(os.environ), list(sys.path), torch.backends.cudnn.benchmark, torch.get_rng_state())
    with process_unchanged():
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = "elsewhere"
        sys.path.append("elsewhere")
        torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark
        torch.set_num_threads(threads + 1)
        torch.rand(1)
    after = (dict(os.environ), list(sys.path), torch.backends.cudnn.benchmark, torch.get_rng_state())
    assert before[:3] == after[:3]
    assert torch.get_num_threads() == threads
    assert torch.equal(before[3], after[3])


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.pt"
    torch.save({"gen_state_dict": {"weight": Path("anything")}}, path)
    with pytest.raises(ValueError, match="without running code"):
        read_checkpoint(path)
    with pytest.raises(ValueError, match="no checkpoint at"):
        read_checkpoint(tmp_path / "absent.pt")
    torch.save({"other": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="gen_state_dict"):
        read_checkpoint(path)
