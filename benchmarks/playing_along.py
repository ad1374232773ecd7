"""Playing along on this machine: seconds of every stage, and what is heard where windows meet.

    python benchmarks/playing_along.py speed [--seconds 10 180] [--rounds 5] [--threads 2]
    python benchmarks/playing_along.py seams --model DIR --context SONG.wav

`speed` takes the laptop's arms with random weights, which cost what trained ones do: +DiT with thirty steps and C-DiT
with five, the closed-form codec, noise as context. The first round is cold, p50 and p95 are of the others. `seams`
plays one part twice as a trained model does, and once in windows that know nothing of each other: the spectral flux in
the 50 ms around every seam as a share of its mean elsewhere, so that 1 is no seam at all, beside that of seams moved
elsewhere together.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from flows.scales import study_at
from models.accompanist import Accompanist, Wish
from models.arms import Arm
from models.codec import RATE_HZ
from models.denoiser import build_denoiser
from models.exported import ExportedModel, Statistics
from models.spectral import SpectralCodec, SpectralRecipe, fit_spectral
from tasks.audio_bytes import write_flac
from tasks.play_audio import mixed, read_music

HOP_SAMPLES, WINDOW_SAMPLES, SEAM_S = 512, 2048, 0.05


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = asked.add_subparsers(required=True)
    speed = commands.add_parser("speed")
    speed.add_argument("--seconds", type=int, nargs="+", default=[10, 180])
    speed.add_argument("--rounds", type=int, default=5)
    speed.add_argument("--threads", type=int, default=2)
    speed.set_defaults(run=tell_speed)
    seams = commands.add_parser("seams")
    seams.add_argument("--model", type=Path, required=True)
    seams.add_argument("--context", type=Path, required=True)
    seams.set_defaults(run=tell_seams)
    asked_for = asked.parse_args()
    asked_for.run(asked_for)


def tell_speed(asked_for: argparse.Namespace) -> None:
    """A line for each arm, length and stage."""
    torch.set_num_threads(asked_for.threads)
    arms = {arm.name: arm for arm in study_at("laptop").arms}
    for name, steps in (("C-DiT", 5), ("+DiT", 30)):
        player = untrained(arms[name])
        for seconds in asked_for.seconds:
            rounds = [stages(player, seconds, steps) for _ in range(asked_for.rounds + 1)]
            print(f"{name}, {steps} steps, {seconds} s of context, {asked_for.threads} threads", flush=True)
            for stage in (*rounds[0], "all"):
                cold, *warm = [sum(took.values()) if stage == "all" else took[stage] for took in rounds]
                p50, p95 = np.percentile(warm, (50, 95))
                print(f"  {stage:8s} cold {cold:7.3f}  p50 {p50:7.3f}  p95 {p95:7.3f} s", flush=True)


def untrained(arm: Arm) -> Accompanist:
    """An arm of the laptop's sizes with its first weights."""
    recipe = arm.denoiser.codec
    assert isinstance(recipe, SpectralRecipe)  # the laptop's
    noise_BSN = 0.1 * torch.randn(2, 2, 491_520)
    model = ExportedModel(
        arm=arm,
        denoiser=build_denoiser(arm.denoiser.network, arm.denoiser.objective, clap_width=128, seed=0).eval(),
        bridge=None,
        codec=SpectralCodec(recipe, fit_spectral(recipe, [noise_BSN])),
        clap=None,
        statistics=Statistics(np.zeros(64, dtype=np.float32), np.ones(64, dtype=np.float32)),
        window_samples=491_520,
        digest="",
        about={},
    )
    return Accompanist(model)


def stages(player: Accompanist, seconds: int, steps: int) -> dict[str, float]:
    """Seconds that one part of one context took, by stage."""
    with tempfile.NamedTemporaryFile(suffix=".flac") as file:
        write_flac(file.name, 0.1 * np.random.default_rng(0).standard_normal((2, seconds * RATE_HZ), dtype=np.float32))
        clock = [time.perf_counter()]
        context = read_music(Path(file.name), "the context")
    clock.append(time.perf_counter())
    heard = player.hear(torch.from_numpy(context.audio_2N))
    clock.append(time.perf_counter())
    take = player.play(heard, Wish(controls=player.controls.with_steps(steps)))
    clock.append(time.perf_counter())
    stem_2N = player.stem(take, 0).numpy()
    clock.append(time.perf_counter())
    mixed(context, stem_2N)
    clock.append(time.perf_counter())
    return dict(zip(("read", "encode", "sample", "decode", "mix"), np.diff(clock).tolist(), strict=True))


def tell_seams(asked_for: argparse.Namespace) -> None:
    """The flux around seams of a part that was played in windows, and of one whose windows were strangers."""
    player = Accompanist.load(asked_for.model)
    heard = player.hear(torch.from_numpy(read_music(asked_for.context, "the context").audio_2N))
    wish = Wish(controls=player.controls)
    take = player.play(heard, wish)
    frame_samples = player.model.codec.spec.chunk_samples // player.model.codec.spec.tokens_per_chunk
    window, overlap = player.window_frames, player.overlap_frames
    seams = range(window, heard.latent_1CL.shape[-1], window - overlap)
    told(player.stem(take, 0), [seam * frame_samples for seam in seams], "overlap inpainted")
    frames = heard.latent_1CL.shape[-1] // window * window
    parts = [
        player.play(
            heard._replace(latent_1CL=heard.latent_1CL[..., at : at + window], samples=window * frame_samples),
            replace(wish, seed=at),
        ).latent_BVCL
        for at in range(0, frames, window)
    ]
    strangers = take._replace(latent_BVCL=torch.cat(parts, dim=-1), samples=frames * frame_samples)
    told(player.stem(strangers, 0), [at * frame_samples for at in range(window, frames, window)], "strangers")


def told(stem_2N: Tensor, seams: list[int], what: str) -> None:
    flux_F = flux(stem_2N.mean(0))
    reach = round(SEAM_S / 2 * RATE_HZ / HOP_SAMPLES) or 1
    near_F = np.zeros(len(flux_F), dtype=bool)
    for seam in seams:
        near_F[max(seam // HOP_SAMPLES - reach, 0) : seam // HOP_SAMPLES + reach + 1] = True
    onset_F = flux_F > flux_F.mean() + 2 * flux_F.std()
    places = np.random.default_rng(0).integers(len(flux_F), size=2000)
    low, high = np.quantile([share(flux_F, np.roll(near_F, place)) for place in places], (0.025, 0.975))
    print(
        f"{what}: {len(seams)} seams, flux {share(flux_F, near_F):.2f} of elsewhere "
        f"({low:.2f} to {high:.2f} at 95 % of other places as far apart), "
        f"onsets {onset_F[near_F].mean():.3f} of frames there and {onset_F[~near_F].mean():.3f} elsewhere"
    )


def share(flux_F: np.ndarray, near_F: np.ndarray) -> float:
    """The mean flux in these frames over that of the others."""
    return float(flux_F[near_F].mean() / flux_F[~near_F].mean())


def flux(audio_N: Tensor) -> np.ndarray:
    """How much the log-magnitude spectrum rises from frame to frame."""
    spectrum_KF = torch.stft(
        audio_N, WINDOW_SAMPLES, HOP_SAMPLES, window=torch.hann_window(WINDOW_SAMPLES), return_complex=True
    ).abs()
    return torch.log1p(100 * spectrum_KF).diff(dim=1).clamp(min=0).mean(0).numpy()


if __name__ == "__main__":
    main()
