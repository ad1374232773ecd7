"""Fréchet audio distances in other spaces (VGGish, PANN, EnCodec) and a second opinion on ours.

The only home of frechet-audio-distance. Checkpoints are read from a folder and never fetched. That package imports
laion_clap, which fetches tokenizers when imported, and steers torch.hub; both are kept from the rest of the process.
"""

from __future__ import annotations

import io
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias
from unittest.mock import patch

import numpy as np

from data_manifests.weights import where_to_get
from metrics.embeddings import EmbeddingSet, Floats, Vectors
from metrics.frechet import frechet_distance
from tasks.whole_files import file_sha256

# Shapes: S channels, N samples or embeddings, D width of the space.

VGGISH_REPOSITORY = "harritaylor_torchvggish_master"


@dataclass(frozen=True, kw_only=True)
class SecondaryEmbedder:
    """A model of frechet-audio-distance: its input, the width of its space, and the files it must find.

    `files` are paths inside the checkpoint folder, the first that of the weights, and entries of the table of weights
    that says where to get them.
    A clip gives one embedding with PANN, and one per frame with VGGish (0.96 s) and EnCodec (320 samples); all of
    them enter the distance.
    """

    model: str
    rate_hz: int
    channels: int
    width: int
    files: tuple[str, ...]


EMBEDDERS: Mapping[str, SecondaryEmbedder] = types.MappingProxyType(
    {
        "vggish": SecondaryEmbedder(
            model="vggish",
            rate_hz=16_000,
            channels=1,
            width=128,
            files=(
                "checkpoints/vggish-10086976.pth",
                f"{VGGISH_REPOSITORY}/hubconf.py",
                "checkpoints/vggish_pca_params-970ea276.pth",
            ),
        ),
        "pann": SecondaryEmbedder(
            model="pann",
            rate_hz=32_000,
            channels=1,
            width=2048,
            files=("Cnn14_mAP%3D0.431.pth",),
        ),
        "encodec": SecondaryEmbedder(
            model="encodec",
            rate_hz=48_000,
            channels=2,
            width=128,
            files=("checkpoints/encodec_48khz-7e698e3e.th",),
        ),
    }
)


def secondary_fad(
    name: str,
    reference: Sequence[Floats],
    candidate: Sequence[Floats],
    *,
    rate_hz: int,
    checkpoints: Path,
) -> float:
    """FAD between two lists of clips audio_SN at `rate_hz`, in the space of `vggish`, `pann` or `encodec`."""
    embed = load_embedder(name, checkpoints=checkpoints)
    return frechet_distance(embed(reference, rate_hz), embed(candidate, rate_hz))


class CrossCheckedFad(NamedTuple):
    """The Fréchet distance of the same embeddings by our code and by frechet-audio-distance's."""

    ours: float
    peer: float


def cross_checked_fad(reference: Vectors, candidate: Vectors) -> CrossCheckedFad:
    """Our FAD and frechet-audio-distance's, both from float64 rows; they agree to rounding if both sets have full rank.

    With fewer rows than dimensions its matrix square root is inexact by up to about 1e-7 of the traces.
    """
    peer = _frechet_audio_distance()
    scorer = peer.__new__(peer)  # only its arithmetic: the constructor would load a model
    moments = [scorer.calculate_embd_statistics(_float64_rows(vectors)) for vectors in (reference, candidate)]
    ours = frechet_distance(reference, candidate)  # first: its errors name the rows at fault
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore", DeprecationWarning)  # it passes disp= to sqrtm, deprecated in SciPy 1.16
        theirs = scorer.calculate_frechet_distance(*moments[0], *moments[1])
    return CrossCheckedFad(ours, float(theirs))


Embed: TypeAlias = Callable[[Sequence[Floats], int], Floats]
"""From clips audio_SN and their rate to embeddings (N, D)."""


def load_embedder(name: str, *, checkpoints: Path) -> Embed:
    """The embedder of that name, its model loaded once from a folder."""
    if name not in EMBEDDERS:
        raise ValueError(f"no secondary embedder {name!r}; there are {', '.join(EMBEDDERS)}")
    embedder = EMBEDDERS[name]
    _require_files(name, embedder, checkpoints)
    model = _loaded(name, embedder, checkpoints)

    def embed(clips: Sequence[Floats], rate_hz: int) -> Floats:
        if not clips:
            raise ValueError(f"no clips to embed with {name}; give at least one")
        rows = [_embed_clip(model, embedder, clip_SN, rate_hz, number) for number, clip_SN in enumerate(clips)]
        return np.concatenate(rows)

    return embed


def weights_sha256(name: str, *, checkpoints: Path) -> str:
    """The digest of an embedder's weights in a folder."""
    return file_sha256(checkpoints / EMBEDDERS[name].files[0])


