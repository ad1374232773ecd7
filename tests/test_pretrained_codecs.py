"""Claims about the quarantined codec packages, with random weights in a small version of their networks.

Not testable here: the released weights, hence any figure of quality. What is compared with the packages is their
framing, their power law and their latent scaling.
"""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from models.codec import LatentClip
from models.codecs import build_codec
from models.pretrained_codicodec import PretrainedCoDiCodec, PretrainedCoDiCodecRecipe
from models.pretrained_music2latent import PretrainedMusic2Latent, PretrainedMusic2LatentRecipe
from models.quarantine import NoncommercialError, process_unchanged, read_checkpoint
from models.stft import PowerStft

Seeds = Callable[..., list[torch.Generator]]


@pytest.fixture
def seeds() -> Seeds:
    return lambda *numbers: [torch.Generator().manual_seed(number) for number in numbers]


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


def test_the_quarantine_restores_what_the_packages_change() -> None:
    torch.manual_seed(3)
    before = (dict(os.environ), list(sys.path), torch.backends.cudnn.benchmark, torch.get_rng_state())
    with process_unchanged():
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = "elsewhere"
        sys.path.append("elsewhere")
        torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark
        torch.rand(1)
    after = (dict(os.environ), list(sys.path), torch.backends.cudnn.benchmark, torch.get_rng_state())
    assert before[:3] == after[:3]
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
