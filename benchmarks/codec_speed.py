"""Our codecs against the released packages of the same class: encoding and decoding on the same input, on the CPU.

    python benchmarks/codec_speed.py [--chunks 2] [--rounds 3] [--threads 1 2] [--only music2latent2]

All four networks have random weights of their full size and float32; the packages' own wrappers call theirs. Ours and
theirs take turns in one run, timed in seconds of CPU; a figure above 1 says that ours was faster. Music2Latent2
decodes in two steps; CoDiCodec autoregressively (2 steps a chunk) and in parallel (5 steps, its default, and 3).
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from models.codec import CHUNK_SAMPLES, Codec, LatentClip
from models.codecs import preset, untrained
from models.quarantine import process_unchanged

Action = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Contest:
    """The same work done by us and by a package."""

    name: str
    ours: Action
    theirs: Action


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--chunks", type=int, default=2, help=f"length of the audio, in {CHUNK_SAMPLES} samples")
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    asked.add_argument("--only", choices=CLASSES, help="one of the two classes")
    asked_for = asked.parse_args()
    warnings.filterwarnings("ignore", message="CUDA is not available")  # the packages' autocast
    print(f"{asked_for.chunks * CHUNK_SAMPLES / 48_000:.2f} s of 48 kHz audio, float32, {asked_for.rounds} rounds")
    for name, contests in CLASSES.items():
        if asked_for.only in (None, name):
            for contest in contests(asked_for.chunks):
                for threads in asked_for.threads:
                    torch.set_num_threads(threads)
                    print(f"{threads} threads, {verdict(contest, asked_for.rounds)}", flush=True)


def verdict(contest: Contest, rounds: int) -> str:
    """Ratio of the medians of alternating runs, and the smallest and greatest ratio of one round."""
    contest.ours(), contest.theirs()  # buffers and kernels are chosen here
    pairs = [(seconds(contest.ours), seconds(contest.theirs)) for _ in range(rounds)]
    ours_s, theirs_s = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratios = [theirs / ours for ours, theirs in pairs]
    return (
        f"{contest.name:44} ours {ours_s:6.2f} s, theirs {theirs_s:6.2f} s: {theirs_s / ours_s:4.2f} times as fast "
        f"({min(ratios):.2f} to {max(ratios):.2f})"
    )


def seconds(action: Action) -> float:
    """CPU time of this process and its threads, which other processes do not lengthen."""
    start_s = time.process_time()
    action()
    return time.process_time() - start_s


def stereo_contests(chunks: int) -> Iterator[Contest]:
    """Music2Latent2 against CoDiCodec, both stereo, both 8 vectors of 64 a chunk."""
    ours, theirs = untrained(preset("music2latent2", "base"), seed=0).eval(), wrapper("codicodec")
    print(f"Music2Latent2 {parameters(ours)}, CoDiCodec {parameters(theirs.gen)}")
    audio_BSN = noise(1, 2, chunks * CHUNK_SAMPLES)
    given_SN = with_margin(audio_BSN[0], 1024)
    latents = theirs.encode(given_SN)
    decode = partial(decoded, ours, audio_BSN)
    yield Contest(name="encode", ours=partial(ours.encode, audio_BSN), theirs=partial(theirs.encode, given_SN))
    for name, options in (
        ("autoregressive, 2 steps", {"mode": "autoregressive"}),
        ("parallel, 5 steps", {"mode": "parallel"}),
        ("parallel, 3 steps", {"mode": "parallel", "denoising_steps": 3}),
    ):
        yield Contest(name=f"decode, {name}", ours=decode, theirs=partial(theirs.decode, latents, **options))


def mono_contests(chunks: int) -> Iterator[Contest]:
    """Music2Latent against the package of that name, both mono; the package knows a batch as channels."""
    ours, theirs = untrained(preset("music2latent", "base"), seed=0).eval(), wrapper("music2latent")
    print(f"Music2Latent {parameters(ours)}, the package's {parameters(theirs.gen)}")
    for batch in (1, 8):
        length = chunks if batch == 1 else 1
        audio_BSN = noise(batch, 1, length * CHUNK_SAMPLES)
        given_BN = with_margin(audio_BSN[:, 0], 1536)
        latents = theirs.encode(given_BN, max_batch_size=batch)
        options: dict[str, Any] = {"max_batch_size": batch}
        yield Contest(
            name=f"encode {batch} × {length} chunks",
            ours=partial(ours.encode, audio_BSN),
            theirs=partial(theirs.encode, given_BN, **options),
        )
        yield Contest(
            name=f"decode {batch} × {length} chunks",
            ours=partial(decoded, ours, audio_BSN),
            theirs=partial(theirs.decode, latents, **options),
        )


CLASSES = {"music2latent2": stereo_contests, "music2latent": mono_contests}


def wrapper(package: str) -> Any:
    """The package's `EncoderDecoder` around its network, fresh: its constructor would download the weights."""
    with process_unchanged():
        inference = importlib.import_module(f"{package}.inference")
        network = importlib.import_module(f"{package}.models").UNet().eval()
        utilities: Any = importlib.import_module(f"{package}.utils")
    utilities.mixed_precision = False  # float16 on the CPU would be another dtype than ours, and slower
    made = inference.EncoderDecoder.__new__(inference.EncoderDecoder)
    made.gen, made.device = network, torch.device("cpu")
    made.bottleneck_channels = 4  # CoDiCodec's; Music2Latent's wrapper has no such thing
    return made


def decoded(codec: Codec, audio_BSN: Tensor) -> Tensor:
    """Audio of latents of that shape; what they hold does not matter to the clock."""
    samples = audio_BSN.shape[-1]
    latent_BCT = noise(len(audio_BSN), codec.spec.latent_width, codec.spec.latent_frames(samples)).tanh()
    generators = [torch.Generator().manual_seed(item) for item in range(len(audio_BSN))]
    return codec.decode(LatentClip(latent_BCT, samples), generators=generators)


def with_margin(audio_XN: Tensor, margin_samples: int) -> Tensor:
    """As much more audio as makes the package, which pads nothing, draw as many frames as we do."""
    return nn.functional.pad(audio_XN, (0, margin_samples))


def noise(*shape: int) -> Tensor:
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(0))


def parameters(network: nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in network.parameters()) / 1e6:.1f} M"


if __name__ == "__main__":
    main()
