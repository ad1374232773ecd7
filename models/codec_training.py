"""Trains a consistency codec: crops, augmentation, one loss, and signs of collapse while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice

import torch
from torch import Tensor, nn

from models.consistency_codec import ConsistencyCodec
from models.data_parallel import ForwardPass, averaged_over_processes, processes
from models.training import Log, Precision, Save, State, TrainingRecipe, fit
from models.training_draws import step_generator

# Shapes: B batch, S audio channels, N samples, G chunks, P parts, K bins, F frames, C latent width, T latent frames.

QUIET_RMS = 1e-3  # crops below it teach silence; Music2Latent's training code leaves them out too
CROP_DRAWS = 4  # tries to find a crop of a window that is not quiet
BARREN_BATCHES = 50  # so many batches in a row without a loud crop: the data are silent
WARM_UP_SHARE = 0.0125  # 10,000 of Music2Latent's 800,000 steps
FIRST_FRESH_STEPS = 10  # warm-up never takes less than this, for runs of a few steps
PROBE_SIGMA = 10.0  # noise level at which the effect of swapped latents is read


def fit_codec(
    codec: ConsistencyCodec,
    batches: Iterator[Tensor],
    *,
    steps: int,
    learning_rate: float,
    seed: int,
    precision: Precision = Precision.FLOAT32,
    resume: Mapping[str, Tensor] | None = None,
    save: Save | None = None,
    save_every: int = 1_000,
    log: Log | None = None,
    log_every: int = 50,
    stop: Callable[[], bool] | None = None,
) -> State:
    """The moving average of the trained weights, on the CPU, under the codec's own parameter names.

    `batches` yields audio windows (B, S, N) with N >= codec.crop_samples, the same ones again for a resumed run.
    RAdam, linear warm-up, cosine to zero, gradient norm clipped to 1 (codecs.md E.2). The step between teacher and
    student is tied to `steps`: a run cut short is not the first part of a longer one's result. In bfloat16, spectra,
    noise levels, scalings and the loss stay float32.

    In a torch.distributed process group every process takes its own share of the batches (which are the same in
    all) and of the noise, and gradients are averaged: so many times the batch. What all of them must call, and how
    they resume and stop, is told by `models.training.fit`.
    """
    recipe = TrainingRecipe(
        steps=steps,
        batch_size=1,  # the batches come with their own size
        learning_rate=learning_rate,
        betas=(0.9, second_moment_memory(steps)),
        warmup_steps=max(FIRST_FRESH_STEPS, round(WARM_UP_SHARE * steps)),
        weight_decay=0.0,
        precision=precision,
        seed=seed,
    )
    rank, count = processes()
    own_seed = seed * count + rank
    crops = _Crops(training_crops(codec, islice(batches, rank, None, count), own_seed))
    shared_loss = averaged_over_processes(ForwardPass(codec, codec.loss))
    device = next(codec.parameters()).device

    def loss(step: int) -> Tensor:
        value: Tensor = shared_loss(crops.of(step, steps), step / steps, step_generator(own_seed, step, device))
        return value

    def heard(step: int, values: dict[str, float]) -> None:
        if log is not None:
            log(step, values | signs_of_collapse(codec, crops.latest, torch.Generator().manual_seed(seed)))

    return fit(
        codec,
        loss,
        recipe,
        resume=resume,
        save=save,
        save_every=save_every,
        log=heard,
        log_every=log_every,
        optimizer_of=_radam,
        stop=stop,
    )


def restarted(weights: Mapping[str, Tensor], step: int) -> State:
    """A state for `fit_codec` to resume at `step` from weights alone: a warm restart, not a continuation.

    Learning rate and consistency schedule go on; the optimiser's moments and the moving average begin anew. For where
    the whole state, four times the weights, cannot be carried. RAdam's rectification is the warm-up of the restart.
    """
    copies = {f"{kind}/{name}": tensor.float() for kind in ("weights", "ema") for name, tensor in weights.items()}
    moments = {
        f"{kind}/{name}": torch.zeros(tensor.shape)
        for kind in ("first_moment", "second_moment")
        for name, tensor in weights.items()
    }
    counts = {"step": step, "updates": 0, "skipped": 0, "skipped_in_a_row": 0}
    return copies | moments | {name: torch.tensor(value) for name, value in counts.items()}


def _radam(module: nn.Module, recipe: TrainingRecipe) -> torch.optim.Optimizer:
    return torch.optim.RAdam(module.parameters(), lr=recipe.learning_rate, betas=recipe.betas)


def second_moment_memory(steps: int) -> float:
    """RAdam's second beta: 0.999, and in runs of less than 4,000 steps a memory of a quarter of the run.

    Departure: with 0.999 RAdam's rectification would hold a run of some tens of steps at a tenth of its rate.
    """
    return max(0.9, min(0.999, 1 - 4 / max(steps, 5)))


class _Crops:
    """The crop of each step, in order; a resumed run passes over those of the steps it has behind it."""

    def __init__(self, crops: Iterator[Tensor]) -> None:
        self._crops, self._next = crops, 0
        self.latest = torch.empty(0)

    def of(self, step: int, steps: int) -> Tensor:
        """The crop (B, S, crop_samples) of a step; steps only go forward."""
        while self._next <= step:
            try:
                self.latest = next(self._crops)
            except StopIteration:
                raise ValueError(
                    f"the training audio ran out after {self._next} of {steps} steps; give more or endless batches"
                ) from None
            self._next += 1
        return self.latest


def training_crops(codec: ConsistencyCodec, batches: Iterable[Tensor], seed: int) -> Iterator[Tensor]:
    """Augmented crops (B, S, crop_samples) on the codec's device; batches without a loud crop are passed over."""
    device = next(codec.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    barren = 0
    for audio_BSN in batches:
        loud = [crop for item in audio_BSN if (crop := loud_crop(item, codec.crop_samples, generator)) is not None]
        barren = 0 if loud else barren + 1
        if barren == BARREN_BATCHES:
            raise ValueError(
                f"{barren} batches in a row held no crop above RMS {QUIET_RMS}; the training data are silent"
            )
        if loud:
            yield _in_channels(augmented(torch.stack(loud), generator), codec.spec.audio_channels).to(device)


def loud_crop(audio_SN: Tensor, samples: int, generator: torch.Generator) -> Tensor | None:
    """A random stretch of a window that is not quiet, or None when several tries find none."""
    if audio_SN.shape[-1] < samples:
        raise ValueError(f"a window of {audio_SN.shape[-1]} samples is shorter than a training crop of {samples}")
    for _ in range(CROP_DRAWS):
        start = int(torch.randint(audio_SN.shape[-1] - samples + 1, (1,), generator=generator))
        crop = audio_SN[..., start : start + samples]
        if crop.square().mean().sqrt() >= QUIET_RMS:
            return crop
    return None


def augmented(audio_BSN: Tensor, generator: torch.Generator) -> Tensor:
    """Crops with random gain of ±6 dB and swapped channels; half of them mixed with another one; none clips."""
    count = len(audio_BSN)

    def chance(share: float) -> Tensor:
        return (torch.rand(count, 1, 1, generator=generator) < share).to(audio_BSN.device)

    gain_db = 12 * torch.rand(count, 1, 1, generator=generator) - 6
    audio_BSN = audio_BSN * (10 ** (gain_db / 20)).to(audio_BSN)
    audio_BSN = torch.where(chance(0.5), audio_BSN.flip(1), audio_BSN)
    other = audio_BSN[torch.randperm(count, generator=generator).to(audio_BSN.device)]
    audio_BSN = torch.where(chance(0.5), audio_BSN + other, audio_BSN)
    return audio_BSN / audio_BSN.abs().amax(dim=(1, 2), keepdim=True).clamp(min=1)


def _in_channels(audio_BSN: Tensor, channels: int) -> Tensor:
    """The first of two (already randomly swapped) channels for a mono codec; mono copied for a stereo one.

    A random channel rather than the mean, as Music2Latent's training code does.
    """
    return audio_BSN[:, :1] if channels == 1 else audio_BSN.expand(-1, 2, -1)


@torch.no_grad()
def signs_of_collapse(codec: ConsistencyCodec, crop_BSN: Tensor, generator: torch.Generator) -> dict[str, float]:
    """Whether latents still carry content (codecs.md E.3).

    `slot_spread`: the least, over latent frames, of the spread across items relative to the mean modulus (zero: a
    slot says the same of all). `saturated`: the share of |z| > 0.99. `swap_sensitivity`: how far the denoised
    chunk moves, relative to itself, when items trade latents. Spread and sensitivity need at least two items that
    differ: the same sound twice, as two crops become that were mixed with each other, counts once. Of two or three
    items the least spread is a matter of chance; trust it from eight on.
    """
    crop_BSN = crop_BSN.unique(dim=0)
    clean_BGPKF = codec.chunks(crop_BSN, padded=False)
    latent_BCT = codec.latents(clean_BGPKF)
    signs = {"saturated": (latent_BCT.abs() > 0.99).float().mean().item()}
    if len(crop_BSN) < 2:
        return signs
    spread_T = latent_BCT.std(dim=0).mean(dim=0) / latent_BCT.abs().mean(dim=(0, 1)).clamp(min=1e-9)
    noise = torch.randn(clean_BGPKF.shape, generator=generator).to(clean_BGPKF)
    sigma_BG = clean_BGPKF.new_full(clean_BGPKF.shape[:2], PROBE_SIGMA)
    noisy = clean_BGPKF + PROBE_SIGMA * noise
    own = codec.denoise(noisy, sigma_BG, codec.features(latent_BCT))
    other = codec.denoise(noisy, sigma_BG, codec.features(latent_BCT.roll(1, dims=0)))
    sensitivity = (own - other).norm() / own.norm().clamp(min=1e-9)
    return {**signs, "slot_spread": spread_T.min().item(), "swap_sensitivity": sensitivity.item()}
