"""Which codec a recipe asks for: how it is fitted, and how it is built from what was fitted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TypeVar

import torch
from torch import Tensor, nn

from models import music2latent, music2latent2
from models.codec import Codec
from models.codec_training import fit_codec
from models.data_parallel import own_rows
from models.music2latent import Music2Latent, Music2LatentRecipe
from models.music2latent2 import Music2Latent2, Music2Latent2Recipe
from models.pretrained_codicodec import PretrainedCoDiCodec, PretrainedCoDiCodecRecipe
from models.pretrained_music2latent import PretrainedMusic2Latent, PretrainedMusic2LatentRecipe
from models.spectral import SpectralCodec, SpectralRecipe, fit_spectral
from models.training import Log, Save, State

# Shapes: B batch, S audio channels, N samples.

TrainedRecipe = Music2LatentRecipe | Music2Latent2Recipe
PretrainedRecipe = PretrainedMusic2LatentRecipe | PretrainedCoDiCodecRecipe
CodecRecipe = SpectralRecipe | TrainedRecipe | PretrainedRecipe
Network = TypeVar("Network", bound=nn.Module)  # Python 3.11 has no syntax for it


TRAINABLE: Mapping[str, Mapping[str, TrainedRecipe]] = MappingProxyType(
    {"music2latent": music2latent.PRESETS, "music2latent2": music2latent2.PRESETS}
)
"""The recipes of the trainable codecs by name and size."""


def preset(codec: str, size: str) -> TrainedRecipe:
    """The recipe of a trainable codec at one of its sizes. Raises ValueError for an unknown name."""
    if codec not in TRAINABLE:
        raise ValueError(f"there is no trainable codec {codec!r}; the choices are {', '.join(TRAINABLE)}")
    sizes = TRAINABLE[codec]
    if size not in sizes:
        raise ValueError(f"{codec} has no size {size!r}; the choices are {', '.join(sizes)}")
    return sizes[size]


def is_mono(recipe: CodecRecipe) -> bool:
    """Whether a codec has one audio channel."""
    match recipe:
        case SpectralRecipe(audio_channels=channels) | Music2Latent2Recipe(audio_channels=channels):
            return channels == 1
        case Music2LatentRecipe() | PretrainedMusic2LatentRecipe():
            return True
        case PretrainedCoDiCodecRecipe():
            return False


def build_codec(recipe: CodecRecipe, state: dict[str, Tensor], *, weights_sha256: str) -> Codec:
    """The frozen codec of a recipe with fitted or released weights, ready to encode."""
    match recipe:
        case SpectralRecipe():
            return _frozen(SpectralCodec(recipe, state, weights_sha256))
        case Music2LatentRecipe():
            return _frozen(_loaded(Music2Latent(recipe, weights_sha256), state))
        case Music2Latent2Recipe():
            return _frozen(_loaded(Music2Latent2(recipe, weights_sha256), state))
        case PretrainedMusic2LatentRecipe():
            return _frozen(PretrainedMusic2Latent(recipe, state, weights_sha256))
        case PretrainedCoDiCodecRecipe():
            return _frozen(PretrainedCoDiCodec(recipe, state, weights_sha256))


def fit(
    recipe: CodecRecipe,
    batches: Iterable[Tensor],
    *,
    seed: int,
    log: Log,
    log_every: int = 50,
    resume: Mapping[str, Tensor] | None = None,
    save: Save | None = None,
    save_every: int = 1_000,
    stop: Callable[[], bool] | None = None,
    device: torch.device | None = None,
) -> State:
    """The fitted state of a codec.

    The spectral codec takes every batch (B, S, N) once. A trained codec goes round the windows as often as its
    steps need, in batches of its own size; `seed` gives its first weights, crops and noise, and it learns on
    `device` (None: the CPU), from a state that `save` was given if there is one to resume. A released codec is read
    from its checkpoint instead, see `models.quarantine`.

    The processes of a torch.distributed group share out each batch; raises ValueError where it does not divide.
    """
    match recipe:
        case SpectralRecipe():
            state = fit_spectral(recipe, batches)
            log(0, {"variance_kept": float(state["kept"])})
            return state
        case Music2LatentRecipe() | Music2Latent2Recipe():
            own = own_rows(recipe.batch)
            return fit_codec(
                untrained(recipe, seed).to(device or torch.device("cpu")),
                round_and_round(batches, own.stop - own.start),
                steps=recipe.steps,
                learning_rate=recipe.learning_rate,
                seed=seed,
                precision=recipe.precision,
                resume=resume,
                save=save,
                save_every=save_every,
                log=log,
                log_every=log_every,
                stop=stop,
            )
        case PretrainedMusic2LatentRecipe() | PretrainedCoDiCodecRecipe():
            raise ValueError(f"{type(recipe).__name__} is released, not fitted; read its weights from a checkpoint")


def untrained(recipe: TrainedRecipe, seed: int) -> Music2Latent | Music2Latent2:
    """A codec with its first weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # layers draw their first weights from the global state
        return Music2Latent(recipe) if isinstance(recipe, Music2LatentRecipe) else Music2Latent2(recipe)


def round_and_round(batches: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """The windows (B, S, N) of all batches again and again, `size` at a time; a spent iterator ends it."""
    windows: list[Tensor] = []
    while True:
        yielded = False
        for audio_BSN in batches:
            yielded = True
            windows.extend(audio_BSN)
            while len(windows) >= size:
                yield torch.stack(windows[:size])
                del windows[:size]
        if not yielded:
            return


def _loaded(network: Network, state: dict[str, Tensor]) -> Network:
    """The network with its weights; a ValueError instead of torch's where they belong to another recipe."""
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"the weights do not fit this codec's recipe: {error}") from error
    return network


def _frozen(network: Network) -> Network:
    return network.eval().requires_grad_(False)
