"""What the codec commands do: which recipe on which audio, and round trips of several codecs over the same clips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from data_manifests.pairs import PairRange, PairRule
from data_manifests.schema import RATE_HZ
from flows import preparation
from flows.request import StudyRequest
from flows.session import Session, session
from flows.study import Make
from models.codecs import TRAINABLE, TrainedRecipe, preset
from models.spectral import SpectralRecipe
from tasks.artifact import Artifact
from tasks.audio_folder import AudioClip, audio_files, clips_of
from tasks.clap import SHIPPED, load_clap
from tasks.corpus import folder_corpus
from tasks.cut import PlanPairs
from tasks.fit_codec import RECIPE, WEIGHTS, CodecFit, FitCodec
from tasks.fit_codec_on_audio import WINDOW_SAMPLES, FitCodecOnAudio
from tasks.process_group import built_together, first_alone, process_group
from tasks.roundtrip import RoundTrips, target_clips
from tasks.roundtrip_table import MARKDOWN, PARQUET, print_roundtrips, write_roundtrips
from tasks.runtime import Runtime
from tasks.store import RECORD, Store
from tasks.telemetry_file import TELEMETRY
from tasks.whole_files import file_sha256, write_whole
from tasks.window_source import PlannedWindows

SPECTRAL = {"spectral-stereo": SpectralRecipe(audio_channels=2), "spectral-mono": SpectralRecipe(audio_channels=1)}
CODECS = (*SPECTRAL, *TRAINABLE)

SPECTRAL_WINDOWS = 480
"""Twenty-two minutes of audio, 15,360 patches, as many as codecs.md E.6 fits on."""

MOST_ROWS = 20_000  # rows of the pair plan; a longer training goes round them
SHARD_ROWS = 50


@dataclass(frozen=True, kw_only=True)
class Wish:
    """A codec to be fitted. None stands for what the size says; `audio` is any folder, None a corpus of stems."""

    codec: str
    size: str | None = None
    steps: int | None = None
    batch: int | None = None
    audio: str | None = None


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What codecs are tried on: files and folders, or (none) the target stems of the corpus' held-out songs."""

    audio: tuple[str, ...]
    clips: int
    seconds: float
    examples: int

    @property
    def samples(self) -> int:
        return round(self.seconds * RATE_HZ)


