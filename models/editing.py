"""What a trained arm does with latents beyond sampling: filling a region, going on, looping, mixing two CLAP vectors.

Each edit is an ordinary sampler run on a denoiser that has been told something, so every sampler of `sampling` serves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from models.conditioning import Conditions
from models.denoiser import Denoiser
from models.edm import Denoise, per_item
from models.guidance import Guidance, guided
from models.sampling import ConsistencySampler, Sampler, check_count, noise_of, run_sampler, variation_levels

# Shapes: B batch, C latent width, T latent frames of one window, L frames of any length, E CLAP width.

ROUNDS = 5  # ours: see `inpaint`
OPPOSITE = 1e-6  # how near to -1 a cosine leaves no direction to turn in


@torch.no_grad()
def inpaint(
    denoiser: Denoiser,
    latent_BCT: Tensor,
    kept_BT: Tensor,
    conditions: Conditions,
    *,
    sampler: Sampler,
    guidance: Guidance,
    generators: Sequence[torch.Generator],
    rounds: int = ROUNDS,
    strength: float = 1.0,
) -> Tensor:
    """The latents (B, C, T) with every frame outside `kept_BT` made anew; the kept frames come back bit for bit.

    Diff-A-Riff's way: at every noise level the kept frames are the given ones, noised to that level. Below a
    `strength` of 1 the other frames are not replaced but varied, as by `sampling.vary`.
    Departure: each step is taken `rounds` times, noised back in between (RePaint, Lugmayr et al. 2022, algorithm 1).
    One round is Diff-A-Riff's and leaves a seam: of a correlation of 0.90 across it in a Gaussian whose denoiser is
    known, 30 Heun steps keep 0.57 in one round, 0.83 in five, 0.88 in twenty. Evaluations grow in proportion.
    """
    check_count(conditions, generators)
    if latent_BCT.shape != conditions.context_BCT.shape:
        raise ValueError(
            f"the latents are {tuple(latent_BCT.shape)}, their context {tuple(conditions.context_BCT.shape)}; "
            "give both the same batch, width and frames"
        )
    if kept_BT.dtype != torch.bool or kept_BT.shape != latent_BCT[:, 0].shape:
        raise ValueError(
            f"kept frames are booleans of shape {tuple(latent_BCT[:, 0].shape)}, "
            f"got {kept_BT.dtype} of {tuple(kept_BT.shape)}"
        )
    if rounds < 1:
        raise ValueError(f"every step is taken at least once, got rounds {rounds}")
    levels = variation_levels(sampler, strength)
    if not levels:
        return latent_BCT
    kept_B1T, noise = kept_BT[:, None], noise_of(latent_BCT, generators)
    given_BCT = torch.where(kept_B1T, latent_BCT, 0) if strength == 1 else latent_BCT
    denoise = _knowing(guided(denoiser, conditions, guidance), latent_BCT, kept_B1T)
    start = given_BCT + levels[0] * noise()
    made_BCT = _repeat_steps(sampler, denoise, start, levels, rounds=rounds, noise=noise)
    return torch.where(kept_B1T, latent_BCT, made_BCT)


def fill(
    denoiser: Denoiser,
    latent_BCL: Tensor,
    kept_L: Tensor,
    conditions: Conditions,
    *,
    window_frames: int,
    overlap_frames: int,
    grain_frames: int = 1,
    sampler: Sampler,
    guidance: Guidance,
    generators: Sequence[torch.Generator],
    rounds: int = ROUNDS,
    strength: float = 1.0,
    told: Callable[[float], None] | None = None,
) -> Tensor:
    """Latents (B, C, L) of any length with every frame outside `kept_L` made anew, window after window.

    A window inpaints what is unknown of it: nothing is cross-faded, and the network never sees more than one window.
    It begins `overlap_frames` before the first unknown frame, and earlier where all that is unknown there then has
    neighbours on both sides; always at a multiple of `grain_frames`. `told` is given the known share, up to 1.
    """
    _check_windows(window_frames, overlap_frames, len(kept_L))
    whole_BCL, known_L = latent_BCL.clone(), kept_L.clone()
    while not known_L.all():
        begin = _next_window(known_L, window_frames, overlap_frames)
        window = slice(begin - begin % grain_frames, begin - begin % grain_frames + window_frames)
        known_T = known_L[window]
        whole_BCL[..., window] = inpaint(
            denoiser,
            whole_BCL[..., window],
            known_T.expand(len(whole_BCL), -1),
            replace(conditions, context_BCT=conditions.context_BCT[..., window]),
            sampler=sampler,
            guidance=guidance,
            generators=generators,
            rounds=rounds if known_T.any() else 1,  # nothing to agree with
            strength=strength,
        )
        known_L[window] = True
        if told:
            told(float(known_L.float().mean()))
    return whole_BCL


def _next_window(known_L: Tensor, window_frames: int, overlap_frames: int) -> int:
    """Where the window begins that holds the first unknown frame, and what comes before and perhaps after it."""
    first = int(known_L.int().argmin())
    after = int(known_L[first:].int().argmax()) or len(known_L) - first
    before = max(overlap_frames, (window_frames - after) // 2)
    return min(max(first - before, 0), len(known_L) - window_frames)


@torch.no_grad()
def loop(
    denoiser: Denoiser,
    conditions: Conditions,
    *,
    period_frames: int,
    strength: float = 1.0,
    sampler: Sampler,
    guidance: Guidance,
    generators: Sequence[torch.Generator],
) -> Tensor:
    """Candidates (B, C, T) that repeat every `period_frames`, the end of a repeat continuing into the next.

    Diff-A-Riff's loop sampling: one slice is copied over the window for the first `strength` of the steps (s_Loop), so
    the joint lies inside the window and is denoised like any other place, which rotating the latents would give only
    every other pass. At 1 any `period_frames` successive frames loop; below, the repeats vary. Ours: the slice is the
    window's middle, both of whose ends have neighbours. The context is read as it is: give one that repeats, or none.
    """
    check_count(conditions, generators)
    frames = conditions.context_BCT.shape[-1]
    if not 0 < period_frames < frames:
        raise ValueError(
            f"a loop is shorter than the window of {frames} frames, which must hold its joint, got {period_frames}"
        )
    if not 0 <= strength <= 1:
        raise ValueError(f"the strength of a loop lies between 0 and 1, got {strength}")
    noise, levels = noise_of(conditions.context_BCT, generators), sampler.levels
    steps = len(levels) - (levels[-1] == 0)
    denoise = _repeating(
        guided(denoiser, conditions, guidance),
        _middle_slice(frames, period_frames, conditions.context_BCT.device),
        above=(*levels, 0.0)[math.floor(strength * steps)],
    )
    return run_sampler(sampler, denoise, levels[0] * noise(), levels, noise=noise)


def interpolate_clap(first_BE: Tensor, second_BE: Tensor, ratio: float) -> Tensor:
    """Unit vectors (B, E) on the great circle from `first_BE` (ratio 0) to `second_BE` (ratio 1), turned evenly."""
    if not 0 <= ratio <= 1:
        raise ValueError(f"the ratio of an interpolation lies between 0 and 1, got {ratio}")
    for vectors_BE in (first_BE, second_BE):
        norm_B = vectors_BE.norm(dim=-1)
        if not ((norm_B - 1).abs() < 1e-3).all():
            raise ValueError(f"CLAP vectors have norm 1, got {norm_B.tolist()}; divide them by their norm")
    cosine_B1 = (first_BE * second_BE).sum(-1, keepdim=True)
    if (cosine_B1 < -1 + OPPOSITE).any():
        raise ValueError("opposite CLAP vectors have no shortest way between them; interpolate by way of a third")
    across_BE = second_BE - cosine_B1 * first_BE
    angle_B1 = ratio * torch.atan2(across_BE.norm(dim=-1, keepdim=True), cosine_B1)
    return angle_B1.cos() * first_BE + angle_B1.sin() * functional.normalize(across_BE, dim=-1)


def _knowing(denoise: Denoise, known_BCT: Tensor, kept_B1T: Tensor) -> Denoise:
    """The denoiser that is certain of the kept frames.

    Where the estimate is `known`, a solver carries known + sigma z to known + sigma' z, and re-noising draws z anew:
    the kept frames are thus noised to every level, and no sampler needs to know of them.
    """

    def knowing(noisy: Tensor, sigma_B: Tensor) -> Tensor:
        return torch.where(kept_B1T, known_BCT, denoise(noisy, sigma_B))

    return knowing


def _repeating(denoise: Denoise, slice_T: Tensor, *, above: float) -> Denoise:
    """The denoiser that sees and returns one slice, repeated, at the noise levels over `above`.

    The frames outside the slice get its estimate but keep their own noise, so that they are fair noisy latents to the
    free denoiser that takes over.
    """

    def repeating(noisy: Tensor, sigma_B: Tensor) -> Tensor:
        forced = per_item(sigma_B > above, noisy)
        clean = denoise(torch.where(forced, noisy[..., slice_T], noisy), sigma_B)
        return torch.where(forced, clean[..., slice_T], clean)

    return repeating


def _middle_slice(frames: int, period_frames: int, device: torch.device) -> Tensor:
    """For each frame (T,) of a window, the frame of its middle `period_frames` that it repeats."""
    begin = (frames - period_frames) // 2
    return begin + (torch.arange(frames, device=device) - begin) % period_frames


def _repeat_steps(
    sampler: Sampler,
    denoise: Denoise,
    x: Tensor,
    levels: Sequence[float],
    *,
    rounds: int,
    noise: Callable[[], Tensor],
) -> Tensor:
    """`x` at the first of `levels` brought down to the data, each step taken `rounds` times from fresh noise.

    A multistep solver starts afresh with every round, so that more than one makes it first order.
    """
    if rounds == 1 or isinstance(sampler, ConsistencySampler):  # which re-noises by itself before every level
        return run_sampler(sampler, denoise, x, [level for level in levels for _ in range(rounds)], noise=noise)
    for here, after in pairwise(levels):
        x = run_sampler(sampler, denoise, x, (here, after), noise=noise)
        for _ in range(rounds - 1):
            x = x + math.sqrt(here**2 - after**2) * noise()
            x = run_sampler(sampler, denoise, x, (here, after), noise=noise)
    return x


def _check_windows(window_frames: int, overlap_frames: int, frames: int) -> None:
    if window_frames > frames:
        raise ValueError(f"{frames} frames do not fill a window of {window_frames}; pad them to one window")
    if not 0 < overlap_frames < window_frames:
        raise ValueError(f"windows of {window_frames} frames overlap by fewer, and by at least 1, got {overlap_frames}")