def _loaded(name: str, embedder: SecondaryEmbedder, checkpoints: Path) -> Any:
    peer = _frechet_audio_distance()
    try:
        # VGGish's checkout is code that runs anyway, and only a pickle holds the NumPy arrays among its files.
        with _hub_in(checkpoints, weights_only=embedder.model != "vggish"):
            return peer(
                ckpt_dir=str(checkpoints),
                model_name=embedder.model,
                sample_rate=embedder.rate_hz,
                channels=embedder.channels,
            )
    except Exception as error:  # a file of other weights, or of none, makes torch raise whatever it comes to
        raise ValueError(
            f"{name} cannot be loaded from {checkpoints} ({type(error).__name__}): its files are damaged or another "
            f"model's; get them again: {_places(embedder.files)}"
        ) from error


def _embed_clip(model: Any, embedder: SecondaryEmbedder, clip_SN: Floats, rate_hz: int, number: int) -> Floats:
    """Embeddings (N, D) of one clip; the package prints its errors, so what it says becomes ours."""
    said = io.StringIO()
    try:
        with redirect_stdout(said):
            found = model.get_embeddings([_model_input(embedder, clip_SN, rate_hz)], sr=embedder.rate_hz)
    except ValueError as error:
        raise ValueError(f"{embedder.model} cannot embed clip {number}: {said.getvalue().strip() or error}") from error
    return np.asarray(found).reshape(-1, embedder.width)  # PANN's single embedding comes without its row axis


def _model_input(embedder: SecondaryEmbedder, clip_SN: Floats, rate_hz: int) -> Floats:
    """The clip as the package's own loader would hand it over: (N,) or (N, 2) at the model's rate."""
    import resampy  # here: numba behind it takes seconds to import

    clip_SN = np.asarray(clip_SN, dtype=np.float32)
    if clip_SN.ndim != 2 or clip_SN.shape[0] not in (1, 2):
        raise ValueError(f"a clip is (channels, samples) with 1 or 2 channels, not {clip_SN.shape}")
    if embedder.channels == 1:
        clip_SN = clip_SN.mean(axis=0, keepdims=True)
    elif len(clip_SN) == 1:
        clip_SN = np.repeat(clip_SN, 2, axis=0)
    if rate_hz != embedder.rate_hz:
        clip_SN = resampy.resample(clip_SN, rate_hz, embedder.rate_hz, axis=1)
    return clip_SN[0] if embedder.channels == 1 else clip_SN.T


def _require_files(name: str, embedder: SecondaryEmbedder, checkpoints: Path) -> None:
    missing = [file for file in embedder.files if not (checkpoints / file).is_file()]
    if missing:
        raise ValueError(
            f"{name} needs files that {checkpoints} does not hold: {_places(missing)}. Nothing is downloaded."
        )


def _places(files: Sequence[str]) -> str:
    return "; ".join(map(where_to_get, files))


def _float64_rows(vectors: Vectors) -> Floats:
    rows = vectors.vectors_ND if isinstance(vectors, EmbeddingSet) else np.asarray(vectors)
    return rows.astype(np.float64)


def _frechet_audio_distance() -> Any:
    """The package's scorer class, imported without a network.

    An empty module stands in for laion_clap meanwhile, unless the real one is loaded already: only the package's own
    CLAP scores would use it, and `models.laion` serves those.
    """
    with _standing_in("laion_clap"):
        from frechet_audio_distance import FrechetAudioDistance  # here: takes seconds to import
    return FrechetAudioDistance


@contextmanager
def _standing_in(module: str) -> Iterator[None]:
    if module in sys.modules:
        yield
        return
    sys.modules[module] = types.ModuleType(module)
    try:
        yield
    finally:
        del sys.modules[module]


@contextmanager
def _hub_in(checkpoints: Path, *, weights_only: bool) -> Iterator[None]:
    """torch.hub looking into `checkpoints` only, a repository being a folder there; all as before afterwards.

    `weights_only`: a pickle that is more than tensors is refused, where torch.hub would run it.
    """
    from torch import hub  # here: keeps the command line's --help fast

    directory = hub.get_dir()
    from_folder = partial(_load_from_folder, hub.load, checkpoints)
    weights = partial(hub.load_state_dict_from_url, weights_only=weights_only)
    try:
        with patch.object(hub, "load", from_folder), patch.object(hub, "load_state_dict_from_url", weights):
            yield
    finally:
        hub.set_dir(directory)


def _load_from_folder(load: Callable[..., Any], checkpoints: Path, repo_or_dir: str, model: str) -> Any:
    """torch.hub.load from a checkout: by its name alone it would ask GitHub for the branch, cached or not."""
    return load(str(checkpoints / f"{repo_or_dir.replace('/', '_')}_master"), model, source="local")