def fit_lines(request: StudyRequest, wish: Wish, out: Path, *, save_every: int) -> Iterator[str]:
    """Fit, or find what was fitted by the same command, and put it into `out`; lines that say so.

    Of the processes of torchrun, the first does all of that, and the others help it train.
    """
    with process_group(request.runtime().device) as group:
        if group.size > 1 and wish.codec in SPECTRAL:
            raise ValueError(
                f"{wish.codec} is fitted in closed form, by one process; start the command without torchrun"
            )
        with first_alone():
            ready = session(request)
            step = _fit(wish, ready, _make(ready.runtime))
        threads = max(1, ready.runtime.torch_threads // group.size)
        runtime = replace(ready.runtime, save_every=save_every, torch_threads=threads)
        artifact = built_together(step, _make(runtime), runtime)
        if artifact is None:
            return
        _deliver(artifact, out)
        yield f"{out / WEIGHTS}: sha256 {file_sha256(out / WEIGHTS)}"


def roundtrip_lines(request: StudyRequest, codecs: Sequence[str], trial: Trial, out: Path) -> Iterator[str]:
    """The table of round trips, printed and written with audio and pictures into `out`; lines that say where."""
    ready = session(request)
    make = _make(ready.runtime)
    folders = _folders(codecs, ready, make)
    clips, told = _clips(trial, ready, make)
    clap = load_clap(str(SHIPPED), {}, "cpu")
    device, seed = ready.runtime.device, request.seed
    trips = RoundTrips(clips=clips, clap=clap, examples=trial.examples, seed=seed, device=device)
    out.mkdir(parents=True, exist_ok=True)
    noise, *rows = trips.rows(folders, out)
    setting = {
        "of": f"{len(clips)} clips of {trial.seconds:g} s, {told}",
        "FAD in the space of": f"{clap.spec.name} {clap.spec.weights_sha256[:8]}",
        "seed": str(seed),
        "device": device if device != "cpu" else f"cpu, {torch.get_num_threads()} threads",
    }
    write_roundtrips(out, [*rows, noise], setting)
    print_roundtrips([*rows, noise], setting)
    yield f"audio and pictures of {min(trial.examples, len(clips))} clips: {out}"
    yield f"table: {out / PARQUET}, {out / MARKDOWN}"


def _make(runtime: Runtime) -> Make:
    return partial(Store(runtime.root / "artifacts").build, runtime=runtime)


def _fit(wish: Wish, ready: Session, make: Make) -> CodecFit:
    """The step that fits what is wished for; the corpus that it hears is made ready."""
    recipe, windows = _recipe(wish)
    seed = ready.request.seed
    if wish.audio is None:
        rows = min(MOST_ROWS, -(-windows // 2))  # a row gives two windows, its target and its context
        source = _planned(ready, make, split="train", rows=rows, samples=WINDOW_SAMPLES)
        return FitCodec(recipe=recipe, windows=source, first_windows=None, seed=seed)
    if ready.folder:
        raise ValueError("give either --audio (any folder) or --corpus (songs with their stems), not both")
    audio_files([Path(wish.audio)])  # what is wrong with the folder is said before it is read whole
    folder = folder_corpus(Path(wish.audio), ready.runtime.root)
    heard = windows if isinstance(recipe, SpectralRecipe) else None
    return FitCodecOnAudio(recipe=recipe, folder=folder, windows=heard, seed=seed)


def _recipe(wish: Wish) -> tuple[SpectralRecipe | TrainedRecipe, int]:
    """The recipe, and the windows that it hears. Raises ValueError for what is unknown or would have no effect."""
    if wish.codec in SPECTRAL:
        if wish.size or wish.steps or wish.batch:
            raise ValueError(f"{wish.codec} is fitted in closed form; --size, --steps and --batch have no effect on it")
        return SPECTRAL[wish.codec], SPECTRAL_WINDOWS
    if wish.codec not in CODECS:
        raise ValueError(f"there is no codec {wish.codec!r} to fit; there are {', '.join(CODECS)}")
    recipe = preset(wish.codec, wish.size or "small")
    recipe = replace(recipe, steps=wish.steps or recipe.steps, batch=wish.batch or recipe.batch)
    return recipe, recipe.steps * recipe.batch


def _planned(ready: Session, make: Make, *, split: str, rows: int, samples: int) -> PlannedWindows:
    """Windows of a split of the corpus' songs: the user's, or the embedded ones of the laptop's scale."""
    recordings = preparation.corpus(ready.study, ready.folder, make)
    listed = preparation.catalogue(ready.study, recordings, make)
    asked = PairRange(split=split, first=0, stop=rows)
    rule = PairRule(window_samples=samples, seed=ready.request.seed)
    plan = make(PlanPairs(catalogue=listed, rule=rule, rows=asked))
    return PlannedWindows(corpus=recordings, catalogue=listed, plan=plan, rows=asked, shard_rows=SHARD_ROWS)


def _deliver(artifact: Artifact, out: Path) -> None:
    """The result's files in the user's folder; the weights come last, and none are there while they are exchanged."""
    out.mkdir(parents=True, exist_ok=True)
    (out / WEIGHTS).unlink(missing_ok=True)
    for name in (TELEMETRY, RECORD, RECIPE, WEIGHTS):
        write_whole(out / Path(name).name, (artifact.path / name).read_bytes())


def _folders(codecs: Sequence[str], ready: Session, make: Make) -> dict[str, Path]:
    """Codec folders by a label of their own; a spectral codec that is no folder is fitted on the training songs."""
    found: dict[str, Path] = {}
    for codec in codecs:
        folder = Path(codec)
        if codec in SPECTRAL and not folder.exists():
            folder = make(_fit(Wish(codec=codec), ready, make)).path
        elif not (folder / WEIGHTS).is_file() or not (folder / RECIPE).is_file():
            raise ValueError(f"{codec} holds no {WEIGHTS} and {RECIPE}; make one with stemwright codec fit --out DIR")
        name = Path(codec).resolve().name
        taken = sum(label == name or label.startswith(f"{name}-") for label in found)
        found[f"{name}-{taken + 1}" if name in found else name] = folder
    return found


def _clips(trial: Trial, ready: Session, make: Make) -> tuple[list[AudioClip], str]:
    """The clips, and what they are in words."""
    if trial.audio:
        files = audio_files([Path(place) for place in trial.audio])
        clips = clips_of(files, clips=trial.clips, samples=trial.samples, seed=ready.request.seed)
        return clips, f"from {len(files)} files"
    windows = _planned(ready, make, split="heldout", rows=trial.clips, samples=trial.samples)
    kind = "the given corpus" if ready.folder else "the embedded corpus"
    return target_clips(windows), f"stems of held-out songs of {kind}"
