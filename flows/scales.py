"""The scales: a whole study at a smaller size, chosen before any task sees it.

A smaller scale has its own recipes and so its own keys: its results can never be mistaken for the paper's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from data_manifests.composer import EmbeddedCorpus
from data_manifests.pairs import PairRule
from flows.study import ClapRecipe, Study
from metrics.protocol import PROFILES, Protocol
from models import dit, music2latent, music2latent2, unet
from models.arms import ARMS, Arm, DenoiserRecipe, arm_named
from models.bridge import BridgeRecipe
from models.clap import LaionClapRecipe
from models.codec import CHUNK_SAMPLES
from models.codecs import CodecRecipe, is_mono
from models.dit import DiTRecipe
from models.edm import EdmObjective
from models.music2latent import Music2LatentRecipe
from models.sampling import ConsistencySampler, DpmSampler, HeunSampler
from models.small_clap import SmallClapRecipe
from models.spectral import SpectralRecipe
from models.training import TrainingRecipe
from models.unet import UNetRecipe
from tasks.clap import laion_places, shipped_clap
from tasks.import_codec import BroughtCodec

WINDOW_SAMPLES = 15 * CHUNK_SAMPLES  # 10.24 s, 120 latent frames (design.md section 7)
SCALES = ("tiny", "laptop", "gpu", "paper")
CLAPS = ("shipped", "fit", "laion", "laion-int16")
DEFAULT_CLAP = {"tiny": "shipped", "laptop": "shipped", "gpu": "fit"}


class ScaleError(ValueError):
    """A scale that does not exist or lacks what it needs."""


def study_at(scale: str, *, seed: int = 0, clap: str = "auto", laion: LaionClapRecipe | None = None) -> Study:
    """The whole study at one scale, judged by one of `CLAPS`. Raises ScaleError for what is unknown or missing."""
    match scale:
        case "tiny":
            study = _tiny(seed)
        case "laptop":
            study = _laptop(seed)
        case "gpu":
            study = _gpu(seed)
        case "paper":
            study = _paper(seed)
        case _:
            raise ScaleError(f"there is no scale {scale!r}; the scales are {', '.join(SCALES)}")
    return replace(study, clap=_judge(study, clap, laion))


def _judge(study: Study, asked: str, laion: LaionClapRecipe | None) -> ClapRecipe:
    """Which CLAP judges; `auto` is LAION's where it was given or the paper's numbers are wanted, else the small one."""
    if asked == "auto":
        asked = "laion" if laion or study.scale == "paper" else DEFAULT_CLAP[study.scale]
    match asked:
        case "laion" | "laion-int16":
            if laion:
                return replace(laion, int16=asked == "laion-int16")
            raise ScaleError(
                f"the scale {study.scale} was to be judged with LAION-CLAP; give it with --laion-checkpoint FILE and "
                f"--laion-tokenizer DIR, or choose another with --clap shipped or --clap fit. It is {laion_places()}"
            )
        case "shipped":
            return shipped_clap()
        case "fit":
            return study.clap
    raise ScaleError(f"there is no CLAP {asked!r}; the choices are auto, {', '.join(CLAPS)}")


def only_arms(study: Study, names: tuple[str, ...]) -> Study:
    """The study with these arms alone, in the table's order. Raises ValueError for an unknown name."""
    wanted = {arm_named(name).name for name in names}
    return replace(study, arms=tuple(arm for arm in study.arms if arm.name in wanted))


def with_codecs(study: Study, brought: Sequence[BroughtCodec]) -> Study:
    """The study with these codecs in place of its own mono or stereo one, and nothing else changed."""
    given = {is_mono(codec.recipe): codec.recipe for codec in brought}

    def changed(recipe: DenoiserRecipe) -> DenoiserRecipe:
        start = changed(recipe.start) if recipe.start else None
        return replace(recipe, codec=given.get(is_mono(recipe.codec), recipe.codec), start=start)

    arms = tuple(replace(arm, denoiser=changed(arm.denoiser)) for arm in study.arms)
    return replace(study, arms=arms, brought=tuple((codec.recipe, codec.sha256) for codec in brought))


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What a scale puts in place of the paper's sizes."""

    mono: CodecRecipe
    stereo: CodecRecipe
    unet: UNetRecipe
    dit: DiTRecipe
    objective: EdmObjective
    unet_training: TrainingRecipe
    dit_training: TrainingRecipe
    consistency_training: TrainingRecipe
    bridge: BridgeRecipe
    solver: HeunSampler | DpmSampler
    weigh_channels_by_std: bool
    tune_consistency: bool


