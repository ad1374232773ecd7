"""A shard of windows that is damaged is left out by every stage, and what is left stays joined by window."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from data_manifests.pairs import PairRule
from data_manifests.schema import RATE_HZ, Catalogue, Stem, StemFile, Track
from flows.arm_training import Trained, train_arm
from flows.preparation import Prepared, Windows
from flows.scales import study_at
from flows.study import Study
from flows.table_rows import bounds, evaluate_arm
from models.arms import arm_named
from models.codec import CHUNK_SAMPLES
from models.conditioning import ClapSource, Conditioning
from models.spectral import SpectralRecipe
from tasks.artifact import Artifact
from tasks.audio_bytes import flac_bytes
from tasks.catalogue_file import write_catalogue
from tasks.clap import FitClap
from tasks.embed import EmbedWindows, Mixing
from tasks.embed_mispaired import EmbedMispaired
from tasks.embeddings import load_embeddings
from tasks.encode import EncodeWindows
from tasks.examples import examples_of, first_heard
from tasks.generate import LATENTS
from tasks.judge import EmbedCandidates, load_scores
from tasks.lost_shards import lost_shards
from tasks.pack import PackLatents, load_keys
from tasks.report import ReportRow
from tasks.runtime import Runtime
from tasks.shard_folder import shard_path, shards_of
from tasks.shards import json_bytes, read_index, write_shard
from tasks.store import Store

WINDOW = 3 * CHUNK_SAMPLES
ROWS, DAMAGED = 2, 1  # windows of a shard, and the shard that is damaged
COUNTS = {"train": 8, "prompts": 10, "references": 12, "real": 10}
ASKED = Conditioning(clap=ClapSource.TEXT, context=True)


@pytest.fixture(scope="module", autouse=True)
def _few_shards():
    """A fourth of the shards may be lost, because five are not a hundred."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.lost_shards.LOST_SHARE", 0.25)
        yield


@pytest.fixture(scope="module")
def study() -> Study:
    """The tiny study with one arm of two steps on the closed-form codec."""
    whole = study_at("tiny", clap="fit")
    arm = next(arm for arm in whole.arms if arm.name == arm_named("DiT").name)
    training = replace(arm.denoiser.training, steps=2)
    arm = replace(arm, denoiser=replace(arm.denoiser, codec=SpectralRecipe(audio_channels=2), training=training))
    protocol = replace(whole.protocol, batches=2, batch_size=5, bound_batches=2, reference_size=12)
    clap = replace(whole.clap, width=16, channels=(4, 8, 8, 8), steps=2, batch_size=4)
    return replace(whole, arms=(arm,), protocol=protocol, clap=clap, rule=PairRule(window_samples=WINDOW))


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    return Runtime(workspace=str(tmp_path_factory.mktemp("lost")), workers=1, torch_threads=1, progress=False)


@pytest.fixture(scope="module")
def make(runtime: Runtime) -> Callable[..., Artifact]:
    store = Store(runtime.root / "artifacts")
    return lambda step: store.build(step, runtime)


@pytest.fixture(scope="module")
def windows(runtime: Runtime) -> Windows:
    return Windows(**{name: write_windows(runtime.root / name, name) for name in COUNTS})


