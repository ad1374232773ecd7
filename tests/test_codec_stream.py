"""Claims about decoding and encoding chunk by chunk, and about decoding all chunks in parallel."""

from collections.abc import Callable

import pytest
import torch
from micro_codecs import STEREO, woken

from models import parallel_decoding
from models.codec import LatentClip, seeded_noise
from models.codec_consistency import LEVELS, SIGMA_MAX, renoised
from models.codecs import untrained
from models.consistency_codec import joined
from models.music2latent2 import Music2Latent2

CHUNK, MARGIN = 32_768, 512
Seeds = Callable[..., list[torch.Generator]]


@pytest.fixture(scope="module")
def codec() -> Music2Latent2:
    return woken(untrained(STEREO, seed=0))


@pytest.fixture(scope="module")
def latents() -> torch.Tensor:
    """Two clips (2, 64, 24) of three chunks."""
    return 0.5 * torch.randn(2, 64, 24, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("rows", [1, 2])
def test_pushed_chunks_give_the_audio_of_decode_bit_for_bit(
    codec: Music2Latent2, seeds: Seeds, latents: torch.Tensor, rows: int
) -> None:
    stream = codec.stream(generators=seeds(5, 6)[:rows])
    pieces = [stream.push(chunk) for chunk in latents[:rows].split(8, dim=2)] + [stream.flush()]
    assert [piece.shape[-1] for piece in pieces] == [0, CHUNK - MARGIN, CHUNK, CHUNK + MARGIN]
    whole = codec.decode(LatentClip(latents[:rows], 3 * CHUNK - 7), generators=seeds(5, 6)[:rows])
    assert torch.equal(torch.cat(pieces, dim=-1)[..., :-7], whole)


def test_streamed_audio_is_the_joined_spectrogram_without_seams(
    codec: Music2Latent2, seeds: Seeds, latents: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    refined: list[torch.Tensor] = []
    denoise = codec.denoise

    def noted(noisy: torch.Tensor, sigma: torch.Tensor, features: list[torch.Tensor]) -> torch.Tensor:
        out = denoise(noisy, sigma, features)
        if sigma[0, 0] < SIGMA_MAX:
            refined.append(out[:, :1])
        return out

    monkeypatch.setattr(codec, "denoise", noted)
    audio = codec.decode(LatentClip(latents, 3 * CHUNK), generators=seeds(1, 2))
    expected = codec.stft.audio(joined(torch.cat(refined, dim=1))).clamp(-1, 1)
    assert len(refined) == 3
    assert torch.allclose(audio, expected, atol=1e-6)


def test_a_flushed_stream_starts_anew_and_an_empty_one_says_so(
    codec: Music2Latent2, seeds: Seeds, latents: torch.Tensor
) -> None:
    stream = codec.stream(generators=seeds(5, 6))
    with pytest.raises(ValueError, match="nothing was pushed"):
        stream.flush()
    for _ in range(2):
        stream.push(latents[..., :8])
        assert stream.flush().shape == (2, 2, CHUNK)
    with pytest.raises(ValueError, match=r"one chunk has \(2, 64, 8\)"):
        stream.push(latents)


@pytest.mark.parametrize("samples", [300, CHUNK, 2 * CHUNK + MARGIN, 3 * CHUNK - 5])
def test_audio_pushed_in_any_pieces_has_the_latents_of_the_whole(codec: Music2Latent2, samples: int) -> None:
    audio = 0.1 * torch.randn(2, 1, samples, generator=torch.Generator().manual_seed(samples))
    stream = codec.encoding_stream()
    pieces = [stream.push(piece) for piece in audio.split(20_000, dim=-1)] + [stream.flush()]
    assert torch.allclose(torch.cat(pieces, dim=-1), codec.encode(audio).latent_BCT, atol=1e-5)
    with pytest.raises(ValueError, match="push audio first"):
        stream.flush()


def test_parallel_decoding_pairs_other_neighbours_in_every_step(
    codec: Music2Latent2, seeds: Seeds, latents: torch.Tensor
) -> None:
    features = [codec.features(chunk) for chunk in latents[:1].split(8, dim=2)]

    def denoise(noisy: torch.Tensor, sigma: float, chunks: tuple[int, ...]) -> torch.Tensor:
        told = [torch.cat(level, dim=1) for level in zip(*(features[chunk] for chunk in chunks), strict=True)]
        return codec.denoise(noisy[:, list(chunks)], torch.full((1, len(chunks)), sigma), told)

    source, middle = seeds(4), float(LEVELS.sigma(torch.tensor(0.5)))
    first, second = (seeded_noise((3, 4, 1024, 32), source, latents) for _ in range(2))
    drawn = torch.cat([denoise(80 * first, 80.0, (0, 1)), denoise(80 * first, 80.0, (2,))], dim=1)
    noisy = renoised(drawn, middle, second)
    final = torch.cat([denoise(noisy, middle, (0,)), denoise(noisy, middle, (1, 2))], dim=1)
    expected = codec.stft.audio(joined(final)).clamp(-1, 1)
    audio = codec.decode(LatentClip(latents[:1], 3 * CHUNK), generators=seeds(4), parallel_steps=2)
    assert torch.allclose(audio, expected, atol=1e-4)


def test_parallel_decoding_depends_on_its_seeds_alone(
    codec: Music2Latent2, seeds: Seeds, latents: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = LatentClip(latents, 3 * CHUNK - 9)
    together = codec.decode(clip, generators=seeds(7, 8), parallel_steps=3)
    assert torch.equal(together, codec.decode(clip, generators=seeds(7, 8), parallel_steps=3))
    monkeypatch.setattr(parallel_decoding, "PAIRS_PER_PASS", 1)
    last = codec.decode(LatentClip(latents[1:], clip.samples), generators=seeds(8), parallel_steps=3)
    assert torch.allclose(together[1:], last, atol=1e-4)
    assert not torch.allclose(together[:1], last, atol=1e-2)


def test_a_single_chunk_decodes_in_parallel_and_no_steps_are_refused(
    codec: Music2Latent2, seeds: Seeds, latents: torch.Tensor
) -> None:
    clip = LatentClip(latents[:1, :, :8], 1000)
    assert codec.decode(clip, generators=seeds(0), parallel_steps=2).shape == (1, 2, 1000)
    with pytest.raises(ValueError, match="in 0 steps"):
        codec.decode(clip, generators=seeds(0), parallel_steps=0)