def scaled(sizes: Sizes) -> tuple[Arm, ...]:
    """The five arms at these sizes; what an arm differs by stays what it is."""
    return tuple(_scaled_arm(arm, sizes) for arm in ARMS)


def _scaled_arm(arm: Arm, sizes: Sizes) -> Arm:
    return replace(
        arm,
        denoiser=_scaled_denoiser(arm.denoiser, sizes),
        bridge=sizes.bridge if arm.bridge else None,
        sampler=arm.sampler if isinstance(arm.sampler, ConsistencySampler) else sizes.solver,
    )


def _scaled_denoiser(recipe: DenoiserRecipe, sizes: Sizes) -> DenoiserRecipe:
    mono = isinstance(recipe.codec, Music2LatentRecipe)
    transformer = isinstance(recipe.network, DiTRecipe)
    edm = replace(
        recipe,
        codec=sizes.mono if mono else sizes.stereo,
        network=sizes.dit if transformer else sizes.unet,
        objective=sizes.objective,
        training=sizes.dit_training if transformer else sizes.unet_training,
        weigh_channels_by_std=sizes.weigh_channels_by_std,
    )
    if isinstance(recipe.objective, EdmObjective):
        return edm
    # Departure: a small budget tunes C-DiT from the trained transformer (ECT); the paper trains it from scratch.
    start = edm if sizes.tune_consistency else None
    return replace(edm, objective=recipe.objective, training=sizes.consistency_training, start=start)


def _tiny(seed: int) -> Study:
    """Seconds: the trainable codecs and every arm at their smallest, for tests."""
    sizes = Sizes(
        mono=replace(music2latent.TINY, steps=2, batch=2),
        stereo=replace(music2latent2.TINY, steps=2, batch=2),
        unet=unet.TINY,
        dit=dit.TINY,
        objective=EdmObjective(),
        unet_training=_steps(20, seed=seed, batch_size=4),
        dit_training=_steps(20, seed=seed, batch_size=4),
        consistency_training=_steps(10, seed=seed, batch_size=4, learning_rate=3e-4),
        bridge=BridgeRecipe(width=32, blocks=2, training=_steps(20, seed=seed, batch_size=8)),
        solver=HeunSampler(steps=4),
        weigh_channels_by_std=False,
        tune_consistency=True,
    )
    return Study(
        scale="tiny",
        embedded=EmbeddedCorpus(songs=8, seconds=8.0, seed=seed, heldout=4),
        heldout_fraction=0.5,
        rule=PairRule(window_samples=3 * CHUNK_SAMPLES, seed=seed),
        train_windows=16,
        codec_windows=None,
        shard_rows=3,
        clap=SmallClapRecipe(width=32, channels=(8, 16, 16, 16), steps=10, batch_size=8, seed=seed),
        arms=scaled(sizes),
        protocol=replace(_protocol(batches=2, batch_size=3, reference_size=12, seed=seed), bound_batches=4),
        seed=seed,
    )


def _laptop(seed: int) -> Study:
    """Minutes on two cores: the closed-form codec, a fitted CLAP, networks of a few million parameters."""
    sizes = Sizes(
        mono=SpectralRecipe(audio_channels=1),
        stereo=SpectralRecipe(audio_channels=2),
        unet=UNetRecipe(base=64, multipliers=(1, 2, 2), blocks=1, attention_levels=(2, 3), embedding=256),
        dit=DiTRecipe(width=256, layers=4, heads=4, noise_width=256, frames_per_token=4),
        objective=EdmObjective(),
        unet_training=_steps(680, seed=seed, batch_size=16, learning_rate=3e-3),
        dit_training=_steps(640, seed=seed, batch_size=16),
        consistency_training=_steps(180, seed=seed, batch_size=16, learning_rate=3e-4),
        bridge=BridgeRecipe(width=256, blocks=4, training=_steps(400, seed=seed, batch_size=256)),
        solver=DpmSampler(steps=10),  # 10 evaluations; the 15 of Heun in 8 steps leave fine channels too loud
        weigh_channels_by_std=True,
        tune_consistency=True,
    )
    return Study(
        scale="laptop",
        embedded=EmbeddedCorpus(songs=104, seconds=24.0, seed=seed, heldout=32),
        heldout_fraction=0.3,
        rule=PairRule(window_samples=WINDOW_SAMPLES, seed=seed),
        train_windows=560,
        codec_windows=160,
        shard_rows=22,
        clap=SmallClapRecipe(seed=seed),
        arms=scaled(sizes),
        protocol=_protocol(batches=2, batch_size=30, reference_size=320, seed=seed),
        seed=seed,
    )