def write_windows(folder: Path, name: str) -> Artifact:
    """Windows of noise, each of a track of its own."""
    random = np.random.default_rng(len(name))
    for number in range(COUNTS[name] // ROWS):
        write_shard(shard_path(folder, number), [window(name, number * ROWS + row, random) for row in range(ROWS)])
    return Artifact(stage="windows", key=None, location=str(folder), digest=name)


def window(name: str, row: int, random: np.random.Generator) -> dict[str, object]:
    told = {"track_id": f"song{row}", "role": "bass", "tags": f"bass, number {row}", "style_starts_samples": [0]}
    audio = {member: 0.1 * random.standard_normal((2, WINDOW)) for member in ("target", "context", "style")}
    flacs = {f"{member}.flac": flac_bytes(audio_SN.astype(np.float32)) for member, audio_SN in audio.items()}
    return {"__key__": f"{name}-{row:08d}", "json": json_bytes(told), **flacs}


def damaged(windows: Artifact) -> Artifact:
    """A copy with one bit of one shard turned."""
    folder = Path(f"{windows.location}-damaged")
    shutil.copytree(windows.path, folder, dirs_exist_ok=True)
    copy = replace(windows, location=str(folder), digest=f"{windows.digest}, damaged")
    shard = Path(shards_of(copy)[DAMAGED])
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 16
    shard.write_bytes(data)
    return copy


class Made(NamedTuple):
    prepared: Prepared
    trained: Trained
    row: ReportRow
    judged: Artifact
    bounds: list[ReportRow]


def unlabelled(folder: Path) -> Artifact:
    """A catalogue of the prompts' songs, which says nothing of what is alike."""
    folder.mkdir(exist_ok=True)
    file = StemFile(path="bass.flac", channels=2, rate_hz=RATE_HZ, frames=CHUNK_SAMPLES, sha256="0" * 64)
    stem = Stem(
        id="bass", files=(file,), role="bass", is_vocal=False, usable_as_target=True, usable_in_context=True,
        reason=None, tags=(), flags=(), peak=0.5, activity=(True,),
    )  # fmt: skip
    tracks = tuple(
        Track(
            id=f"song{row}", group_id=f"song{row}", split="heldout", corpus="plain", licence="", tags=(),
            frames=CHUNK_SAMPLES, stems=(stem,),
        )
        for row in range(COUNTS["prompts"])
    )  # fmt: skip
    write_catalogue(Catalogue(tracks=tracks, quarantined=(), left_out=()), folder)
    return Artifact(stage="catalogue", key="unlabelled", location=str(folder), digest="unlabelled")


def run(study: Study, windows: Windows, make: Callable[..., Artifact]) -> Made:
    """The stages of a study after its windows, down to the scores of one row and the bounds."""
    clap, mixing = make(FitClap(recipe=study.clap, windows=windows.train)), Mixing.of(study.protocol)
    prepared = Prepared(
        corpus=windows.train,
        catalogue=unlabelled(Path(windows.train.location).with_name("catalogue")),
        windows=windows,
        clap=clap,
        train_embeddings=make(EmbedWindows(windows=windows.train, clap=clap, mixing=None)),
        prompt_embeddings=make(EmbedWindows(windows=windows.prompts, clap=clap, mixing=None)),
        reference_embeddings=make(EmbedWindows(windows=windows.references, clap=clap, mixing=mixing)),
        mispaired=make(EmbedMispaired(windows=windows.references, clap=clap, mixing=mixing, seed=0)),
    )
    arm = study.arms[0]
    trained = train_arm(study, prepared, arm, make)
    (row,) = evaluate_arm(study, prepared, arm, trained, (ASKED,), make)
    judged = make(EmbedCandidates(candidates=row.candidates, windows=windows.prompts, clap=clap, mixing=mixing))
    return Made(prepared, trained, row, judged, bounds(study, prepared, make))


@pytest.fixture(scope="module")
def whole(study, windows, make) -> Made:
    return run(study, windows, make)


@pytest.fixture(scope="module")
def without_latents(study, windows, make, whole) -> Made:
    """The same arm playing to prompts of which two have no latents, though their windows and embeddings are there."""
    prepared, coded = whole.prepared, whole.trained.coded
    latents = make(EncodeWindows(windows=damaged(windows.prompts), codec=coded.codec))
    packed = make(PackLatents(latents=latents, embeddings=prepared.prompt_embeddings))
    trained = whole.trained._replace(coded=coded._replace(prompts=packed))
    (row,) = evaluate_arm(study, prepared, study.arms[0], trained, (ASKED,), make)
    mixing = Mixing.of(study.protocol)
    judged = EmbedCandidates(candidates=row.candidates, windows=windows.prompts, clap=prepared.clap, mixing=mixing)
    return Made(prepared, trained, row, make(judged), [])


def left(name: str) -> list[str]:
    """The keys of the windows that are in no damaged shard."""
    lost = range(DAMAGED * ROWS, (DAMAGED + 1) * ROWS)
    return [f"{name}-{row:08d}" for row in range(COUNTS[name]) if row not in lost]


def keys_of(embeddings: Artifact) -> list[str]:
    return [row.key for row in load_embeddings(embeddings).rows]


def test_every_stage_ends_without_the_windows_of_a_damaged_shard_and_names_it(study, windows, make, runtime) -> None:
    made = run(study, Windows(*map(damaged, windows)), make)
    prepared, coded = made.prepared, made.trained.coded
    assert keys_of(prepared.reference_embeddings) == keys_of(prepared.mispaired) == left("references")
    assert load_keys(coded.train) == keys_of(prepared.train_embeddings) == left("train")
    assert load_keys(coded.prompts) == keys_of(made.judged) == left("prompts")
    asked = [key for shard in shards_of(made.row.candidates) for key in read_index(shard).keys]
    assert asked == left("prompts")
    stages = [prepared.clap, prepared.mispaired, coded.codec, coded.train, made.row.candidates, made.judged]
    stages += [row.scores for row in (made.row, *made.bounds)]
    for stage in stages:
        assert {shard.shard for shard in lost_shards(stage)} == {f"shard-{DAMAGED:06d}.tar"}, stage.stage
        assert str(runtime.root) not in (stage.path / "lost_shards.json").read_text()
    for stage in stages[:3]:
        (told,) = Store(runtime.root / "artifacts").record(stage)["summary"]["lost"]
        assert "sha256" in told
    for row in (made.row, *made.bounds):
        scores = load_scores(row.scores)
        assert bool(scores) == (row.inputs != "alike accompaniment")  # these songs say nothing of what is alike
        assert all(np.isfinite(score.value) for score in scores)
        assert {score.candidates for score in scores} <= {4 if row.inputs != "white noise" else 5}


def test_candidates_are_those_of_their_prompts_whatever_else_is_lost(whole, without_latents) -> None:
    kept = [int(key[-8:]) for key in left("prompts")]
    expected, found = (np.load(made.row.candidates.path / LATENTS) for made in (whole, without_latents))
    np.testing.assert_allclose(found, expected[kept], rtol=1e-3, atol=1e-3 * expected.std())
    assert keys_of(without_latents.judged) == left("prompts")
    first, second = (load_embeddings(made.judged).arrays for made in (whole, without_latents))
    for name in ("stem_NE", "mixture_NWE"):
        np.testing.assert_allclose(second[name], first[name][kept], atol=2e-3)


def test_a_candidate_is_compared_with_its_own_prompt(study, make, whole, without_latents, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr("tasks.judge.score_row", lambda reference, candidates, *_, **__: seen.append(candidates) or ())
    renamed = replace(study.arms[0], name="again")
    evaluate_arm(study, whole.prepared, renamed, without_latents.trained, (ASKED,), make)
    (candidates,) = seen
    told = load_embeddings(whole.prepared.prompt_embeddings).arrays
    kept = [int(key[-8:]) for key in left("prompts")]
    assert list(candidates.stems.ids) == left("prompts")
    np.testing.assert_array_equal(candidates.target_text.vectors_ND, told["text_NE"][kept])
    np.testing.assert_array_equal(candidates.target_audio.vectors_ND, told["stem_NE"][kept])


def test_candidates_whose_prompts_were_damaged_since_are_not_judged(whole, windows, make, study) -> None:
    step = EmbedCandidates(
        candidates=whole.row.candidates,
        windows=damaged(windows.prompts),
        clap=whole.prepared.clap,
        mixing=Mixing.of(study.protocol),
    )
    judged = make(step)
    assert keys_of(judged) == left("prompts")
    assert [shard.shard for shard in lost_shards(judged)] == [f"shard-{DAMAGED:06d}.tar"]


def test_examples_are_heard_with_the_window_that_they_answer(windows, whole) -> None:
    candidates = whole.row.candidates
    assert first_heard(candidates, windows.prompts).window == "prompts-00000000"
    first, best, worst = examples_of([(whole.row.row, candidates)] * 2, windows.prompts)
    assert (first.window, first.tags) == ("prompts-00000000", "bass, number 0")
    assert [answer.place for answer in first.answers] == ["the first prompt"] * 2  # of every row
    assert [len(one.answers) for one in (best, worst)] == [1, 1]  # of the arm's first row alone
    made = load_embeddings(whole.row.row.candidates).arrays["stem_NE"]
    asked = load_embeddings(whole.prepared.prompt_embeddings).arrays["text_NE"]
    cosine_N = (made * asked).sum(axis=1)  # both are unit vectors
    assert best.window == f"prompts-{cosine_N.argmax():08d}"
    assert worst.window == f"prompts-{cosine_N.argmin():08d}"
    assert best.answers[0].told.startswith(
        f"CLAP cosine with its tags {cosine_N.max():.2f}: number 1 of 10, whose median is"
    )
    assert f"{cosine_N.min():.2f}: number 10 of 10" in worst.answers[0].told


def test_one_lost_shard_of_few_is_an_error(windows, make, study, whole, monkeypatch) -> None:
    monkeypatch.setattr("tasks.lost_shards.LOST_SHARE", 0.01)
    broken = damaged(windows.real)
    for step in (
        EmbedWindows(windows=broken, clap=whole.prepared.clap, mixing=None),
        EmbedMispaired(windows=broken, clap=whole.prepared.clap, mixing=Mixing.of(study.protocol), seed=0),
        FitClap(recipe=study.clap, windows=broken),
    ):
        with pytest.raises(ValueError, match=r"1 of 5 shards of windows cannot be used.*windows verify"):
            make(step)