def _gpu(seed: int) -> Study:
    """About half an hour on one GPU: the trainable codecs at their small size, networks of tens of millions."""
    sizes = Sizes(
        mono=replace(music2latent.BASE, steps=3000),
        stereo=replace(music2latent2.SMALL, steps=6000),
        unet=unet.SMALL,
        dit=dit.SMALL,
        objective=EdmObjective(),
        unet_training=_steps(4000, seed=seed, batch_size=64, learning_rate=3e-4),
        dit_training=_steps(6000, seed=seed, batch_size=64, learning_rate=3e-4),
        consistency_training=_steps(3000, seed=seed, batch_size=32, learning_rate=1e-4),
        bridge=BridgeRecipe(training=_steps(5000, seed=seed, batch_size=1024, learning_rate=3e-4)),
        solver=HeunSampler(),
        weigh_channels_by_std=False,
        tune_consistency=True,
    )
    return Study(
        scale="gpu",
        embedded=EmbeddedCorpus(songs=400, seconds=40.0, seed=seed, heldout=80),
        heldout_fraction=0.2,
        rule=PairRule(window_samples=WINDOW_SAMPLES, style_segments=2, seed=seed),
        train_windows=6000,
        codec_windows=None,
        shard_rows=100,
        clap=SmallClapRecipe(steps=3000, seed=seed),
        arms=scaled(sizes),
        protocol=_protocol(batches=5, batch_size=100, reference_size=1000, seed=seed),
        seed=seed,
    )


def _paper(seed: int) -> Study:
    """The paper's numbers exactly; the corpus is the user's, the CLAP LAION's."""
    return Study(
        scale="paper",
        embedded=None,
        heldout_fraction=2000 / 22_000,  # paper section 4.1: 20,000 recordings, and 2,000 for validation
        rule=PairRule(window_samples=WINDOW_SAMPLES, style_segments=4, seed=seed),
        train_windows=1_000_000,
        codec_windows=None,
        shard_rows=1000,
        clap=SmallClapRecipe(steps=20_000, seed=seed),
        arms=tuple(_seeded(arm, seed) for arm in ARMS),
        protocol=replace(PROFILES["paper"], pairing_seed=seed),
        seed=seed,
    )


def _seeded(arm: Arm, seed: int) -> Arm:
    denoiser = replace(arm.denoiser, training=replace(arm.denoiser.training, seed=seed))
    bridge = replace(arm.bridge, training=replace(arm.bridge.training, seed=seed)) if arm.bridge else None
    return replace(arm, denoiser=denoiser, bridge=bridge)


def _steps(steps: int, *, batch_size: int, seed: int, learning_rate: float = 1e-3) -> TrainingRecipe:
    """A short training: quick warm-up, an EMA that forgets within it."""
    return TrainingRecipe(
        steps=steps,
        seed=seed,
        batch_size=batch_size,
        learning_rate=learning_rate,
        warmup_steps=min(30, steps // 4),
        ema_decay=0.99,
    )


def _protocol(*, batches: int, batch_size: int, reference_size: int, seed: int) -> Protocol:
    """The paper's protocol with fewer candidates, and mixtures heard whole: a fitted CLAP knows whole windows."""
    return replace(
        PROFILES["paper"],
        batches=batches,
        batch_size=batch_size,
        reference_size=reference_size,
        pairing_seed=seed,
        mixture_window_s=10.0,
        mixture_windows=1,
    )
